// SPDX-License-Identifier: Apache-2.0

package testserver

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Query returns a question for a name.
func Query(name string, qtype uint16) *dns.Msg { return new(dns.Msg).SetQuestion(name, qtype) }

// Client is a socket that asks one server. Owned by one goroutine.
type Client struct {
	t    testing.TB
	conn *dns.Conn
}

// Dial connects to a server until the test ends. from is the client's own IP address, or empty.
func Dial(t testing.TB, network, addr, from string) *Client {
	t.Helper()
	d := net.Dialer{Timeout: Patience}
	if ip := net.ParseIP(from); ip != nil && network == "udp" {
		d.LocalAddr = &net.UDPAddr{IP: ip}
	} else if ip != nil {
		d.LocalAddr = &net.TCPAddr{IP: ip}
	}
	conn, err := d.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &Client{t, &dns.Conn{Conn: conn, UDPSize: dns.MaxMsgSize}}
}

// Close closes the socket before the test ends.
func (c *Client) Close() { _ = c.conn.Close() }

// Ask sends a query and returns the reply to it.
func (c *Client) Ask(q *dns.Msg) *dns.Msg {
	c.t.Helper()
	reply, err := c.TryAsk(q)
	if err != nil {
		c.t.Fatalf("%s: %v", q.Question[0].String(), err)
	}
	return reply
}

// TryAsk is Ask if there may be no reply.
func (c *Client) TryAsk(q *dns.Msg) (*dns.Msg, error) {
	if err := c.conn.SetDeadline(time.Now().Add(Patience)); err != nil {
		return nil, err
	}
	if err := c.conn.WriteMsg(q); err != nil {
		return nil, err
	}
	for {
		reply, err := c.conn.ReadMsg()
		if err != nil || reply.Id == q.Id {
			return reply, err
		}
	}
}

// Data returns the data of the records of a type, in their order.
func Data(rrs []dns.RR, rrtype uint16) (data []string) {
	for _, rr := range rrs {
		if rr.Header().Rrtype == rrtype {
			data = append(data, strings.TrimPrefix(rr.String(), rr.Header().String()))
		}
	}
	return data
}
