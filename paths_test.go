// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/health"
)

const pool = "pool.south. 300 A 192.0.2.1\n pool.south. 300 A 192.0.2.2\n pool.south. 300 A 192.0.2.3"

// aliasOf returns a handler that answers with a CNAME to a name that it asks another chain for, as
// *file* does for a target outside of its zone.
func aliasOf(t *testing.T, target string, other plugin.Handler) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, w dns.ResponseWriter, q *dns.Msg) (int, error) {
		rec := dnstest.NewRecorder(&test.ResponseWriter{})
		rcode, err := other.ServeDNS(ctx, rec, new(dns.Msg).SetQuestion(target, q.Question[0].Qtype))
		if err != nil {
			return rcode, err
		}
		m := new(dns.Msg).SetReply(q)
		m.Rcode = rec.Msg.Rcode
		m.Answer = append(records(t, q.Question[0].Name+" 300 CNAME "+target), rec.Msg.Answer...)
		return dns.RcodeSuccess, w.WriteMsg(m)
	})
}

// answersWith returns a handler that answers every question with some records.
func answersWith(t *testing.T, text string) plugin.Handler {
	return plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, q *dns.Msg) (int, error) {
		m := new(dns.Msg).SetReply(q)
		m.Answer = records(t, text)
		return dns.RcodeSuccess, w.WriteMsg(m)
	})
}

// inBlock gives a handler turns of its own, as the rules of another block have.
func inBlock(scope uint64, h plugin.Handler) plugin.Handler {
	for _, served := range h.(*Balance).rules.byZone {
		served.scope = scope
	}
	return h
}

// leadsAndTTL asks for addresses many times and returns who led how often, and the TTLs of the
// addresses.
func leadsAndTTL(t *testing.T, h plugin.Handler, name string, times int) (leads map[string]int, ttls map[uint32]bool) {
	t.Helper()
	leads, ttls = map[string]int{}, map[uint32]bool{}
	for range times {
		first := true
		for _, rr := range ask(t, h, new(dns.Msg).SetQuestion(name, dns.TypeA)).Answer {
			if a, ok := rr.(*dns.A); ok {
				if first {
					leads[a.A.String()]++
				}
				first, ttls[a.Hdr.Ttl] = false, true
			}
		}
	}
	return leads, ttls
}

// An alias into another block gets what is up there, in turn, with the lower TTL of both.
func TestAliasIntoAnotherBlock(t *testing.T) {
	for _, tc := range []struct {
		outer, inner string
		dead         []string
		leads        string
		ttl          uint32
	}{
		{outer: "balance", dead: []string{"192.0.2.3"}, leads: "map[192.0.2.1:150 192.0.2.2:150]", ttl: 5},
		{outer: "balance", leads: "map[192.0.2.1:100 192.0.2.2:100 192.0.2.3:100]", ttl: 30},
		{outer: "balance {\n ttl 20 10\n}", leads: "map[192.0.2.1:100 192.0.2.2:100 192.0.2.3:100]", ttl: 20},
		{outer: "balance {\n ttl 3\n}", dead: []string{"192.0.2.3"}, leads: "map[192.0.2.1:150 192.0.2.2:150]", ttl: 3},
		{outer: "balance {\n ttl 60 2\n}", dead: []string{"192.0.2.3"}, leads: "map[192.0.2.1:150 192.0.2.2:150]", ttl: 2},
		{outer: "balance", inner: "tier 192.0.2.1", leads: "map[192.0.2.1:300]", ttl: 30},
		{outer: "balance", inner: "all_down nodata", dead: []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, leads: "map[]"},
		{outer: "balance", inner: "all_down fallback 198.51.100.1", dead: []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, leads: "map[198.51.100.1:300]", ttl: 5},
		{outer: "balance", inner: "observe", dead: []string{"192.0.2.3"}, leads: "map[192.0.2.1:100 192.0.2.2:100 192.0.2.3:100]", ttl: 300},
		{outer: "balance", inner: "answers 1", leads: "map[192.0.2.1:100 192.0.2.2:100 192.0.2.3:100]", ttl: 30},
	} {
		freshTurns(t)
		inner := inBlock(1, judged(t, tc.inner, answersWith(t, pool), tc.dead...))
		outer := newHandler(t, tc.outer, aliasOf(t, "pool.south.", inner))
		leads, ttls := leadsAndTTL(t, outer, "www.north.", 300)
		if fmt.Sprint(leads) != tc.leads || len(ttls) > 1 || tc.ttl > 0 && !ttls[tc.ttl] {
			t.Errorf("%s over %q, %v down: leads %v, TTLs %v; want %s and %d", tc.outer, tc.inner, tc.dead, leads, ttls, tc.leads, tc.ttl)
		}
	}
}

// A chain of blocks filters at each of them, and the question's rule takes the turn. Its own checks
// count too.
func TestChainOfBlocks(t *testing.T) {
	freshTurns(t)
	east := inBlock(1, judged(t, "", answersWith(t, pool), "192.0.2.3"))
	south := inBlock(2, newHandler(t, "balance", aliasOf(t, "pool.south.", east)))
	north := judged(t, "", aliasOf(t, "mid.", south), "192.0.2.2")
	if leads, _ := leadsAndTTL(t, north, "www.north.", 10); fmt.Sprint(leads) != "map[192.0.2.1:10]" {
		t.Errorf("leads %v, want the one that both call up", leads)
	}
}

// twoRules returns a block with a rule for north. and one with a check for south., or the other way
// round.
func twoRules(t *testing.T, checked, other, options string, dead ...string) plugin.Handler {
	t.Helper()
	h := newHandler(t, fmt.Sprintf("balance %s {\n health_check tcp 80 {\n allow 0.0.0.0/0\n }\n}\nbalance %s {\n%s\n}", checked, other, options), echo)
	served := h.(*Balance).rules.byZone[checked]
	v := &verdicts{rule: served.rule, allow: served.checks[0].allow, known: map[netip.AddrPort]health.Endpoint{}, seen: map[netip.AddrPort]bool{}}
	served.subscriptions = []subscription{v}
	v.judge(dead...)
	return h
}

// Within a block, a member is down if the rule of the question or the one that holds the owner says
// so.
func TestAliasWithinABlock(t *testing.T) {
	for _, tc := range []struct {
		checked, other, options string
		want                    string
	}{
		{"south.", "north.", "", "192.0.2.1 5, 192.0.2.2 5, pool.south. 300"},
		{"north.", "south.", "", "192.0.2.1 5, 192.0.2.2 5, pool.south. 300"},
		{"south.", "north.", "ttl 4 3", "192.0.2.1 3, 192.0.2.2 3, pool.south. 300"},
	} {
		freshTurns(t)
		h := twoRules(t, tc.checked, tc.other, tc.options, "192.0.2.3")
		if got := targets(ask(t, h, message(t, "www.north. A", "www.north. 300 CNAME pool.south.\n "+pool))); got != tc.want {
			t.Errorf("check on %s: %s, want %s", tc.checked, got, tc.want)
		}
	}
}

// A verdict of the rule that holds the owner counts at once, as one of the question's does.
func TestVerdictOfTheOwnersRule(t *testing.T) {
	freshTurns(t)
	h := twoRules(t, "south.", "north.", "")
	v := verdictsOf(h.(*Balance).rules.byZone["south."])
	m := message(t, "www.north. A", "www.north. 300 CNAME pool.south.\n "+pool)
	for _, dead := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"} {
		ask(t, h, m)
		v.judge(dead)
		if got := targets(ask(t, h, m)); strings.Contains(got, dead) || strings.Count(got, "192.0.2.") != 2 {
			t.Errorf("%s is down: %s", dead, got)
		}
	}
}

const srv = "s.h. 300 SRV 1 1 80 db1.h.\n s.h. 300 SRV 1 1 80 db2.h."

// Targets without glue are judged by what A and AAAA answers have taught.
func TestTargetsWithoutGlue(t *testing.T) {
	for _, tc := range []struct {
		name, options, taught string
		dead                  []string
		rcode                 int
		want                  string
	}{
		{name: "one down", taught: "db2.h. 300 A 192.0.2.2", dead: []string{"192.0.2.2"}, want: "db1.h. 5"},
		{name: "nothing known", dead: []string{"192.0.2.2"}, want: "db1.h. 30, db2.h. 30"},
		{name: "one address up", taught: "db2.h. 300 A 192.0.2.2\n db2.h. 300 A 192.0.2.3", dead: []string{"192.0.2.2"}, want: "db1.h. 30, db2.h. 30"},
		{name: "open", taught: "both", dead: []string{"192.0.2.1", "192.0.2.2"}, want: "db1.h. 5, db2.h. 5"},
		{name: "fallback", options: "all_down fallback 198.51.100.1", taught: "both", dead: []string{"192.0.2.1", "192.0.2.2"}, want: "db1.h. 5, db2.h. 5"},
		{name: "nodata", options: "all_down nodata", taught: "both", dead: []string{"192.0.2.1", "192.0.2.2"}},
		{name: "servfail", options: "all_down servfail", taught: "both", dead: []string{"192.0.2.1", "192.0.2.2"}, rcode: dns.RcodeServerFailure},
	} {
		t.Run(tc.name, func(t *testing.T) {
			freshTurns(t)
			h := judged(t, tc.options, echo, tc.dead...)
			ask(t, h, message(t, "s.h. SRV", srv)) // before the addresses are known
			if tc.taught == "both" {
				ask(t, h, message(t, "db1.h. A", "db1.h. 300 A 192.0.2.1"))
				tc.taught = "db2.h. 300 A 192.0.2.2"
			}
			if tc.taught != "" {
				ask(t, h, message(t, "db2.h. A", tc.taught))
			}
			out := ask(t, h, message(t, "s.h. SRV", srv))
			if got := targets(out); got != tc.want || out.Rcode != tc.rcode {
				t.Errorf("%s, rcode %d; want %s, rcode %d", got, out.Rcode, tc.want, tc.rcode)
			}
			if soa := len(out.Ns) == 1 && out.Ns[0].Header().Rrtype == dns.TypeSOA; soa != (tc.name == "nodata") {
				t.Errorf("authority %v", out.Ns)
			}
		})
	}
}

// While a first verdict is awaited the TTL is the lower one, and no longer.
func TestTTLBeforeTheFirstVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		freshTurns(t)
		h := judged(t, "", echo)
		m := message(t, "new.h. A", "new.h. 300 A 192.0.2.1\n new.h. 300 A 192.0.2.2")
		v := verdictsOf(h.(*Balance).rules.of(m))
		v.awaited = map[netip.AddrPort]time.Time{withoutPort(a2): time.Now().Add(4 * time.Second)}
		for range 3 {
			if got := targets(ask(t, h, m)); got != "192.0.2.1 5, 192.0.2.2 5" {
				t.Errorf("at first: %s", got)
			}
		}
		wait(4 * time.Second)
		v.awaited = nil
		for range 3 {
			if got := targets(ask(t, h, m)); got != "192.0.2.1 30, 192.0.2.2 30" {
				t.Errorf("after four seconds: %s", got)
			}
		}
	})
}

// The additional section of a single SRV record is treated as that of several.
func TestGlueOfASingleRecord(t *testing.T) {
	freshTurns(t)
	h := newHandler(t, "balance {\n answers 1\n ttl 5\n}", echo)
	leads := map[string]int{}
	for range 9 {
		m := message(t, "one.h. SRV", "one.h. 300 SRV 1 1 80 db.h.")
		m.Extra = records(t, "db.h. 300 A 192.0.2.1\n db.h. 300 A 192.0.2.2\n db.h. 300 A 192.0.2.3")
		out := ask(t, h, m)
		if len(out.Extra) != 1 || out.Extra[0].Header().Ttl != 5 {
			t.Fatalf("additional section %v, want one address with TTL 5", out.Extra)
		}
		leads[out.Extra[0].(*dns.A).A.String()]++
	}
	if fmt.Sprint(leads) != "map[192.0.2.1:3 192.0.2.2:3 192.0.2.3:3]" {
		t.Errorf("leads %v", leads)
	}
}

// Addresses of name servers take turns, and are neither judged nor removed.
func TestGlueOfNameServers(t *testing.T) {
	for name, m := range map[string]*dns.Msg{
		"referral": message(t, "www.child.h. A", ""), "apex": message(t, "h. NS", "h. NS ns1.h.\n h. NS ns2.h."),
	} {
		freshTurns(t)
		m.Ns = records(t, "child.h. NS ns1.h.\n child.h. NS ns2.h.")
		m.Extra = records(t, "ns1.h. 300 A 192.0.2.1\n ns2.h. 300 A 192.0.2.2\n ns2.h. 300 A 192.0.2.3\n ns1.h. 300 AAAA 2001:db8::1")
		h := judged(t, "answers 1\nttl 5", echo, "192.0.2.1", "192.0.2.2")
		leads := map[string]bool{}
		for range 100 {
			out := ask(t, h, m)
			if len(out.Extra) != 4 || out.Extra[0].Header().Ttl != 300 || out.Extra[3].Header().Rrtype != dns.TypeAAAA {
				t.Fatalf("%s: additional section %v", name, out.Extra)
			}
			leads[out.Extra[0].(*dns.A).A.String()] = true
		}
		if len(leads) != 3 {
			t.Errorf("%s: led by %v, want each of three", name, leads)
		}
	}
}

// An answer that is to fit holds as many addresses as the client takes, at least one, in exact
// turns.
func TestAnswersFit(t *testing.T) {
	behindAliases := func(alias func(i int) string) string {
		var text strings.Builder
		for i := range 10 {
			fmt.Fprintf(&text, "%s 300 CNAME %s\n", alias(i), alias(i+1))
		}
		for i := range 60 {
			fmt.Fprintf(&text, "%s 300 A 192.0.2.%d\n", alias(10), i+1)
		}
		return text.String()
	}
	short := behindAliases(func(i int) string { return fmt.Sprintf("a%d.fit.", i) })
	long := behindAliases(func(i int) string { return strings.Repeat(string(rune('a'+i)), 60) + ".fit." }) // over 512 bytes alone
	for _, tc := range []struct {
		name, answer string
		size         uint16 // 0: no EDNS
		want         int
	}{
		{"without EDNS", short, 0, 19},
		{"EDNS 1232", short, 1232, 60},
		{"EDNS 1000", short, 1000, 49},
		{"no room at all", long, 0, 1},
	} {
		freshTurns(t)
		h := newHandler(t, "balance {\n answers fit\n}", plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, q *dns.Msg) (int, error) {
			m := new(dns.Msg).SetReply(q)
			m.Answer = records(t, tc.answer)
			return dns.RcodeSuccess, w.WriteMsg(m)
		}))
		q := new(dns.Msg).SetQuestion("a0.fit.", dns.TypeA)
		if tc.size > 0 {
			q.SetEdns0(tc.size, false)
		}
		seen := map[string]int{}
		for range 60 {
			out := ask(t, h, q)
			out.Compress = true
			n := 0
			for _, rr := range out.Answer {
				if a, ok := rr.(*dns.A); ok {
					seen[a.A.String()]++
					n++
				}
			}
			if n != tc.want {
				t.Fatalf("%s: %d addresses, want %d", tc.name, n, tc.want)
			}
			limit := max(int(tc.size), dns.MinMsgSize)
			if tc.size > 0 {
				limit -= 11
			}
			if got := out.Len(); tc.want > 1 && (got > limit || tc.want < 60 && got+16 <= limit) {
				t.Fatalf("%s: %d bytes, want as many addresses as fit %d", tc.name, got, limit)
			}
		}
		for addr, n := range seen {
			if n != tc.want || len(seen) != 60 {
				t.Fatalf("%s: %s appeared %d times of %d, want %d", tc.name, addr, n, len(seen), tc.want)
			}
		}
	}
}

// Over TCP an answer that is to fit holds all addresses.
func TestAnswersFitOverTCP(t *testing.T) {
	h := newHandler(t, "balance {\n answers fit\n}", echo)
	rec := dnstest.NewRecorder(&test.ResponseWriter{TCP: true})
	if _, err := h.ServeDNS(t.Context(), rec, aSet("tcp.fit.", 0, 60)); err != nil || len(rec.Msg.Answer) != 60 {
		t.Errorf("%d addresses, %v", len(rec.Msg.Answer), err)
	}
}

// An answer that is to fit leaves room for the host name that nsid adds, if the client asks for it.
func TestAnswersFitBesideNSID(t *testing.T) {
	h := newHandler(t, "balance {\n answers fit\n}", echo)
	q := aSet("nsid.fit.", 0, 60)
	q.SetEdns0(512, false)
	plain := len(ask(t, h, q).Answer)
	opt := q.IsEdns0()
	opt.Option = append(opt.Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
	if with := len(ask(t, h, q).Answer); with != plain-4 { // 64 bytes
		t.Errorf("%d addresses beside an NSID, %d without: want 4 fewer", with, plain)
	}
}
