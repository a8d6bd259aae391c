// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// ICMP is up if an echo request (RFC 792, RFC 4443) is answered. It needs ping sockets (sysctl
// net.ipv4.ping_group_range, for IPv6 too) or the capability CAP_NET_RAW.
type ICMP struct {
	Source netip.Addr // to probe from, for endpoints of its family; zero for any
}

type icmpProbe struct {
	source source
	v4, v6 echoFamily
}

// echoFamily has what differs between IPv4 and IPv6.
type echoFamily struct {
	ping, raw      string // networks
	any, loopback  netip.Addr
	request, reply icmp.Type
	protocol       int    // for the parser
	open           opener // nil: the kernel allows none
}

var echoV4 = echoFamily{
	ping: "udp4", raw: "ip4:icmp", any: netip.IPv4Unspecified(), loopback: netip.AddrFrom4([4]byte{127, 0, 0, 1}),
	request: ipv4.ICMPTypeEcho, reply: ipv4.ICMPTypeEchoReply, protocol: 1,
}

var echoV6 = echoFamily{
	ping: "udp6", raw: "ip6:ipv6-icmp", any: netip.IPv6Unspecified(), loopback: netip.IPv6Loopback(),
	request: ipv6.ICMPTypeEchoRequest, reply: ipv6.ICMPTypeEchoReply, protocol: 58,
}

// opener opens a socket toward one address. If from is zero, the kernel chooses the local address.
type opener func(ctx context.Context, f *echoFamily, from, to netip.Addr) (echoConn, error)

// echoConn carries ICMP messages, without IP headers, from and to one address.
type echoConn interface {
	Write(b []byte) (int, error)
	ReadFrom(b []byte) (int, net.Addr, error)
	SetDeadline(t time.Time) error
	Close() error
}

// NewICMP builds the check. It fails if this process may not send echo requests at all. If it may
// only over one of IPv4 and IPv6, endpoints of the other family fail with ErrLocal.
func NewICMP(o ICMP) (*Check, error) {
	from, err := newSource(o.Source)
	if err != nil {
		return nil, err
	}
	p := &icmpProbe{source: from, v4: echoV4, v6: echoV6}
	p.v4.choose()
	p.v6.choose()
	if p.v4.open == nil && p.v6.open == nil {
		return nil, errors.New("icmp: this process may not send echo requests: want its group in the sysctl " +
			"net.ipv4.ping_group_range, or the capability CAP_NET_RAW")
	}
	return &Check{name: "icmp", key: fmt.Sprintf("icmp source=%s", from), protocol: p}, nil
}

// choose finds what the kernel allows: a ping socket, else a raw one, else nothing.
func (f *echoFamily) choose() {
	for _, open := range []opener{openPing, openRaw} {
		if conn, err := open(context.Background(), f, netip.Addr{}, f.loopback); err == nil {
			_ = conn.Close()
			f.open = open
			return
		}
	}
}

// openRaw opens a raw socket. It is connected, so that it does not get the replies to other probes.
func openRaw(ctx context.Context, f *echoFamily, from, to netip.Addr) (echoConn, error) {
	conn, err := unicast.DialIP(ctx, f.raw, from, to)
	if err != nil {
		return nil, err // in its own type, conn would be a non-nil echoConn
	}
	return conn, nil
}

// pingConn is a ping socket. The kernel delivers only the replies to its own requests.
type pingConn struct {
	*icmp.PacketConn
	to net.Addr
}

func openPing(_ context.Context, f *echoFamily, from, to netip.Addr) (echoConn, error) {
	if !from.IsValid() {
		from = f.any
	}
	conn, err := icmp.ListenPacket(f.ping, from.String())
	if err != nil {
		return nil, err
	}
	return pingConn{conn, &net.UDPAddr{IP: to.AsSlice()}}, nil
}

func (c pingConn) Write(b []byte) (int, error) { return c.WriteTo(b, c.to) }

func (p *icmpProbe) probe(ctx context.Context, endpoint netip.AddrPort) error {
	addr := endpoint.Addr()
	family := &p.v6
	if addr.Is4() {
		family = &p.v4
	}
	if family.open == nil {
		return localFault("no permission for ICMP over the address family of " + addr.String())
	}
	conn, err := family.open(ctx, family, p.source.toward(addr), addr)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is left to lose
	defer expire(ctx, conn)()
	return family.exchange(conn, newEcho())
}

// newEcho returns a request with 16 random bytes, so that nobody can forge a reply. A ping socket
// replaces the identifier with its own.
func newEcho() *icmp.Echo {
	token := make([]byte, 18)
	_, _ = rand.Read(token) // never fails
	return &icmp.Echo{ID: int(token[0])<<8 | int(token[1]), Seq: 1, Data: token[2:]}
}

func (f *echoFamily) exchange(conn echoConn, echo *icmp.Echo) error {
	// The kernel sums ICMPv6.
	request, err := (&icmp.Message{Type: f.request, Body: echo}).Marshal(nil)
	if err != nil {
		return err
	}
	if _, err := conn.Write(request); err != nil {
		return err
	}
	packet := make([]byte, 1500)
	for {
		n, _, err := conn.ReadFrom(packet)
		if err != nil {
			return err
		}
		if f.answers(packet[:n], echo) {
			return nil
		}
	}
}

// answers reports whether a packet is the reply to echo. The random bytes identify it, so that the
// identifier need not be compared.
func (f *echoFamily) answers(packet []byte, echo *icmp.Echo) bool {
	m, err := icmp.ParseMessage(f.protocol, packet)
	if err != nil || m.Type != f.reply {
		return false
	}
	reply, ok := m.Body.(*icmp.Echo)
	return ok && reply.Seq == echo.Seq && bytes.Equal(reply.Data, echo.Data)
}
