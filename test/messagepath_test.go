// SPDX-License-Identifier: Apache-2.0

package test

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// captured is the server that the directive "capture" last saw a query of.
var captured *dnsserver.Server

func init() {
	dnsserver.Directives = append([]string{"capture"}, dnsserver.Directives...)
	dnsserver.Directives = slices.Insert(dnsserver.Directives, slices.Index(dnsserver.Directives, "loadbalance"), "pass")
	plugin.Register("pass", func(c *caddy.Controller) error {
		dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler { return passing{next} })
		return nil
	})
	plugin.Register("capture", func(c *caddy.Controller) error {
		dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler { return capturing{next} })
		return nil
	})
}

// passing does nothing but what every plugin does that looks at answers: it puts a writer of its
// own in front of the next plugin. What it costs is the least that any of them can cost.
type passing struct{ plugin.Handler }

func (p passing) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	return plugin.NextOrFailure("pass", p.Handler, ctx, &passingWriter{w}, r)
}

type passingWriter struct{ dns.ResponseWriter }

// capturing takes itself out of the way of all queries but those of one type, which it answers.
type capturing struct{ plugin.Handler }

func (c capturing) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	if r.Question[0].Qtype != dns.TypeHINFO {
		return c.Handler.ServeDNS(ctx, w, r)
	}
	captured, _ = ctx.Value(dnsserver.Key{}).(*dnsserver.Server)
	return dns.RcodeRefused, w.WriteMsg(new(dns.Msg).SetRcode(r, dns.RcodeRefused))
}

// wire is a UDP socket without a network or a kernel: it hands out one query over and over, the
// next when the last was answered.
type wire struct {
	net.PacketConn
	query    []byte
	from     net.Addr
	rounds   int
	answered chan struct{}
	done     chan struct{}
}

func (w *wire) ReadFrom(p []byte) (int, net.Addr, error) {
	<-w.answered
	if w.rounds == 0 {
		close(w.done)
		return 0, nil, net.ErrClosed
	}
	w.rounds--
	return copy(p, w.query), w.from, nil
}

func (w *wire) WriteTo(p []byte, _ net.Addr) (int, error) {
	w.answered <- struct{}{}
	return len(p), nil
}

func (w *wire) Close() error                     { return nil }
func (w *wire) LocalAddr() net.Addr              { return w.from }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkMessagePath measures all that a UDP query costs except the kernel's part: a goroutine
// of its own, as the server starts one, unpacking, the plugins that usually stand in a chain, and
// packing. The difference between plugins is what one adds, stack included: it is in here that a
// larger frame can double the stack. There are as many sockets as processors (-cpu), so that it
// also tells what they cost each other.
func BenchmarkMessagePath(b *testing.B) {
	for _, n := range []int{3, 64} {
		for _, upstream := range []string{"file", "cache"} {
			for _, c := range messagePathContenders {
				b.Run(fmt.Sprintf("records=%d/upstream=%s/plugin=%s", n, upstream, c.name), func(b *testing.B) {
					benchmarkMessagePath(b, n, upstream, c)
				})
			}
		}
	}
}

// messagePathContender is a stanza that comes before file and cache.
type messagePathContender struct {
	name   string
	stanza func(b *testing.B, n int) string
	others int // addresses that were asked for beside those of the name that is measured, and are up where the stanza checks
}

var messagePathContenders = []messagePathContender{
	{"none", stanza(""), 0},
	{"pass", stanza("pass"), 0},
	{"loadbalance", stanza("loadbalance"), 0},
	{"loadbalance-weighted", func(b *testing.B, n int) string { return "loadbalance weighted " + weightsOf(b, n) }, 0},
	{"round_robin", stanza("balance"), 0},
	{"weighted", func(b *testing.B, n int) string { return rule("policy weighted", "weights "+weightsOf(b, n)) }, 0},
	{"random", stanza(rule("policy random")), 0},
	{"sticky", stanza(rule("policy sticky")), 0},
	{"health", stanza(checkedRule), 0},
	{"none-100000", stanza(""), 100_000},
	{"health-100000", stanza(checkedRule), 100_000},
}

// checkedRule has a health_check of a port that benchmarkMessagePath replaces.
var checkedRule = rule("health_check tcp PORT {", "allow 127.0.0.0/8", "interval 1h", "max_endpoints 200000", "}")

func stanza(text string) func(*testing.B, int) string {
	return func(*testing.B, int) string { return text }
}

func weightsOf(b *testing.B, n int) string {
	text := strings.Builder{}
	text.WriteString("www.example.org\n")
	for i := range n {
		fmt.Fprintf(&text, "%s %d\n", messagePathMember(i), i%3+1)
	}
	return file(b, "weights", text.String())
}

// messagePathMember is an address of the name that is asked for, and from 64 on of others.
func messagePathMember(i int) string { return fmt.Sprintf("127.%d.%d.%d", i>>16+1, i>>8&255, i&255) }

func benchmarkMessagePath(b *testing.B, n int, upstream string, c messagePathContender) {
	const perName = 4000
	names := map[string][]string{"www": nil}
	for i := range n {
		names["www"] = append(names["www"], messagePathMember(i))
	}
	for i := range c.others {
		name := fmt.Sprintf("other%d", i/perName)
		names[name] = append(names[name], messagePathMember(1<<16+i))
	}
	var records strings.Builder
	for name, members := range names {
		records.WriteString(as(name, members...))
	}
	stanza, probed := c.stanza(b, n), func() int { return c.others + n } // all that are to be
	if strings.Contains(stanza, "PORT") {
		stanza, probed = withEndpoints(b, stanza)
	}
	lines := []string{"capture", "errors", "prometheus 127.0.0.1:0", stanza, "file " + zone(b, "example.org.", records.String())}
	if upstream == "cache" {
		lines = slices.Insert(lines, 4, "cache")
	}
	s := start(b, block(lines...))
	ask(b, s.udp(), "www.example.org.", dns.TypeHINFO)
	for name, members := range names { // now they are known
		if reply := dial(b, "tcp", s.tcp(), "").Ask(query(name+".example.org.", dns.TypeA)); len(reply.Answer) != len(members) {
			b.Fatalf("%s has %d addresses, want %d", name, len(reply.Answer), len(members))
		}
	}
	eventually(b, "all endpoints have been probed", func() bool { return probed() == c.others+n })
	q := query("www.example.org.", dns.TypeA)
	q.SetEdns0(4096, false)
	packed, err := q.Pack()
	if err != nil {
		b.Fatal(err)
	}
	served := captured
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		ctx := context.WithValue(context.Background(), dnsserver.Key{}, served)
		served.ServeDNS(context.WithValue(ctx, dnsserver.LoopKey{}, 0), w, r)
	})
	wires := make([]*wire, runtime.GOMAXPROCS(0))
	for i := range wires {
		wires[i] = &wire{query: packed, from: s.instance.Servers()[0].LocalAddr(), rounds: b.N / len(wires), answered: make(chan struct{}, 1), done: make(chan struct{})}
		wires[i].answered <- struct{}{}
	}
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime(b)
	for _, w := range wires {
		listener := &dns.Server{PacketConn: w, Net: "udp", Handler: handler}
		go listener.ActivateAndServe() //nolint:errcheck // it ends with the wire
	}
	for _, w := range wires {
		<-w.done
	}
	b.StopTimer()
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
}

// withEndpoints returns the stanza with a port that every address of 127.0.0.0/8 is up at, and how
// often it was probed.
func withEndpoints(b *testing.B, stanza string) (with string, probed func() int) {
	listener, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { listener.Close() })
	var n atomic.Int64
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Close()
			n.Add(1)
		}
	}()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return strings.ReplaceAll(stanza, "PORT", port), func() int { return int(n.Load()) }
}

// cpuTime returns what this process has used of all processors: beside other work it tells more
// than a clock does.
func cpuTime(b *testing.B) time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
