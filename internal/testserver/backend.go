// SPDX-License-Identifier: Apache-2.0

package testserver

import (
	"net"
	"sync"
	"testing"
)

// Listen accepts connections at an address and handles each. The result ends that, and waits for
// the handlers.
func Listen(t testing.TB, addr string, handle func(net.Conn)) (end func()) {
	t.Helper()
	return ListenUntil(t, addr, func() {}, handle, func() {})
}

// ListenUntil is Listen that says when it accepts a connection, in the order in which they came,
// and when its port is closed.
func ListenUntil(t testing.TB, addr string, accepted func(), handle func(net.Conn), closed func()) (end func()) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted()
			wg.Go(func() {
				defer c.Close() //nolint:errcheck // nothing is lost
				handle(c)
			})
		}
	})
	return func() { _ = l.Close(); closed(); wg.Wait() }
}

// ListenBoth listens on a port of 127.0.0.1 that is free for UDP and TCP.
func ListenBoth(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for {
		packets, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if streams, err := net.Listen("tcp", packets.LocalAddr().String()); err == nil {
			return packets, streams
		}
		_ = packets.Close()
	}
}
