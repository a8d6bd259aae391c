// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"fmt"
	"io"
	stdlog "log"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	_ "github.com/coredns/coredns/plugin/bind" // to listen on loopback only
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
	{"loadbalance-weighted", "loadbalance weighted testdata/weights_bench.db"},
	{"weighted", "balance weighted testdata/weights_bench.db"},
	{"random", "balance {\npolicy random\n}"},
	{"prefer", "balance {\nprefer 10.0.0.0/31\n}"},
	{"locality", "balance {\n" + manyLocalities(5000) + "prefer locality\n}"},
	{"answers", "balance {\nanswers 2\n}"},
	{"sticky", "balance {\npolicy sticky\n}"},
	{"ttl", "balance {\nttl 30\n}"},
	{"status", "balance {\nstatus\n}"},
}

// newHandler compiles a stanza into a handler in front of next, as the server does. A weight file
// of loadbalance is read when its server starts, so that one is taken from a server.
func newHandler(tb testing.TB, stanza string, next plugin.Handler) plugin.Handler {
	tb.Helper()
	directive, rest, _ := strings.Cut(stanza, " ")
	if directive == "loadbalance" && rest != "" {
		return servedHandler(tb, stanza)
	}
	c := caddy.NewTestController("dns", stanza)
	c.ServerBlockKeys = []string{"dns://.:53"}
	setup, err := caddy.DirectiveAction("dns", strings.Fields(directive)[0])
	if err != nil {
		tb.Fatal(err)
	}
	if err := setup(c); err != nil {
		tb.Fatal(err)
	}
	chain := dnsserver.GetConfig(c).Plugin
	return chain[len(chain)-1](next)
}

// taken is the handler behind the directive "take" of the server started last.
var taken plugin.Handler

func init() {
	dnsserver.Directives = append([]string{"take"}, dnsserver.Directives...)
	plugin.Register("take", func(c *caddy.Controller) error {
		dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler {
			taken = next
			return next
		})
		return nil
	})
}

func servedHandler(tb testing.TB, stanza string) plugin.Handler {
	tb.Helper()
	dnsserver.Quiet = true
	stdlog.SetOutput(io.Discard)
	tb.Cleanup(func() { stdlog.SetOutput(os.Stderr) })
	server, err := caddy.Start(caddy.CaddyfileInput{
		ServerTypeName: "dns",
		Contents:       []byte(".:0 {\nbind 127.0.0.1\ntake\n" + stanza + "\n}"),
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		server.ShutdownCallbacks()
		_ = server.Stop()
	})
	return taken
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

// benchmarkContenders runs a benchmark for every contender and size, on one core and on all.
// run returns what one goroutine does over and over.
func benchmarkContenders(b *testing.B, names []string, run func(b *testing.B, stanza string, m *dns.Msg) func() (once func())) {
	for _, contender := range benchContenders {
		if !slices.Contains(names, contender.name) {
			continue
		}
		for _, n := range benchSizes {
			m := addressesMsg(n)
			b.Run(fmt.Sprintf("cores=one/records=%d/plugin=%s", n, contender.name), func(b *testing.B) {
				once := run(b, contender.stanza, m)()
				b.ReportAllocs()
				for b.Loop() {
					once()
				}
			})
			b.Run(fmt.Sprintf("cores=all/records=%d/plugin=%s", n, contender.name), func(b *testing.B) {
				each := run(b, contender.stanza, m)
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					once := each()
					for pb.Next() {
						once()
					}
				})
			})
		}
	}
}

// BenchmarkServeDNS measures all of a query except the plugin that answers.
func BenchmarkServeDNS(b *testing.B) {
	benchmarkContenders(b, []string{"loadbalance", "balance"}, func(b *testing.B, stanza string, m *dns.Msg) func() func() {
		h := newHandler(b, stanza, answering(m))
		return func() func() {
			w := &test.ResponseWriter{}
			return func() { _, _ = h.ServeDNS(b.Context(), w, m) }
		}
	})
}

// BenchmarkWriteMsg measures what happens between the plugin that answers and the writer above.
func BenchmarkWriteMsg(b *testing.B) {
	benchmarkContenders(b, []string{"loadbalance", "balance", "random", "sticky", "prefer", "locality", "answers", "ttl", "status"}, writers)
}

// BenchmarkWeighted compares the policies weighted with each other and with round robin.
func BenchmarkWeighted(b *testing.B) {
	benchmarkContenders(b, []string{"loadbalance-weighted", "weighted", "balance"}, writers)
}

// manyLocalities returns lines that put n prefixes into three localities; that of the client and of
// half of the members is the first.
func manyLocalities(n int) string {
	var lines strings.Builder
	lines.WriteString("locality a 10.0.0.0/31 10.240.0.0/24\n")
	for i := range n - 2 {
		fmt.Fprintf(&lines, "locality %c 10.%d.%d.0/24\n", "abc"[i%3], 1+i>>8, i&255)
	}
	return lines.String()
}

func writers(b *testing.B, stanza string, m *dns.Msg) func() func() {
	h := newHandler(b, stanza, nil)
	if balance, ok := h.(*Balance); ok && balance.rules.only.localities != nil {
		if err := balance.rules.only.localities.start(func() {}); err != nil {
			b.Fatal(err)
		}
	}
	return func() func() { return writerOf(b, h, m) }
}

// writerOf returns a function that has the writer of a handler write m once.
func writerOf(b *testing.B, h plugin.Handler, m *dns.Msg) func() {
	own := *m
	if balance, ok := h.(*Balance); ok {
		a := balance.rules.answerTo(b.Context(), &benchWriter{}, m)
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

// benchWriter knows its client's address, as a server's writer does. CoreDNS' test writer parses it
// at each call.
type benchWriter struct{ test.ResponseWriter }

var benchClient = &net.UDPAddr{IP: net.IPv4(10, 240, 0, 1).To4(), Port: 40212}

func (*benchWriter) RemoteAddr() net.Addr { return benchClient }

// BenchmarkShuffledUpstream has the upstream give another order every time.
func BenchmarkShuffledUpstream(b *testing.B) {
	benchmarkContenders(b, []string{"loadbalance", "balance"}, func(b *testing.B, stanza string, m *dns.Msg) func() func() {
		h := newHandler(b, stanza, nil)
		return func() func() {
			orders := make([][]dns.RR, 16)
			for i := range orders {
				orders[i] = slices.Clone(m.Answer)
				rand.Shuffle(len(orders[i]), func(j, k int) { orders[i][j], orders[i][k] = orders[i][k], orders[i][j] })
			}
			shuffled, i := *m, 0
			write := writerOf(b, h, &shuffled)
			return func() {
				i++
				shuffled.Answer = orders[i%len(orders)]
				write()
			}
		}
	})
}
