// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// backendRole is the first argument of a process that serves as some backends. Their first address
// and their number follow.
const backendRole = "backends"

// port is the port of all backends.
const port = 8080

// addrOf returns the address of a backend.
func addrOf(first netip.Addr, i int) netip.Addr {
	b := first.As4()
	n := (int(b[2])<<8 | int(b[3])) + i
	b[2], b[3] = byte(n>>8), byte(n)
	return netip.AddrFrom4(b)
}

// beBackends serves HTTP at some addresses until it is killed, and says so on its standard output.
func beBackends(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("bad arguments %q: want an address and a number", args)
	}
	first, err := netip.ParseAddr(args[0])
	n, err2 := strconv.Atoi(args[1])
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	quiet := log.New(io.Discard, "", 0)
	s := &http.Server{ErrorLog: quiet, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { //nolint:gosec // of clients that we know
		_, _ = io.WriteString(w, "ok")
	})}
	for i := range n {
		l, err := net.Listen("tcp4", netip.AddrPortFrom(addrOf(first, i), port).String())
		if err != nil {
			return err
		}
		go func() { _ = s.Serve(l) }()
	}
	fmt.Println("ready")
	select {}
}

// startBackends starts a process that serves as some backends, and returns once they listen.
func startBackends(ctx context.Context, first netip.Addr, n int) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, self, backendRole, first.String(), strconv.Itoa(n)) //nolint:gosec // ourselves
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		return nil, fmt.Errorf("backends: %w", err)
	}
	return c, nil
}

// end ends a process.
func end(c *exec.Cmd) {
	_ = c.Process.Kill()
	_ = c.Wait()
}

// waitUntil polls until done, for a minute at most.
func waitUntil(ctx context.Context, what string, done func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			return fmt.Errorf("never: %s", what)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
