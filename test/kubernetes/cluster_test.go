// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// theCluster is the one that all tests of a run share. Each test keeps to a namespace of its own
// there.
var theCluster *cluster

// cluster is an etcd and a kube-apiserver. Its address is that of the Service kubernetes, for
// nobody translates addresses here.
type cluster struct {
	dir       string
	etcd      *process
	apiserver *process
	http      *http.Client
	config    *rest.Config // of an administrator
	client    *kubernetes.Clientset
	boots     []boot
}

// boot is a start of the API server. It logs every request into a file of its own.
type boot struct {
	audit string
	ready time.Time
}

const etcdURL = "http://127.0.0.1:2379"

// startCluster starts a cluster that keeps its files in dir, and returns when it has the namespaces
// and roles that every cluster has.
func startCluster(dir string) (*cluster, error) {
	c := &cluster{dir: dir}
	if err := errors.Join(c.makeKeys(), c.startEtcd()); err != nil {
		return nil, err
	}
	if err := c.startAPIServer(); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

// auditPolicy logs who asked for what and how that ended.
const auditPolicy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n"

// makeKeys makes the server's certificate, the key that signs tokens, an administrator's token, and
// clients for it.
func (c *cluster) makeKeys() error {
	served, servedKey, err := cert.GenerateSelfSignedCertKey("kubernetes.default.svc", []net.IP{net.ParseIP(apiAddress)}, nil)
	if err != nil {
		return err
	}
	signing, err := keyutil.MakeEllipticPrivateKeyPEM()
	if err != nil {
		return err
	}
	token := rand.Text()
	files := map[string]string{
		"server.crt": string(served), "server.key": string(servedKey), "tokens.key": string(signing),
		"tokens.csv": token + `,admin,admin,"system:masters"` + "\n", "audit.yaml": auditPolicy,
	}
	for name, content := range files {
		if err := os.WriteFile(c.path(name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	c.config = &rest.Config{
		Host: "https://" + apiAddress, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAData: served}, QPS: -1,
	}
	if c.http, err = rest.HTTPClientFor(c.config); err != nil {
		return err
	}
	c.client, err = kubernetes.NewForConfigAndClient(c.config, c.http)
	return err
}

func (c *cluster) startEtcd() error {
	path, err := binary("etcd")
	if err != nil {
		return err
	}
	c.etcd, err = start(exec.Command(path,
		"--data-dir="+c.path("etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls="+etcdURL, "--advertise-client-urls="+etcdURL, "--listen-peer-urls=http://127.0.0.1:2380",
	), c.path("etcd.log"))
	return err
}

// startAPIServer starts the API server and returns when it is ready, with further arguments.
func (c *cluster) startAPIServer(args ...string) error {
	path, err := binary("kube-apiserver")
	if err != nil {
		return err
	}
	audit := c.path(fmt.Sprintf("audit-%d.log", len(c.boots)))
	c.apiserver, err = start(exec.Command(path, append(args,
		"--etcd-servers="+etcdURL,
		"--bind-address=0.0.0.0", "--secure-port=443", "--advertise-address="+nodeAddress,
		"--tls-cert-file="+c.path("server.crt"), "--tls-private-key-file="+c.path("server.key"),
		"--service-cluster-ip-range="+services,
		"--authorization-mode=RBAC", "--token-auth-file="+c.path("tokens.csv"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file="+c.path("tokens.key"), "--service-account-signing-key-file="+c.path("tokens.key"),
		"--audit-policy-file="+c.path("audit.yaml"), "--audit-log-path="+audit,
	)...), c.path("apiserver.log"))
	if err != nil {
		return err
	}
	if err := c.apiserver.await(c.ready); err != nil {
		return err
	}
	c.boots = append(c.boots, boot{audit, time.Now()})
	return nil
}

// ready returns nil once the API server has made what every cluster has.
func (c *cluster) ready(ctx context.Context) error {
	if err := c.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error(); err != nil {
		return err
	}
	for _, name := range []string{"default", "kube-system"} {
		if _, err := c.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
	}
	_, err := c.client.CoreV1().Services("default").Get(ctx, "kubernetes", metav1.GetOptions{})
	return err
}

// stop ends all processes.
func (c *cluster) stop() (err error) {
	if c.apiserver != nil {
		err = c.apiserver.end(syscall.SIGKILL) // it would wait for a minute
	}
	if c.etcd != nil {
		err = errors.Join(err, c.etcd.end(syscall.SIGTERM))
	}
	c.http.CloseIdleConnections()
	return err
}
