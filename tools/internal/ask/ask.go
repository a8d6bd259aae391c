// SPDX-License-Identifier: Apache-2.0

// Package ask asks a DNS server, as programs that measure do.
package ask

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// RoundTrip sends a query and returns the one reply that is read. A socket must have one query in
// flight at a time.
func RoundTrip(c *dns.Conn, q *dns.Msg, within time.Duration) (*dns.Msg, error) {
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	if err := c.WriteMsg(q); err != nil {
		return nil, err
	}
	return c.ReadMsg()
}

// Addresses asks for the A records of a name over UDP, from an address of this host, or from any if
// it is the zero one. An answer without any is an error.
func Addresses(ctx context.Context, server, name string, from netip.Addr, within time.Duration) (*dns.Msg, []netip.Addr, error) {
	d := net.Dialer{Timeout: within}
	if from.IsValid() {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	conn, err := d.DialContext(ctx, "udp", server)
	if err != nil {
		return nil, nil, err
	}
	c := &dns.Conn{Conn: conn, UDPSize: dns.MaxMsgSize}
	defer c.Close() //nolint:errcheck // nothing is lost
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	q := new(dns.Msg).SetQuestion(name, dns.TypeA).SetEdns0(dns.DefaultMsgSize, false)
	q.RecursionDesired = false
	reply, err := RoundTrip(c, q, within)
	if err != nil {
		return nil, nil, err
	}
	var addrs []netip.Addr
	for _, rr := range reply.Answer {
		if a, ok := rr.(*dns.A); ok {
			addr, _ := netip.AddrFromSlice(a.A.To4())
			addrs = append(addrs, addr)
		}
	}
	if reply.Rcode != dns.RcodeSuccess || len(addrs) == 0 {
		err = fmt.Errorf("%s with %d addresses", dns.RcodeToString[reply.Rcode], len(addrs))
	}
	return reply, addrs, err
}
