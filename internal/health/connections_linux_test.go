// SPDX-License-Identifier: Apache-2.0

package health

import (
	"net"
	"net/netip"
	"testing"
)

// The event of a connection is ignored if the connection was closed before the pool heard of the
// event.
func TestNewsOfAClosedConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := netip.MustParseAddrPort(l.Addr().String())
	c := newBackends(t).checkOf()
	c.Hold = &Hold{Port: at.Port()}
	endpoint := netip.AddrPortFrom(at.Addr(), 0)
	s := joinedAs(t, c, allowing(endpoint))
	s.Seen(endpoint)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	e := s.pool.table.find(endpoint)
	s.pool.do(func() {
		conn.Close()
		hear := <-s.pool.calls
		s.pool.letGo(e)
		hear()
	})
	if e.isHeld() || s.Seen(endpoint) != Up {
		t.Errorf("held: %v, %v, want up without a connection", e.isHeld(), s.Seen(endpoint))
	}
}
