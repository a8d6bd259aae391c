// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"net"
	"net/netip"
	"testing"
)

// News of a connection that is closed while they wait for the pool are no news.
func TestNewsOfAClosedConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := netip.MustParseAddrPort(l.Addr().String())
	c := newBackends(t).checkOf()
	c.allow = []netip.Prefix{netip.PrefixFrom(at.Addr(), 32)}
	c.hold = heldLine{port: at.Port()}.open
	s := joined(t, c)
	s.verdict(at.Addr())
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	e := s.endpoint(at.Addr())
	(&runningPool{pool: s.pool}).do(func() {
		conn.Close()
		hear := <-s.pool.calls
		s.pool.letGo(e)
		hear()
	})
	if e.isHeld() || s.verdict(at.Addr()) != up {
		t.Errorf("held: %v, %v, want up without a connection", e.isHeld(), s.verdict(at.Addr()))
	}
}
