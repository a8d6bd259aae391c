// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/loadbalance"
	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
)

// benchSizes are the numbers of records of the messages that are compared.
var benchSizes = []int{1, 3, 8, 64, 512}

// benchContenders are the Corefile stanzas that are compared.
var benchContenders = []struct{ name, stanza string }{
	{"loadbalance", "loadbalance"},
	{"balance", "balance"},
	{"random", "balance {\npolicy random\n}"},
	{"prefer", "balance {\nprefer 10.0.0.0/31\n}"},
	{"answers", "balance {\nanswers 2\n}"},
	{"ttl", "balance {\nttl 30\n}"},
}

// newHandler compiles a stanza into a handler in front of next, as the server does.
func newHandler(tb testing.TB, stanza string, next plugin.Handler) plugin.Handler {
	tb.Helper()
	c := caddy.NewTestController("dns", stanza)
	c.ServerBlockKeys = []string{"dns://.:53"}
	setup, err := caddy.DirectiveAction("dns", firstWord(stanza))
	if err != nil {
		tb.Fatal(err)
	}
	if err := setup(c); err != nil {
		tb.Fatal(err)
	}
	chain := dnsserver.GetConfig(c).Plugin
	return chain[len(chain)-1](next)
}

func firstWord(s string) string {
	for i, r := range s {
		if r == ' ' || r == '\n' {
			return s[:i]
		}
	}
	return s
}

// addressesMsg is an answer with n A records.
func addressesMsg(n int) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion("www.example.org.", dns.TypeA)
	m.Response = true
	addr := netip.MustParseAddr("10.0.0.1")
	for range n {
		m.Answer = append(m.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: "www.example.org.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300},
			A:   addr.AsSlice(),
		})
		addr = addr.Next()
	}
	return m
}

// answering returns a handler that writes a copy of the message, for loadbalance writes to it.
func answering(m *dns.Msg) plugin.Handler {
	return plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, _ *dns.Msg) (int, error) {
		c := *m
		return dns.RcodeSuccess, w.WriteMsg(&c)
	})
}

func BenchmarkServeDNS(b *testing.B) {
	for _, contender := range append(benchContenders[:len(benchContenders):len(benchContenders)], struct{ name, stanza string }{"nothing", "whoami"}) {
		for _, n := range benchSizes {
			m := addressesMsg(n)
			h := answering(m)
			if contender.name != "nothing" {
				h = newHandler(b, contender.stanza, h)
			}
			b.Run(fmt.Sprintf("%s/%d", contender.name, n), func(b *testing.B) {
				benchmarkHandler(b, h, m)
			})
			b.Run(fmt.Sprintf("%s-parallel/%d", contender.name, n), func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						_, _ = h.ServeDNS(b.Context(), &test.ResponseWriter{}, m)
					}
				})
			})
		}
	}
}

func benchmarkHandler(b *testing.B, h plugin.Handler, m *dns.Msg) {
	b.ReportAllocs()
	w := &test.ResponseWriter{}
	for b.Loop() {
		_, _ = h.ServeDNS(b.Context(), w, m)
	}
}

// BenchmarkWriteMsg measures what happens between the plugin that answers and the writer above.
func BenchmarkWriteMsg(b *testing.B) {
	for _, contender := range benchContenders {
		for _, n := range benchSizes {
			b.Run(fmt.Sprintf("%s/%d", contender.name, n), func(b *testing.B) {
				m := addressesMsg(n)
				write := writerOf(b, newHandler(b, contender.stanza, nil), m)
				b.ReportAllocs()
				for b.Loop() {
					write()
				}
			})
			b.Run(fmt.Sprintf("%s-parallel/%d", contender.name, n), func(b *testing.B) {
				b.ReportAllocs()
				m := addressesMsg(n)
				h := newHandler(b, contender.stanza, nil)
				b.RunParallel(func(pb *testing.PB) {
					write := writerOf(b, h, m)
					for pb.Next() {
						write()
					}
				})
			})
		}
	}
}

// writerOf returns a function that has the writer of a handler write m once.
func writerOf(b *testing.B, h plugin.Handler, m *dns.Msg) func() {
	own := *m
	if balance, ok := h.(Balance); ok {
		a := &answer{ResponseWriter: &test.ResponseWriter{}, rule: balance.rules.of(m)}
		a.inHand.Context = b.Context()
		return func() {
			a.used = false // a writer is made for every query, and its message with it
			own.Answer = m.Answer
			_ = a.WriteMsg(&own)
		}
	}
	var taken dns.ResponseWriter
	lb := h.(loadbalance.LoadBalance)
	lb.Next = plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, _ *dns.Msg) (int, error) {
		taken = w
		return dns.RcodeSuccess, nil
	})
	_, _ = lb.ServeDNS(b.Context(), &test.ResponseWriter{}, m)
	return func() {
		own.Answer = m.Answer
		_ = taken.WriteMsg(&own)
	}
}

// BenchmarkShuffledUpstream has the upstream give another order every time.
func BenchmarkShuffledUpstream(b *testing.B) {
	for _, contender := range benchContenders[:2] {
		for _, n := range benchSizes {
			b.Run(fmt.Sprintf("%s/%d", contender.name, n), func(b *testing.B) {
				m := addressesMsg(n)
				write := writerOf(b, newHandler(b, contender.stanza, nil), m)
				var orders [16][]dns.RR
				for i := range orders {
					orders[i] = make([]dns.RR, n)
					for j, k := range rand.Perm(n) {
						orders[i][j] = m.Answer[k]
					}
				}
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					m.Answer = orders[i%len(orders)]
					i++
					write()
				}
			})
		}
	}
}
