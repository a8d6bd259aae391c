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
			wg.Go(func() {
				defer c.Close() //nolint:errcheck // nothing is lost
				handle(c)
			})
		}
	})
	return func() { _ = l.Close(); wg.Wait() }
}
