// SPDX-License-Identifier: Apache-2.0

// Package kubernetes tests a CoreDNS with balance against a real Kubernetes API: etcd,
// kube-apiserver with RBAC and our manifests, built and run here, without Docker. CoreDNS runs as
// the manifests' pod would: its ConfigMap's Corefile, its ServiceAccount's token, its port 53, in a
// root directory of its own.
//
// All of it lives in namespaces of its own (network, mounts, processes), where the addresses that a
// cluster has are addresses of the loopback interface: nothing is reachable from outside, no port
// is taken, and all processes end with the test. Scheduler, kubelet and controllers do not run;
// what they would do for DNS, the tests do.
package kubernetes

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

// The network of the cluster, all of it on the loopback interface.
const (
	services     = "10.96.0.0/16"  // where ClusterIPs are
	apiAddress   = "10.96.0.1"     // of the Service kubernetes, the first one
	dnsAddress   = "10.96.0.10"    // of the Service kube-dns
	pods         = "10.244.0.0/16" // where endpoints are
	nodeAddress  = "172.18.0.2"
	outerAddress = "172.18.0.53" // the name server in the node's resolv.conf
)

// insideEnv says that this process is in its own namespaces, and holds the directory for temporary
// files.
const insideEnv = "BALANCE_TEST_KUBERNETES_DIR"

func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) == "" {
		os.Exit(enterNamespaces())
	}
	code, err := runInside(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// enterNamespaces runs this program in new namespaces, in which it is process 1: with it, all
// others end.
func enterNamespaces() int {
	dir, err := os.MkdirTemp("", "kubernetes")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	args := []string{"--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"}
	if os.Getuid() != 0 {
		args = append(args, "--map-root-user")
	}
	cmd := exec.Command("unshare", append(append(args, "--"), os.Args...)...)
	cmd.Env = append(os.Environ(), insideEnv+"="+dir, "TMPDIR="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return exit.ExitCode()
		}
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// runInside runs the tests with a cluster, and fails where they leave goroutines or processes
// behind.
func runInside(m *testing.M) (code int, err error) {
	if err := setUpNetwork(); err != nil {
		return 1, err
	}
	started, err := startCluster(os.Getenv(insideEnv))
	if err != nil {
		return 1, err
	}
	theCluster = started
	code = m.Run()
	err = errors.Join(theCluster.stop(), goleak.Find(), noProcesses())
	if err != nil {
		code = cmp.Or(code, 1)
	}
	return code, err
}

// setUpNetwork gives the loopback interface the addresses of the cluster.
func setUpNetwork() error {
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"address", "add", nodeAddress + "/32", "dev", "lo"},
		{"route", "add", "local", "172.18.0.0/24", "dev", "lo"},
		{"route", "add", "local", services, "dev", "lo"},
		{"route", "add", "local", pods, "dev", "lo"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %q: %w: %s", args, err, out)
		}
	}
	return nil
}

// noProcesses returns an error if a process but this one runs in our namespace.
func noProcesses() error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() {
			command, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
			return fmt.Errorf("process %d still runs: %q", pid, command)
		}
	}
	return nil
}
