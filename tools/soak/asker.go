// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/tools/internal/ask"
)

// subject is an RRset that clients ask for.
type subject struct {
	*rrset
	order order  // if one client alone asks for it; nil: many do
	tally *tally // counts the leads if many do; nil otherwise
}

// asker is a client that asks one question after the other, at a constant rate. Owned by one
// goroutine.
type asker struct {
	w        *world
	network  string // udp, tcp or tls
	subjects []*subject
	rate     int // a second

	conn   *dns.Conn
	asked  int // over conn
	hushes int64
}

// Queries over one connection: CoreDNS takes 128.
const queriesAConnection = 100

// replyWithin is how long a reply may take: forward gives up after five seconds.
const replyWithin = 12 * time.Second

// run asks until ctx is done.
func (a *asker) run(ctx context.Context) {
	tick := time.NewTicker(time.Second / time.Duration(a.rate))
	defer tick.Stop()
	defer a.hangUp()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		a.w.gate.RLock()
		if a.hushes != a.w.hushes {
			a.hangUp()
			a.hushes = a.w.hushes
		}
		if ctx.Err() == nil {
			a.ask(a.subjects[i%len(a.subjects)])
		}
		a.w.gate.RUnlock()
	}
}

func (a *asker) hangUp() {
	if a.conn != nil {
		a.conn.Close() //nolint:errcheck,gosec // done with
	}
	a.conn, a.asked = nil, 0
}

// ask asks for a subject once, and judges the reply.
func (a *asker) ask(s *subject) {
	q := new(dns.Msg).SetQuestion(mixCase(s.name), s.qtype)
	if signed := s.key != nil; signed || s.targets != nil || rand.N(2) == 0 { //nolint:gosec // no secret
		q.SetEdns0(1232, signed)
	}
	from := time.Now()
	reply, err := a.exchange(q)
	to := time.Now()
	if err != nil && a.network != "udp" && slices.Contains(a.w.reloading.during(from.Add(-time.Minute), to), true) {
		// CoreDNS closes connections when it reloads. A client asks again, over another.
		a.w.count.reconnected(a.network)
		s.disturb()
		reply, err = a.exchange(q)
		to = time.Now()
	}
	if err != nil {
		s.disturb()
		a.w.lost(s.rrset, a.network, from, to, err)
		return
	}
	if a.network == "udp" && !s.forwarded {
		a.w.lateness.answered(to.Sub(from))
	}
	wrong, excused := a.w.judge(s.rrset, q, reply, from, to)
	if wrong == "" && !excused {
		wrong = s.turn(reply, from, to, a.w.busy())
	}
	if excused {
		s.disturb()
	}
	a.w.answered(s.rrset, a.network, excused)
	if wrong != "" {
		s.disturb()
		a.w.violation(class(wrong), "%s %s over %s: %s", s.name, dns.Type(s.qtype), a.network, wrong)
	}
}

// turn takes an answer, and says what is wrong with its place in the order.
func (s *subject) turn(reply *dns.Msg, from, to time.Time, busy time.Duration) string {
	members, _ := s.read(reply)
	if s.key != nil {
		var certain bool
		if members, certain = s.eligible(members, from, to, busy); !certain {
			s.disturb()
			return ""
		}
	}
	if s.tally != nil {
		s.tally.add(members[0])
	}
	if s.order != nil {
		return s.order.next(members)
	}
	return ""
}

// disturb notes that an answer was lost, or may have been.
func (s *subject) disturb() {
	if s.order != nil {
		s.order.forget()
	}
	if s.tally != nil {
		s.tally.disturb()
	}
}

// exchange sends a query once, and returns the reply.
func (a *asker) exchange(q *dns.Msg) (*dns.Msg, error) {
	if a.asked >= queriesAConnection {
		a.hangUp()
	}
	if a.conn == nil {
		if err := a.dial(); err != nil {
			return nil, err
		}
	}
	a.asked++
	reply, err := ask.RoundTrip(a.conn, q, replyWithin)
	if err != nil {
		a.hangUp()
	}
	return reply, err
}

// dial connects to the server.
func (a *asker) dial() error {
	d := net.Dialer{Timeout: replyWithin}
	var c net.Conn
	var err error
	if a.network == "tls" {
		c, err = tls.DialWithDialer(&d, "tcp", tlsAddress, a.w.clientTLS())
	} else {
		c, err = d.Dial(a.network, dnsAddress)
	}
	if err != nil {
		return err
	}
	a.conn = &dns.Conn{Conn: c, UDPSize: dns.MaxMsgSize}
	return nil
}

func clientTLS(roots *x509.CertPool) *tls.Config {
	return &tls.Config{RootCAs: roots, ServerName: serverHost, MinVersion: tls.VersionTLS12}
}

// mixCase returns a name in random case, as resolvers send it: the reply has to repeat it.
func mixCase(name string) string {
	b := []byte(name)
	for i, bits := 0, rand.Uint64(); i < len(b); i, bits = i+1, bits>>1 { //nolint:gosec // no secret
		if bits&1 == 1 && b[i] >= 'a' && b[i] <= 'z' {
			b[i] -= 'a' - 'A'
		}
	}
	return string(b)
}

// reasonOf returns, in a word or two, why there is no reply.
func reasonOf(err error) string {
	var netErr net.Error
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return "no reply"
	case strings.Contains(err.Error(), "refused"):
		return "refused"
	default:
		return "connection lost"
	}
}

// class returns the kind of a violation, by its text.
func class(wrong string) string {
	for _, c := range []struct{ text, class string }{
		{"is ahead of", "a dead member is ahead"}, {"signature", "a signature does not fit"}, {"they are signed", "a signed member is missing"}, {"observes", "observe changes an answer"}, {"glue", "glue is wrong"},
		{"which is down", "a dead member is answered"}, {"is missing", "a member is missing"}, {"leads after", "the lead does not move on by one"},
		{"rotation", "the lead does not move on by one"}, {"led ", "weights are not exact"}, {"what it was", "sticky is not"},
		{"TTL", "TTL"}, {"rcode", "unexplained rcode"},
	} {
		if strings.Contains(wrong, c.text) {
			return c.class
		}
	}
	return "a wrong answer"
}

// tally counts the leads of an RRset that many clients ask for. Guarded by the world's lock.
type tally struct {
	w     *world
	name  string
	leads map[netip.Addr]int
	lost  int // answers that may have taken a turn, and were not seen
}

func (t *tally) add(lead netip.Addr) {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	t.leads[lead]++
}

func (t *tally) disturb() {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	t.lost++
}

// uneven says by how much the leads differ, if that is more than lost answers explain.
func (t *tally) uneven() string {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	var counts []int
	for _, n := range t.leads {
		counts = append(counts, n)
	}
	if len(counts) == 0 {
		return ""
	}
	if most, least := slices.Max(counts), slices.Min(counts); most-least > 1+t.lost {
		return fmt.Sprintf("%s: members led from %d to %d times, with %d answers lost", t.name, least, most, t.lost)
	}
	return ""
}
