// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTCPConnectsLate has the kernel drop the first packet of a handshake. The one that it sends a
// second later gets a reply.
func TestTCPConnectsLate(t *testing.T) {
	fd, port := tinyBacklog(t)
	first, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { first.Close() })

	probed := make(chan error)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		probed <- must(t)(NewTCP(TCP{Port: port})).Probe(ctx, local)
	}()
	awaitHandshake(t, port)
	conn, _, err := unix.Accept(fd) // now the queue has room
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(conn) })
	if err := next(t, probed); err != nil {
		t.Error(err)
	}
}

// awaitHandshake waits until a connection to a port has sent its first packet.
func awaitHandshake(t *testing.T, port uint16) {
	t.Helper()
	const synSent = "02"
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		table, err := os.ReadFile("/proc/net/tcp")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(table), fmt.Sprintf(" 0100007F:%04X %s ", port, synSent)) {
			return
		}
	}
	t.Fatal("no handshake begins")
}

// TestSocketFailsLikeNet compares the errors of a socket with those of package net. Nothing is sent
// to another host.
func TestSocketFailsLikeNet(t *testing.T) {
	port := closedPort(t)
	for _, tc := range []struct{ to, source string }{
		{"127.0.0.1", ""},
		{"127.0.0.1", "127.0.0.2"},
		{"127.0.0.1", "::1"},
		{"127.0.0.1", "203.0.113.1"},
		{"192.0.2.1", "127.0.0.1"},
		{"::ffff:127.0.0.1", "127.0.0.2"},
		{"::1", ""},
		{"::1", "127.0.0.1"},
		{"::1", "2001:db8::1"},
		{"fe80::1", ""},
		{"fe80::1%nowhere", ""},
		{"224.0.0.1", ""},
		{"ff02::1", ""},
	} {
		var source netip.Addr
		if tc.source != "" {
			source = netip.MustParseAddr(tc.source)
		}
		c, to := must(t)(NewTCP(TCP{Port: port, Source: source})), netip.AddrPortFrom(netip.MustParseAddr(tc.to), 0)
		got, want := c.Probe(t.Context(), to), probeWithNet(t.Context(), c, to)
		if got == nil || want == nil || got.Error() != want.Error() || errors.Is(got, ErrLocal) != errors.Is(want, ErrLocal) {
			t.Errorf("to %s from %q: got  %v\nwant %v", tc.to, tc.source, got, want)
		}
	}
}

// probeWithNet is Probe of a bare tcp check with a connection of package net.
func probeWithNet(ctx context.Context, c *Check, to netip.AddrPort) error {
	return c.ask(ctx, time.Now(), to, func(ctx context.Context, endpoint netip.AddrPort) error {
		conn, err := c.protocol.(*tcpProbe).connect(ctx, endpoint)
		if err == nil {
			conn.Close()
		}
		return err
	})
}

// A probe that is cancelled during the handshake ends at once, and is no verdict.
func TestSocketCancelled(t *testing.T) {
	port := blackHole(t)
	ctx, cancel := context.WithCancel(t.Context())
	probed := make(chan error)
	go func() { probed <- must(t)(NewTCP(TCP{Port: port})).Probe(ctx, local) }()
	awaitHandshake(t, port)
	cancel()
	if err := next(t, probed); !errors.Is(err, ErrLocal) || err.Error() != "not probed: cancelled" {
		t.Errorf("got %v", err)
	}
}

// TestSocketIsOwn connects a socket to itself, which must not count as an endpoint that is up.
func TestSocketIsOwn(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		l := listen(t, at)
		endpoint := l.Addr().(*net.TCPAddr).AddrPort()
		l.Close()
		c := selfConnected(t, endpoint)
		if !c.isOwn(endpoint) || c.isOwn(netip.AddrPortFrom(endpoint.Addr(), 1)) {
			t.Errorf("%s: is not its own", endpoint)
		}
	}
}

// selfConnected returns a socket that is connected to itself.
func selfConnected(t *testing.T, at netip.AddrPort) *socket {
	t.Helper()
	family := unix.AF_INET
	if at.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, sockaddr(at)), unix.Connect(fd, sockaddr(at))); err != nil {
		t.Fatal(err)
	}
	return &socket{fd: fd}
}
