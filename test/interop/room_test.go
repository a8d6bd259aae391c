// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package interop shows what real clients make of our answers: which address they try first, what
// they sort, keep and cache. It runs in namespaces of its own (network, mounts, processes), where
// /etc/resolv.conf points at a CoreDNS that the tests start on the router. What it sees is compared
// with the tables in bench/results/clients.md.
package interop

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	_ "github.com/seed-f1518d44/balance"                     // what is under test, so that
	_ "github.com/seed-f1518d44/balance/internal/directives" // its changes run the tests anew
)

// roomEnv is set in the process that runs in the namespaces; it names the directory of what is
// bound over /etc.
const roomEnv = "INTEROP_ROOM"

// The client's machine has one interface, with these addresses, and a router.
const (
	ourFour = "10.9.0.10"
	ourSix  = "2001:db8:9::10"
	router4 = "10.9.0.1"
	router6 = "2001:db8:9::1"
)

// fallbackPort is where only the last member of four listens.
const fallbackPort = "8081"

func init() {
	runtime.LockOSThread() // so that no other goroutine gets the main thread, whose network is the room's
}

func TestMain(m *testing.M) {
	if way := os.Getenv(goClientEnv); way != "" {
		beGoClient(way, os.Args[1:])
		return
	}
	if flag.Parse(); testing.Short() {
		fmt.Println("not in make test-fast: these tests run clients that test/install installs")
		return
	}
	if os.Getenv(roomEnv) == "" {
		os.Exit(enterRoom())
	}
	if err := furnish(os.Getenv(roomEnv)); err != nil {
		fmt.Fprintln(os.Stderr, "the namespaces of these tests:", err)
		os.Exit(1)
	}
	runtime.UnlockOSThread()
	os.Exit(m.Run())
}

// enterRoom runs this binary again in new namespaces and returns its exit status. Whatever it
// leaves running ends with it.
func enterRoom() int {
	dir, err := os.MkdirTemp("", "interop")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	again := exec.Command("/proc/self/exe", os.Args[1:]...)
	again.Env = append(os.Environ(), roomEnv+"="+dir)
	again.Stdout, again.Stderr = os.Stdout, os.Stderr
	again.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	if uid := os.Getuid(); uid != 0 {
		again.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		again.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		again.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	err = again.Run()
	if again.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "these tests need Linux namespaces, as root or with user namespaces allowed:", err)
		return 1
	}
	return again.ProcessState.ExitCode()
}

// bound are the files of the room, by what they are bound over. Tests rewrite them in place.
var bound = map[string]string{
	"/etc/resolv.conf":   "nameserver " + router4 + "\n",
	"/etc/nsswitch.conf": plainNSS,
	"/etc/hosts":         "127.0.0.1 localhost\n::1 localhost\n",
	"/etc/passwd":        "root:x:0:0::/root:/bin/sh\nsystemd-resolve:x:0:0::/:/bin/sh\n",
	"/etc/group":         "root:x:0:\nsystemd-resolve:x:0:\n",
}

// plainNSS sends glibc to the name server.
const plainNSS = "passwd: files\ngroup: files\nhosts: files dns\n"

// furnish makes the room: files, directories and the network.
func furnish(dir string) error {
	if err := ip("link set lo up"); err != nil {
		return err
	}
	mounts := [][]string{{"--make-rprivate", "/"}, {"-t", "proc", "proc", "/proc"}, {"-t", "tmpfs", "tmpfs", "/run"},
		{"-t", "tmpfs", "tmpfs", "/etc/chromium"}, {"-t", "tmpfs", "tmpfs", "/usr/share/firefox-esr/distribution"}, {"-t", "tmpfs", "tmpfs", "/etc/systemd"}}
	for path, content := range bound {
		ours := filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(ours, []byte(content), 0o600); err != nil {
			return err
		}
		if err := os.Chmod(ours, 0o644); err != nil {
			return err
		}
		mounts = append(mounts, []string{"--bind", ours, path})
	}
	for _, args := range mounts {
		if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("mount %q: %w: %s", args, err, out)
		}
	}
	failed := make(chan error)
	go func() { failed <- openFar() }()
	if err := <-failed; err != nil {
		return err
	}
	return ip("addr add "+ourFour+"/24 dev near", "addr add "+ourSix+"/64 dev near nodad", "link set near up",
		"route add default via "+router4, "-6 route add default via "+router6)
}

// farNetwork is the network where the members are: this keeps it there.
var farNetwork *os.File

// farPath is a path to it, for nsenter.
func farPath() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), farNetwork.Fd()) }

// openFar makes the network where the members are, joins it to the room's, and serves HTTP on every
// member. Its thread ends with its goroutine; the sockets stay there.
func openFar() error {
	runtime.LockOSThread()
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		return err
	}
	var err error
	if farNetwork, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return err
	}
	lines := []string{"link set lo up", "link add far type veth peer name near netns 1", "link set far up",
		"addr add " + router4 + "/24 dev far", "addr add " + router6 + "/64 dev far nodad"}
	for _, set := range memberSets {
		for _, m := range set {
			lines = append(lines, "addr replace "+netip.PrefixFrom(m, m.BitLen()).String()+" dev far nodad")
		}
	}
	if err := ip(lines...); err != nil {
		return err
	}
	for _, addr := range []string{":80", "198.51.100.4:" + fallbackPort} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		go http.Serve(l, http.HandlerFunc(backend))
	}
	return listenTLS()
}

// ip runs lines of the ip command in the network of the calling thread.
func ip(lines ...string) error {
	for _, line := range lines {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", line, err, out)
		}
	}
	return nil
}

// rebind replaces a file of the room until the test ends.
func rebind(t *testing.T, path, content string) {
	t.Helper()
	write := func(content string) {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(content)
	t.Cleanup(func() { write(bound[path]) })
}
