// SPDX-License-Identifier: Apache-2.0

//go:build linux

package testbed

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// Answer is what a replica said about a name. In is only valid until the function that it was
// handed to returns.
type Answer struct {
	Replica      *Replica
	Asked, Heard time.Time
	First        int    // the first of the name's backends
	In           []bool // whether the answer holds it and those that follow
}

// client asks one replica for each name in turn. After the first round it only asks for those that
// are asked for often.
type client struct {
	replica *Replica
	every   time.Duration
	hear    func(Answer)

	conn *dns.Conn // nil: not connected
	in   []bool
}

func (c *client) run(ctx context.Context) {
	tick := time.NewTicker(c.every)
	defer tick.Stop()
	b := c.replica.bed
	names := b.names()
	for name := 0; ctx.Err() == nil; name++ {
		if name >= names {
			name, names = 0, cmp.Or(b.Often, names)
		}
		_ = c.ask(name) // what is not answered is not an answer: replicas are stopped at times
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	c.hangUp()
}

// ask asks for a name, and hands over the answer.
func (c *client) ask(name int) (err error) {
	if c.conn == nil {
		if c.conn, err = c.replica.dial(); err != nil {
			return err
		}
	}
	asked := time.Now()
	q := new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.example.org.", name), dns.TypeA).SetEdns0(dns.DefaultMsgSize, false)
	reply, err := roundTrip(c.conn, q, time.Second)
	if err == nil && (reply.Rcode != dns.RcodeSuccess || reply.Truncated) {
		err = fmt.Errorf("%s says %s", c.replica, dns.RcodeToString[reply.Rcode])
	}
	if err != nil {
		c.hangUp()
		return err
	}
	a := Answer{Replica: c.replica, Asked: asked, Heard: time.Now()}
	a.First, a.In = c.backendsIn(reply, name)
	c.hear(a)
	return nil
}

func (c *client) hangUp() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// backendsIn returns which backends of a name are in an answer.
func (c *client) backendsIn(reply *dns.Msg, name int) (first int, in []bool) {
	b := c.replica.bed
	first = name * b.PerName
	n := min(b.PerName, len(b.Backends)-first)
	c.in = append(c.in[:0], make([]bool, n)...)
	for _, rr := range reply.Answer {
		a, ok := rr.(*dns.A)
		if !ok {
			continue
		}
		addr, _ := netip.AddrFromSlice(a.A.To4())
		if i := numberOf(addr) - first; i >= 0 && i < n {
			c.in[i] = true
		}
	}
	return first, c.in
}

// numberOf returns the number of the backend with an address.
func numberOf(addr netip.Addr) int {
	if !addr.Is4() {
		return -1
	}
	b := addr.As4()
	return int(b[2])<<8 + int(b[3]) - 1
}

// roundTrip sends a query and returns the reply to it. Replies to earlier ones are skipped.
func roundTrip(c *dns.Conn, q *dns.Msg, within time.Duration) (*dns.Msg, error) {
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	if err := c.WriteMsg(q); err != nil {
		return nil, err
	}
	for {
		reply, err := c.ReadMsg()
		if err != nil || reply.Id == q.Id {
			return reply, err
		}
	}
}
