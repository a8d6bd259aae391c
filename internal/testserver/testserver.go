// SPDX-License-Identifier: Apache-2.0

// Package testserver is what tests of a whole CoreDNS share: free ports, processes, a client, a few
// backends, and patience. It knows nothing of CoreDNS, so that every module of this repository can
// use it.
package testserver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Patience is how long a test waits for what must come. It is long enough for a slow machine, so
// its end means "never".
const Patience = 2 * time.Minute

// Eventually calls done until it returns true.
func Eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	end := time.NewTimer(Patience)
	defer end.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-end.C:
			t.Fatalf("never: %s", what)
		}
	}
}

// given are the ports that FreePort returned.
var (
	givenMu sync.Mutex
	given   = map[int]bool{}
)

// FreePort returns a port that is free for UDP and TCP on 127.0.0.1, a different one each time: the
// prometheus plugin does not listen again on an address that it has left. The port is below those
// that systems assign by themselves, so nobody takes it by chance while it is unused.
func FreePort(t testing.TB) string {
	t.Helper()
	givenMu.Lock()
	defer givenMu.Unlock()
	for range 1000 {
		port := 15_000 + rand.IntN(15_000) //nolint:gosec // no secret
		if !given[port] && isFree(port) {
			given[port] = true
			return strconv.Itoa(port)
		}
	}
	t.Fatal("no port is free")
	return ""
}

func isFree(port int) bool {
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	packets, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	defer packets.Close() //nolint:errcheck // nothing is lost
	streams, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	return streams.Close() == nil
}

// Write replaces a file at once, as a careful editor does, and returns its path.
func Write(t testing.TB, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Root returns the directory of this repository, which holds the working directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "cmd", "coredns", "main.go")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("the working directory is outside the repository")
}

// Build builds a command of the root module as the Makefile does, so that both share a build cache.
func Build(pkg, binary string) error {
	root, err := Root()
	if err != nil {
		return err
	}
	binary, err = filepath.Abs(binary)
	if err != nil {
		return err
	}
	build := exec.Command("go", "build", "-C", root, "-tags", "grpcnotrace", "-trimpath", "-o", binary, pkg) //nolint:gosec // ours
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", pkg, err, out)
	}
	return nil
}
