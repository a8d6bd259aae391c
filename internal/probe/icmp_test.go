// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

// newICMP builds the check, or checks the error if this host allows no ICMP.
func newICMP(t *testing.T, o ICMP) (*Check, bool) {
	t.Helper()
	c, err := NewICMP(o)
	if err == nil {
		return c, true
	}
	for _, word := range []string{"net.ipv4.ping_group_range", "CAP_NET_RAW"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error %q does not name %s", err, word)
		}
	}
	return nil, false
}

func TestICMP(t *testing.T) {
	for _, source := range []netip.Addr{{}, netip.MustParseAddr("127.0.0.7"), netip.MustParseAddr("2001:db8::1")} {
		c, ok := newICMP(t, ICMP{Source: source})
		if !ok {
			return
		}
		for range 20 {
			if got := verdict(t, c, patience); got != "" {
				t.Errorf("from %s: %s", source, got)
			}
		}
	}
}

func TestICMPv6(t *testing.T) {
	c, ok := newICMP(t, ICMP{})
	if !ok || !hasIPv6() {
		return
	}
	if err := c.Probe(t.Context(), netip.AddrPortFrom(netip.IPv6Loopback(), 0)); err != nil {
		t.Error(err)
	}
}

// Where the kernel allows one family only, the other is our fault and not the endpoint's.
func TestICMPWithoutPermission(t *testing.T) {
	c := &Check{protocol: &icmpProbe{}}
	err := c.Probe(t.Context(), local)
	const want = "not probed: no permission for ICMP over the address family of 127.0.0.1"
	if !errors.Is(err, ErrLocal) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// echoes is a socket that hands out packets made of the request.
type echoes struct {
	request []byte
	replies []func(request []byte) []byte
}

func (e *echoes) Write(b []byte) (int, error) {
	e.request = append([]byte(nil), b...)
	return len(b), nil
}

var errEmpty = errors.New("no more packets")

func (e *echoes) ReadFrom(b []byte) (int, net.Addr, error) {
	if len(e.replies) == 0 {
		return 0, nil, errEmpty
	}
	reply := e.replies[0](e.request)
	e.replies = e.replies[1:]
	return copy(b, reply), nil, nil
}

func (e *echoes) SetDeadline(time.Time) error { return nil }
func (e *echoes) Close() error                { return nil }

// reply4 answers an echo request, after change.
func reply4(change func(*icmp.Message, *icmp.Echo)) func([]byte) []byte {
	return func(request []byte) []byte {
		m, err := icmp.ParseMessage(1, request)
		if err != nil {
			return nil
		}
		m.Type = ipv4.ICMPTypeEchoReply
		change(m, m.Body.(*icmp.Echo))
		packet, _ := m.Marshal(nil)
		return packet
	}
}

func TestICMPTakesOnlyItsReply(t *testing.T) {
	faithful := reply4(func(*icmp.Message, *icmp.Echo) {})
	otherID := reply4(func(_ *icmp.Message, e *icmp.Echo) { e.ID++ }) // a ping socket changes it
	otherSeq := reply4(func(_ *icmp.Message, e *icmp.Echo) { e.Seq++ })
	otherToken := reply4(func(_ *icmp.Message, e *icmp.Echo) { e.Data[0]++ })
	noToken := reply4(func(_ *icmp.Message, e *icmp.Echo) { e.Data = nil })
	request := func(b []byte) []byte { return b }
	garbage := func([]byte) []byte { return []byte("garbage") }
	empty := func([]byte) []byte { return nil }

	all := []func([]byte) []byte{otherSeq, otherToken, noToken, request, garbage, empty}
	family := echoV4
	if err := family.exchange(&echoes{replies: all}, newEcho()); !errors.Is(err, errEmpty) {
		t.Errorf("took a reply that is not its own: %v", err)
	}
	if err := family.exchange(&echoes{replies: append(all, faithful)}, newEcho()); err != nil {
		t.Error(err)
	}
	if err := family.exchange(&echoes{replies: append(all, otherID)}, newEcho()); err != nil {
		t.Error(err)
	}
}

// An echo that nobody answers ends with the context.
func TestICMPTimeout(t *testing.T) {
	hole, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(local))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hole.Close() })
	open := func(ctx context.Context, _ *echoFamily, _, to netip.Addr) (echoConn, error) {
		return unkept.DialUDP(ctx, "udp", netip.AddrPort{}, netip.AddrPortFrom(to, portOf(hole.LocalAddr())))
	}
	c := &Check{protocol: &icmpProbe{v4: echoFamily{request: ipv4.ICMPTypeEcho, open: open}}}
	judges(t, c, brief, "no answer within 1s")
}
