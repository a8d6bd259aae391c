// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	volumeutil "k8s.io/kubernetes/pkg/volume/util"
)

// system is the namespace of the manifests.
const system = "kube-system"

// tokenDir is where the kubelet mounts the ServiceAccount's token.
const tokenDir = "var/run/secrets/kubernetes.io/serviceaccount"

// capNetBindService is CAP_NET_BIND_SERVICE, see capabilities(7).
const capNetBindService = 10

// pod is the container of the Deployment coredns, run as the kubelet and a container runtime would
// run it: in a root directory that holds the program, the ConfigMaps' volumes, the ServiceAccount's
// token and the node's resolv.conf, as the user and with the arguments that the Deployment names.
// The network is the one that all of this test is in, so there is one pod at a time, unless the
// Corefile binds each to the address in POD_IP.
type pod struct {
	*process
	address   string
	root      string
	spec      corev1.PodSpec
	container corev1.Container
}

// runPod starts the Deployment's container with a program in place of its image, and returns when
// it is ready as its readinessProbe has it. It ends with the test.
func runPod(t testing.TB, program string) *pod {
	t.Helper()
	p := startPod(t, program)
	if err := p.awaitReady(); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *pod) awaitReady() error { return errors.Join(p.await(p.isReady), p.await(p.isServing)) }

// startPod does the same and does not wait.
func startPod(t testing.TB, program string) *pod {
	t.Helper()
	return startPodAt(t, program, dnsAddress)
}

// startPodAt starts a pod at an address. At that of the Service, the name server outside runs
// beside it.
func startPodAt(t testing.TB, program, address string) *pod {
	t.Helper()
	path, err := binary(program)
	if err != nil {
		t.Fatal(err)
	}
	d, err := theCluster.client.AppsV1().Deployments(system).Get(t.Context(), "coredns", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := &pod{address: address, root: t.TempDir(), spec: d.Spec.Template.Spec}
	p.container = p.spec.Containers[0]
	p.bind(t, path, "coredns")
	p.mountProc(t)
	p.mountToken(t)
	p.mountConfigMaps(t)
	p.file(t, "etc/resolv.conf", "nameserver "+outerAddress+"\n")
	if address == dnsAddress {
		runOuterServer(t, p.user())
	}
	if p.process, err = start(p.command(), filepath.Join(t.TempDir(), "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.end(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		for _, report := range p.races() {
			t.Error(report)
		}
	})
	return p
}

// races returns the reports of the race detector, except for one race that CoreDNS has: on a reload
// the kubernetes plugin sets klog's logger while its informers of before use it.
func (p *pod) races() (reports []string) {
	for report := range strings.SplitSeq(p.output(), "==================\n") {
		if strings.Contains(report, "DATA RACE") && !strings.Contains(report, "coredns/plugin/kubernetes.setup()") {
			reports = append(reports, report)
		}
	}
	return reports
}

// isServing asks for what every CoreDNS has an answer to: it is ready before it listens.
func (p *pod) isServing(ctx context.Context) error {
	for _, network := range []string{"udp", "tcp"} {
		c := dns.Client{Net: network}
		if _, _, err := c.ExchangeContext(ctx, new(dns.Msg).SetQuestion("dns-version.cluster.local.", dns.TypeTXT), p.address+":53"); err != nil {
			return err
		}
	}
	return nil
}

// command is what the container runtime executes.
func (p *pod) command() *exec.Cmd {
	cmd := exec.Command("/coredns", p.container.Args...)
	cmd.Dir = "/"
	cmd.Env = []string{"KUBERNETES_SERVICE_HOST=" + apiAddress, "KUBERNETES_SERVICE_PORT=443", "GORACE=exitcode=0", "POD_IP=" + p.address}
	for _, v := range p.container.Env {
		cmd.Env = append(cmd.Env, v.Name+"="+v.Value)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: p.root}
	if uid := p.user(); uid > 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
		cmd.SysProcAttr.AmbientCaps = []uintptr{capNetBindService}
	}
	return cmd
}

// user returns the user that the pod runs as: the Deployment's, but root where our user namespace
// has nobody else, for the test was not started by root.
func (p *pod) user() int {
	users, err := os.ReadFile("/proc/self/uid_map")
	if who := p.spec.SecurityContext; err == nil && strings.Contains(string(users), "4294967295") && who != nil && who.RunAsUser != nil {
		return int(*who.RunAsUser)
	}
	return 0
}

// bind makes a file appear in the pod.
func (p *pod) bind(t testing.TB, path, name string) {
	t.Helper()
	p.file(t, name, "")
	p.mount(t, path, name, "", syscall.MS_BIND)
}

func (p *pod) mountProc(t testing.TB) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(p.root, "proc"), 0o755); err != nil {
		t.Fatal(err)
	}
	p.mount(t, "proc", "proc", "proc", 0)
}

// mount mounts until the test ends.
func (p *pod) mount(t testing.TB, source, name, fstype string, flags uintptr) {
	t.Helper()
	target := filepath.Join(p.root, name)
	if err := syscall.Mount(source, target, fstype, flags, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(target, 0); err != nil {
			t.Error(err)
		}
	})
}

func (p *pod) file(t testing.TB, name, content string) {
	t.Helper()
	path := filepath.Join(p.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// mountToken has the API server make a token for the pod's ServiceAccount, as the kubelet does.
func (p *pod) mountToken(t testing.TB) {
	t.Helper()
	made, err := theCluster.client.CoreV1().ServiceAccounts(system).CreateToken(t.Context(), p.spec.ServiceAccountName,
		&authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, tokenDir, map[string]string{
		"token": made.Status.Token, "ca.crt": string(theCluster.config.CAData), "namespace": system,
	})
}

// mountConfigMaps writes the volumes that are ConfigMaps or Secrets. Called again it does what the
// kubelet does when one of them has changed: a new directory, and a symlink that is swapped.
func (p *pod) mountConfigMaps(t testing.TB) {
	t.Helper()
	for _, mount := range p.container.VolumeMounts {
		for _, volume := range p.spec.Volumes {
			if volume.Name == mount.Name {
				p.write(t, mount.MountPath, filesIn(t, &volume))
			}
		}
	}
}

// filesIn returns what a volume holds.
func filesIn(t testing.TB, volume *corev1.Volume) map[string]string {
	t.Helper()
	if volume.Secret == nil {
		return filesOf(t, volume.ConfigMap)
	}
	secret, err := theCluster.client.CoreV1().Secrets(system).Get(t.Context(), volume.Secret.SecretName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for name, content := range secret.Data {
		files[name] = string(content)
	}
	return files
}

// filesOf returns what a ConfigMap's volume holds.
func filesOf(t testing.TB, source *corev1.ConfigMapVolumeSource) map[string]string {
	t.Helper()
	configMap, err := theCluster.client.CoreV1().ConfigMaps(system).Get(t.Context(), source.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && source.Optional != nil && *source.Optional {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(source.Items) == 0 {
		return configMap.Data
	}
	files := map[string]string{}
	for _, item := range source.Items {
		files[item.Path] = configMap.Data[item.Key]
	}
	return files
}

// write writes a volume with the kubelet's own code.
func (p *pod) write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	dir = filepath.Join(p.root, dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	writer, err := volumeutil.NewAtomicWriter(dir, t.Name())
	if err != nil {
		t.Fatal(err)
	}
	payload := map[string]volumeutil.FileProjection{}
	for name, content := range files {
		payload[name] = volumeutil.FileProjection{Data: []byte(content), Mode: 0o644}
	}
	if err := writer.Write(payload, nil); err != nil {
		t.Fatal(err)
	}
}

// isReady asks what the readinessProbe asks.
func (p *pod) isReady(ctx context.Context) error {
	probe := p.container.ReadinessProbe.HTTPGet
	for _, port := range p.container.Ports {
		if port.Name == probe.Port.StrVal {
			_, err := get(ctx, fmt.Sprintf("http://%s:%d%s", p.address, port.ContainerPort, probe.Path))
			return err
		}
	}
	return errors.New("no port of the readinessProbe's name")
}

// get returns what is at a URL.
func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = errors.New(res.Status)
	}
	return string(body), err
}

// configure replaces keys of a ConfigMap of the manifests until the test ends.
func configure(t testing.TB, name string, files map[string]string) {
	t.Helper()
	configMaps := theCluster.client.CoreV1().ConfigMaps(system)
	configMap, err := configMaps.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	before := maps.Clone(configMap.Data)
	maps.Copy(configMap.Data, files)
	if _, err := configMaps.Update(t.Context(), configMap, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		configMap, err := configMaps.Get(context.Background(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		configMap.Data = before
		if _, err := configMaps.Update(context.Background(), configMap, metav1.UpdateOptions{}); err != nil {
			t.Error(err)
		}
	})
}
