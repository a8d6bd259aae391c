// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

const (
	// containerEnv has this program be the server in the root file system that it names.
	containerEnv = "BALANCE_TEST_CONTAINER"
	// grantedEnv has it do so as Kubernetes does with the usual Deployment, see become.
	grantedEnv = "BALANCE_TEST_GRANTED"
	// commandEnv has it run another command than the server, as "kubectl exec" does.
	commandEnv = "BALANCE_TEST_COMMAND"
	patience   = time.Minute
)

// asRoot says whether this process may make containers. Where it may not, it starts the test once
// more through sudo, and that one's verdict is the test's.
func asRoot(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() == 0 {
		return true
	}
	t.Log(command(t, ".", "sudo", "-n", "env", distEnv+"="+dist(t), os.Args[0], "-test.v", "-test.run", "^"+t.Name()+"$"))
	return false
}

const corefile = `.:53 {
    errors
    balance
    file /etc/coredns/db.example.org example.org
}
`

const zone = `$ORIGIN example.org.
@   3600 IN SOA ns mail 1 7200 3600 1209600 60
www 300  IN A 192.0.2.1
www 300  IN A 192.0.2.2
www 300  IN A 192.0.2.3
`

// unpack does what a container runtime does with the layer, and adds a Corefile as a ConfigMap
// would.
func unpack(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "rootfs")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, m := range layerOf(t, runtime.GOARCH) {
		f := file{name: m.Name, mode: m.Mode, content: m.content, capability: []byte(m.PAXRecords[capabilityRecord])}
		if err := f.writeTo(root); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"Corefile": corefile, "db.example.org": zone} {
		if err := writeFile(filepath.Join(root, "etc", "coredns", name), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// beContainer turns this process into the image's server: in root, on a loopback of its own where
// ports below 1024 need a capability, as the image's user, with nothing but that capability in
// reach.
func beContainer(root string) {
	runtime.LockOSThread() // the rest is of a thread, and that one goes on as the server
	err := become(root, os.Getenv(grantedEnv) != "")
	fmt.Fprintln(os.Stderr, "no container:", err)
	os.Exit(1)
}

// become never returns without an error. Granted is what a Deployment with allowPrivilegeEscalation
// off, all capabilities dropped and NET_BIND_SERVICE added has: the runtime leaves that one in the
// process and rules out new privileges. Otherwise the process has none and the file's is new to it.
func become(root string, granted bool) error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("1024"), 0o600); err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	steps := []func() error{
		func() error { return unix.Chroot(root) },
		func() error { return unix.Chdir("/") },
		dropBounding,
		func() error { return unix.Setgroups(nil) },
		func() error { return unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0) },
		func() error { return thread(unix.SYS_SETRESGID, 65532) },
		func() error { return thread(unix.SYS_SETRESUID, 65532) },
		func() error { return keep(granted) },
	}
	for n, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", n, err)
		}
	}
	words := strings.Fields(os.Getenv(commandEnv))
	if len(words) == 0 {
		words = []string{"/coredns", "-conf", "/etc/coredns/Corefile"}
	}
	return unix.Exec(words[0], words, nil)
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// dropBounding leaves one capability that a program may gain.
func dropBounding() error {
	for c := range uintptr(unix.CAP_LAST_CAP + 1) {
		if c == unix.CAP_NET_BIND_SERVICE {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return err
		}
	}
	return nil
}

// thread sets the ids of this thread, and not of those that exec ends.
func thread(call, id uintptr) error {
	if _, _, errno := unix.RawSyscall(call, id, id, id); errno != 0 {
		return errno
	}
	return nil
}

func keep(granted bool) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if granted {
		sets[0].Permitted, sets[0].Effective = 1<<unix.CAP_NET_BIND_SERVICE, 1<<unix.CAP_NET_BIND_SERVICE
	}
	if err := unix.Capset(&header, &sets[0]); err != nil || !granted {
		return err
	}
	return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

// container is a server that was started from the image.
type container struct {
	pid int
	log *bytes.Buffer
}

// inContainer returns a command in a container: the server, unless words name another.
func inContainer(t *testing.T, root, granted, words string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), containerEnv+"="+root, grantedEnv+"="+granted, commandEnv+"="+words)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	return cmd
}

func start(t *testing.T, root, granted string) container {
	t.Helper()
	cmd := inContainer(t, root, granted, "")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("the server's log:\n%s", log.String())
		}
	})
	return container{cmd.Process.Pid, &log}
}

// leads asks the server in its own network until it answers, and then on, n times in all.
func (c container) leads(t *testing.T, network string, n int) []string {
	t.Helper()
	type result struct {
		leads []string
		err   error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		leads, err := c.ask(network, n)
		done <- result{leads, err}
	}()
	r := <-done
	if r.err != nil {
		t.Fatalf("%s: %v", network, r.err)
	}
	return r.leads
}

func (c container) ask(network string, n int) ([]string, error) {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", c.pid))
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	client := dns.Client{Net: network, Timeout: time.Second}
	question := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA)
	var leads []string
	again, end := time.NewTicker(50*time.Millisecond), time.After(patience)
	defer again.Stop()
	for len(leads) < n {
		answer, _, err := client.Exchange(question, "127.0.0.1:53")
		if err == nil && len(answer.Answer) == 3 {
			leads = append(leads, answer.Answer[0].(*dns.A).A.String())
			continue
		}
		select {
		case <-again.C:
		case <-end:
			return nil, fmt.Errorf("no answer within %s: %v, last error %w", patience, answer, err)
		}
	}
	return leads, nil
}

// status returns a line of /proc/PID/status.
func (c container) status(t *testing.T, name string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + name + `:[ \t]*(.*)$`).FindSubmatch(content(t, fmt.Sprintf("/proc/%d/status", c.pid)))
	if m == nil {
		t.Fatalf("no %s in the status of process %d", name, c.pid)
	}
	return strings.Join(strings.Fields(string(m[1])), " ")
}

// The server of the image opens port 53 as the image's user, with nothing but NET_BIND_SERVICE in
// the bounding set: started without any capability, and as the usual Deployment starts it.
func TestImageServesOnPort53(t *testing.T) {
	if !asRoot(t) {
		return
	}
	root := unpack(t)
	for _, tt := range []struct{ name, granted, newPrivileges string }{
		{"capability of the file", "", "0"},
		{"no new privileges", "yes", "1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := start(t, root, tt.granted)
			for _, network := range []string{"udp", "tcp"} {
				leads := c.leads(t, network, 6)
				if diff := cmp.Diff(leads[:3], leads[3:]); diff != "" || leads[0] == leads[1] || leads[1] == leads[2] || leads[0] == leads[2] {
					t.Errorf("%s: leads are %q, want each of three in turn", network, leads)
				}
			}
			for name, want := range map[string]string{
				"Uid": "65532 65532 65532 65532", "Gid": "65532 65532 65532 65532", "Groups": "", "NoNewPrivs": tt.newPrivileges,
				"CapInh": "0000000000000000", "CapPrm": "0000000000000400", "CapEff": "0000000000000400", "CapBnd": "0000000000000400",
			} {
				if got := c.status(t, name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

// What the Dockerfile copies has the owners, modes, times and the capability of the image's layer.
func TestRootfs(t *testing.T) {
	if !asRoot(t) {
		return
	}
	dir := filepath.Join(t.TempDir(), "rootfs")
	files := withDirectories([]file{
		{name: "coredns", mode: 0o755, content: []byte("server"), capability: bindCapability()},
		{name: "etc/passwd", mode: 0o644, content: []byte(users)},
		{name: "tmp/", mode: 0o1777},
	})
	if err := (release{when: testTime}).writeFiles(dir, files); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range append(files, file{}) {
		var s unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, f.name), &s); err != nil {
			t.Fatal(err)
		}
		value := make([]byte, 64)
		n, err := unix.Getxattr(filepath.Join(dir, f.name), "security.capability", value)
		if err != nil {
			n = 0
		}
		got = append(got, fmt.Sprintf("/%s %o %d:%d %d %s", f.name, s.Mode, s.Uid, s.Gid, s.Mtim.Sec, hex.EncodeToString(value[:n])))
	}
	want := []string{
		"/coredns 100755 0:0 1700000000 " + setcap,
		"/etc/ 40755 0:0 1700000000 ",
		"/etc/passwd 100644 0:0 1700000000 ",
		"/tmp/ 41777 0:0 1700000000 ",
		"/ 40755 0:0 1700000000 ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// A Corefile is checked in the image, which has no shell, as "kubectl exec" does it beside the
// server and as a CI does it.
func TestCheckInTheImage(t *testing.T) {
	if !asRoot(t) {
		return
	}
	root := unpack(t)
	for _, granted := range []string{"", "1"} {
		out, err := inContainer(t, root, granted, "/balancectl check -strict /etc/coredns/Corefile").CombinedOutput()
		if err != nil || string(out) != "0 errors, 0 warnings\n" {
			t.Errorf("granted %q: %v: %s", granted, err, out)
		}
	}
}
