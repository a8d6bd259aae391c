// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/seed-f1518d44/balance/internal/health"
	"github.com/seed-f1518d44/balance/internal/statuspage"

	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
)

// judged returns a handler with a health_check and some more options, to which the verdicts on the
// addresses in down are known. Nothing is probed.
func judged(t testing.TB, options string, next plugin.Handler, dead ...string) plugin.Handler {
	t.Helper()
	h := newHandler(t, "balance {\n health_check tcp 80 {\n allow 0.0.0.0/0 ::/0\n }\n"+options+"\n}", next)
	for _, served := range h.(*Balance).rules.byZone {
		v := &verdicts{rule: served.rule, allow: served.checks[0].allow, known: map[netip.AddrPort]health.Endpoint{}, seen: map[netip.AddrPort]bool{}}
		served.subscriptions = []subscription{v}
		v.judge(dead...)
	}
	return h
}

// verdictsOf returns what a test says of the endpoints of a rule.
func verdictsOf(z *servedRule) *verdicts { return z.subscriptions[0].(*verdicts) }

func TestDownMembersLeave(t *testing.T) {
	tests := []struct {
		name, options, question, answer string
		dead                            string
		want                            string // records, owner type data ttl, sorted
	}{
		{
			name: "one of three", question: "www.h. A", answer: "www.h. 300 A 192.0.2.1\n www.h. 300 A 192.0.2.2\n www.h. 300 A 192.0.2.3",
			dead: "192.0.2.2", want: "192.0.2.1 5, 192.0.2.3 5",
		},
		{
			name: "none", question: "www.h. A", answer: "www.h. 300 A 192.0.2.1\n www.h. 300 A 192.0.2.2",
			want: "192.0.2.1 30, 192.0.2.2 30",
		},
		{
			name: "a low TTL stays", question: "www.h. A", answer: "www.h. 3 A 192.0.2.1\n www.h. 3 A 192.0.2.2",
			dead: "192.0.2.2", want: "192.0.2.1 3",
		},
		{
			name: "ttl", options: "ttl 60 10", question: "www.h. A", answer: "www.h. 300 A 192.0.2.1\n www.h. 300 A 192.0.2.2",
			dead: "192.0.2.2", want: "192.0.2.1 10",
		},
		{
			name: "ttl keep", options: "ttl keep", question: "www.h. A", answer: "www.h. 300 A 192.0.2.1\n www.h. 300 A 192.0.2.2",
			dead: "192.0.2.2", want: "192.0.2.1 300",
		},
		{
			name: "all down: open", question: "www.h. A", answer: "www.h. 300 A 192.0.2.1\n www.h. 300 A 192.0.2.2",
			dead: "192.0.2.1 192.0.2.2", want: "192.0.2.1 5, 192.0.2.2 5",
		},
		{
			name: "an only record", question: "www.h. A", answer: "www.h. 300 A 192.0.2.1", dead: "192.0.2.1", want: "192.0.2.1 300",
		},
		{
			name: "A and AAAA apart", question: "www.h. AAAA", answer: "www.h. 300 AAAA 2001:db8::1\n www.h. 300 AAAA 2001:db8::2",
			dead: "192.0.2.1 192.0.2.2", want: "2001:db8::1 30, 2001:db8::2 30",
		},
		{
			name: "mapped", question: "www.h. AAAA", answer: "www.h. 300 AAAA ::ffff:192.0.2.1\n www.h. 300 AAAA 2001:db8::2",
			dead: "192.0.2.1", want: "2001:db8::2 5",
		},
		{
			name: "behind a chain", question: "a.h. A", answer: "a.h. 300 CNAME www.h.\n www.h. 300 A 192.0.2.1\n www.h. 300 A 192.0.2.2",
			dead: "192.0.2.2", want: "192.0.2.1 5, www.h. 300",
		},
		{
			name: "standby", options: "policy weighted\n weight 192.0.2.3 0", question: "www.h. A",
			answer: "www.h. 300 A 192.0.2.1\n www.h. 300 A 192.0.2.2\n www.h. 300 A 192.0.2.3",
			want:   "192.0.2.1 30, 192.0.2.2 30",
		},
		{
			name: "standby serves", options: "policy weighted\n weight 192.0.2.3 0", question: "www.h. A",
			answer: "www.h. 300 A 192.0.2.1\n www.h. 300 A 192.0.2.2\n www.h. 300 A 192.0.2.3",
			dead:   "192.0.2.1 192.0.2.2", want: "192.0.2.3 5",
		},
		{
			name: "tiers", options: "tier 192.0.2.1\n tier 192.0.2.2 192.0.2.3", question: "www.h. A",
			answer: "www.h. 300 A 192.0.2.1\n www.h. 300 A 192.0.2.2\n www.h. 300 A 192.0.2.3\n www.h. 300 A 192.0.2.4",
			dead:   "192.0.2.1 192.0.2.2", want: "192.0.2.3 5",
		},
		{
			name: "tiers, all down", options: "tier 192.0.2.1\n tier 192.0.2.2 192.0.2.3", question: "www.h. A",
			answer: "www.h. 300 A 192.0.2.1\n www.h. 300 A 192.0.2.2\n www.h. 300 A 192.0.2.3",
			dead:   "192.0.2.1 192.0.2.2 192.0.2.3", want: "192.0.2.1 5",
		},
		{
			name: "tiers, the first", options: "tier 192.0.2.1\n tier 192.0.2.2 192.0.2.3", question: "www.h. A",
			answer: "www.h. 300 A 192.0.2.1\n www.h. 300 A 192.0.2.2\n www.h. 300 A 192.0.2.3", dead: "192.0.2.3", want: "192.0.2.1 30",
		},
		{
			name: "min_healthy", options: "tier 192.0.2.1 192.0.2.2\n min_healthy 2", question: "www.h. A",
			answer: "www.h. 300 A 192.0.2.1\n www.h. 300 A 192.0.2.2\n www.h. 300 A 192.0.2.3\n www.h. 300 A 192.0.2.4",
			dead:   "192.0.2.1", want: "192.0.2.3 5, 192.0.2.4 5",
		},
		{
			name: "answers", options: "answers 1", question: "www.h. A", answer: "www.h. 300 A 192.0.2.1\n www.h. 300 A 192.0.2.2",
			dead: "192.0.2.1", want: "192.0.2.2 5",
		},
		{
			name: "prefer", options: "prefer 192.0.2.1\n answers 1", question: "www.h. A", answer: "www.h. 300 A 192.0.2.1\n www.h. 300 A 192.0.2.2",
			dead: "192.0.2.1", want: "192.0.2.2 5",
		},
		{
			name: "fallback", options: "all_down fallback 198.51.100.1 198.51.100.2 2001:db8::9", question: "www.h. A",
			answer: "www.h. 300 A 192.0.2.1", dead: "192.0.2.1", want: "198.51.100.1 5, 198.51.100.2 5",
		},
		{
			name: "fallback, AAAA", options: "all_down fallback 198.51.100.1 2001:db8::9", question: "www.h. AAAA",
			answer: "www.h. 300 AAAA 2001:db8::1\n www.h. 300 AAAA 2001:db8::2", dead: "2001:db8::1 2001:db8::2", want: "2001:db8::9 5",
		},
		{
			name: "fallback is not needed", options: "all_down fallback 198.51.100.1", question: "www.h. A",
			answer: "www.h. 300 A 192.0.2.1", want: "192.0.2.1 30",
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			m := message(t, tc.question, tc.answer)
			before := m.String()
			h := judged(t, tc.options, echo, strings.Fields(tc.dead)...)
			for range 6 {
				out := ask(t, h, m)
				if got := targets(out); got != tc.want || out.Rcode != dns.RcodeSuccess || len(out.Ns) != 0 {
					t.Fatalf("answer is %s, want %s:\n%s", got, tc.want, out)
				}
			}
			if m.String() != before {
				t.Errorf("the input changed to\n%s", m)
			}
		})
	}
}

// targets writes the data and TTLs of an answer, sorted.
func targets(m *dns.Msg) string {
	var words []string
	for _, rr := range m.Answer {
		fields := strings.Fields(rr.String())
		words = append(words, fmt.Sprintf("%s %s", fields[len(fields)-1], fields[1]))
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

func TestAllDownDenials(t *testing.T) {
	all := []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"}
	chain := "a.h. 300 CNAME www.h.\n www.h. 300 A 192.0.2.1\n www.h. 300 A 192.0.2.2"
	tests := []struct {
		name, options, question, answer string
		rcode                           int
		left                            string
		soa                             bool
	}{
		{"nodata", "all_down nodata", "www.h. A", "www.h. 300 A 192.0.2.1\n www.h. 300 A 192.0.2.2", dns.RcodeSuccess, "", true},
		{"nodata for one", "all_down nodata", "www.h. A", "www.h. 300 A 192.0.2.1", dns.RcodeSuccess, "", true},
		{"nodata behind a chain", "all_down nodata", "a.h. A", chain, dns.RcodeSuccess, "www.h. 300", true},
		{"servfail", "all_down servfail", "www.h. A", "www.h. 300 A 192.0.2.1\n www.h. 300 A 192.0.2.2", dns.RcodeServerFailure, "", false},
		{"servfail for one", "all_down servfail", "www.h. A", "www.h. 300 A 192.0.2.1", dns.RcodeServerFailure, "", false},
		{"servfail behind a chain", "all_down servfail", "a.h. A", chain, dns.RcodeServerFailure, "", false},
		{"no fallback of the family", "all_down fallback 198.51.100.1", "www.h. AAAA", "www.h. 300 AAAA 2001:db8::1", dns.RcodeSuccess, "", true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			m := message(t, tc.question, tc.answer)
			m.AuthenticatedData = true
			m.Ns = records(t, "h. NS ns.h.")
			m.Extra = append(records(t, "ns.h. A 192.0.2.53"), &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}})
			before := m.String()
			out := ask(t, judged(t, tc.options, echo, all...), m)
			if out.Rcode != tc.rcode || targets(out) != tc.left || out.AuthenticatedData {
				t.Errorf("rcode %d, answer %q, AD %v; want %d, %q, false", out.Rcode, targets(out), out.AuthenticatedData, tc.rcode, tc.left)
			}
			soa := len(out.Ns) == 1 && out.Ns[0].Header().Rrtype == dns.TypeSOA
			if soa != tc.soa || len(out.Ns) > 1 {
				t.Errorf("authority is %v, want an SOA: %v", out.Ns, tc.soa)
			}
			if soa && (out.Ns[0].Header().Ttl > 5 || out.Ns[0].(*dns.SOA).Minttl > 5) {
				t.Errorf("negative TTL is %v, want at most 5 s", out.Ns[0])
			}
			if len(out.Extra) != 1 || out.IsEdns0() == nil {
				t.Errorf("additional section is %v, want the OPT alone", out.Extra)
			}
			if _, err := out.Pack(); err != nil || m.String() != before {
				t.Errorf("packs: %v; the input is\n%s", err, m)
			}
		})
	}
}

// The SOA of a zone whose name is as long as names may be can be read, too.
func TestNegativeAnswersOfLongNames(t *testing.T) {
	for size := 225; size <= 254; size++ { // what text has; octets are one more
		name := strings.Repeat(strings.Repeat("a", 61)+".", 3) + strings.Repeat("b", 30) + "." + strings.Repeat("c", size-3*62-31-1) + "."
		m := message(t, name+" A", name+" 300 A 192.0.2.1")
		m.Ns = records(t, name+" NS ns.h.")
		packed, err := ask(t, judged(t, "all_down nodata", echo, "192.0.2.1"), m).Pack()
		must(t, err)
		read := new(dns.Msg)
		if err := read.Unpack(packed); err != nil || len(read.Ns) != 1 || read.Ns[0].Header().Name != name {
			t.Errorf("%d octets: authority is %v, %v", size+1, read.Ns, err)
		}
	}
}

// The SOA is that of the zone that the answer came from, not that of a rule for a name in it.
func TestNegativeAnswersAreOfTheZone(t *testing.T) {
	tests := []struct{ name, authority, want string }{
		{"no zone", "", "."}, // the rule's
		{"its zone", "Www.h. NS ns.h.", "www.h."},
		{"another zone", "other. NS ns.h.", "."},
		{"a proof", "www.h. NSEC h. A", "."},
	}
	for _, tc := range tests {
		m := message(t, "a.www.h. A", "a.www.h. 300 A 192.0.2.1")
		m.Ns = records(t, tc.authority)
		out := ask(t, judged(t, "all_down nodata", echo, "192.0.2.1"), m)
		if len(out.Ns) != 1 || out.Ns[0].Header().Rrtype != dns.TypeSOA || out.Ns[0].Header().Name != tc.want {
			t.Errorf("%s: authority is %v, want the SOA of %s", tc.name, out.Ns, tc.want)
		}
	}
}

// A signed RRset keeps its members, the dead one last; nothing is invented for it either.
func TestSealedAndDown(t *testing.T) {
	for _, options := range []string{"", "all_down nodata", "all_down servfail", "all_down fallback 198.51.100.1"} {
		m := message(t, "www.h. A", `www.h. A 192.0.2.1
			www.h. A 192.0.2.2
			www.h. A 192.0.2.3
			www.h. RRSIG A 8 2 300 20300101000000 20200101000000 1 h. AAAA`)
		m.AuthenticatedData = true
		h := judged(t, options, echo, "192.0.2.1")
		for range 4 {
			out := ask(t, h, m)
			if len(out.Answer) != 4 || out.Answer[2].(*dns.A).A.String() != "192.0.2.1" || !out.AuthenticatedData {
				t.Errorf("%s: answer is\n%s, want three records, the dead one last", options, out)
			}
			for _, rr := range out.Answer {
				if rr.Header().Ttl != 5 {
					t.Errorf("%s: TTL is %d, want 5: %s", options, rr.Header().Ttl, rr)
				}
			}
		}
		if out := ask(t, judged(t, options, echo, "192.0.2.1", "192.0.2.2", "192.0.2.3"), m); len(out.Answer) != 4 || out.Rcode != 0 {
			t.Errorf("%s: all down: answer is\n%s, want all records", options, out)
		}
	}
}

// Glue goes by the verdicts too.
func TestDownGlue(t *testing.T) {
	m := message(t, "_s.h. SRV", "_s.h. SRV 1 1 80 a.h.\n _s.h. SRV 1 1 80 b.h.")
	m.Extra = records(t, "a.h. A 192.0.2.1\n a.h. A 192.0.2.2\n b.h. A 192.0.2.3")
	out := ask(t, judged(t, "all_down nodata", echo, "192.0.2.2"), m)
	var left []string
	for _, rr := range out.Extra {
		left = append(left, rr.(*dns.A).A.String())
	}
	if !slices.Equal(left, []string{"192.0.2.1", "192.0.2.3"}) || len(out.Answer) != 2 {
		t.Errorf("glue is %v of %d SRV, want the live address of the first target and that of the second", left, len(out.Answer))
	}
}

// A verdict acts on the very next answer, and the turn of the others goes on.
func TestVerdictActsAtOnce(t *testing.T) {
	m := addressesMsg(3)
	h := judged(t, "", answering(m))
	served := h.(*Balance).rules.of(m)
	lead := func() string { return ask(t, h, m).Answer[0].(*dns.A).A.String() }
	lead()
	verdictsOf(served).judge()
	first := lead()
	verdictsOf(served).judge(first)
	seen := map[string]int{}
	for range 10 {
		seen[lead()]++
	}
	if seen[first] != 0 || len(seen) != 2 || seen["10.0.0.1"]+seen["10.0.0.2"]+seen["10.0.0.3"] != 10 {
		t.Errorf("with %s down the leads are %v", first, seen)
	}
	for addr, n := range seen {
		if n != 5 {
			t.Errorf("%s led %d of 10 answers, want 5", addr, n)
		}
	}
}

// Answers teach endpoints, an only record's too, and glue; nothing else does.
func TestEndpointsAreLearned(t *testing.T) {
	h := judged(t, "", echo)
	v := verdictsOf(h.(*Balance).rules.byZone["."])
	ask(t, h, message(t, "one.h. A", "one.h. A 192.0.2.1"))
	ask(t, h, message(t, "two.h. AAAA", "two.h. AAAA 2001:db8::1\n two.h. AAAA ::ffff:192.0.2.2"))
	srv := message(t, "_s.h. SRV", "_s.h. SRV 1 1 80 a.h.")
	srv.Extra = records(t, "a.h. A 192.0.2.3")
	ask(t, h, srv)
	ask(t, h, message(t, "x.h. ANY", "x.h. A 192.0.2.66\n x.h. A 192.0.2.67"))
	loop := message(t, "x.h. A", "x.h. A 127.0.0.1\n x.h. A 169.254.169.254")
	ask(t, h, loop)
	nx := message(t, "x.h. A", "x.h. A 192.0.2.68")
	nx.Rcode = dns.RcodeNameError
	ask(t, h, nx)
	var learned []string
	for at := range v.seen {
		learned = append(learned, at.Addr().String())
	}
	slices.Sort(learned)
	if want := []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"}; !slices.Equal(learned, want) {
		t.Errorf("learned %v, want %v", learned, want)
	}
}

// An allow line that misses the backends is said once in the log and on the page, and counted; one
// that another check makes up for is not.
func TestUncheckedMembersAreSaid(t *testing.T) {
	defer inUse.forget()
	const text = "no health_check allows 192.0.2.1"
	for name, tc := range map[string]struct {
		allow []string
		said  bool
	}{
		"missed":          {[]string{"198.51.100.0/24"}, true},
		"by one of two":   {[]string{"198.51.100.0/24", "192.0.2.0/24"}, false},
		"by both":         {[]string{"198.51.100.0/24", "203.0.113.0/24"}, true},
		"where they lie":  {[]string{"192.0.2.0/24"}, false},
		"without a check": {nil, false},
	} {
		logged := captureLog(t)
		owner := strings.ReplaceAll(name, " ", "-") + ".unchecked."
		m := message(t, owner+" A", owner+" 60 IN A 192.0.2.1\n"+owner+" 60 IN A 192.0.2.2")
		h := judged(t, "status", echo)
		z := h.(*Balance).rules.of(m)
		z.subscriptions = nil
		for _, allow := range tc.allow {
			z.subscriptions = append(z.subscriptions, &verdicts{
				rule: z.rule, allow: []netip.Prefix{netip.MustParsePrefix(allow)}, seen: map[netip.AddrPort]bool{},
			})
		}
		for range 3 {
			z.epoch.Add(1)
			ask(t, h, m)
		}
		if n := strings.Count(logged.String(), text); n != map[bool]int{true: 1}[tc.said] {
			t.Errorf("%s: logged %d times:\n%s", name, n, logged)
		}
		problems := newOverview([]*life{lifeOf(h)}).document().Problems
		found := slices.ContainsFunc(problems, func(p statuspage.Problem) bool {
			return p.Kind == "unchecked" && p.Text == text+", 192.0.2.2: answered unchecked"
		})
		if found != tc.said {
			t.Errorf("%s: problems %v", name, problems)
		}
		if tc.said && z.subscriptions[0].(*verdicts).refused < 2 {
			t.Errorf("%s: %d addresses counted", name, z.subscriptions[0].(*verdicts).refused)
		}
	}
}
