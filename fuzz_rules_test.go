// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"

	"github.com/seed-f1518d44/balance/internal/golden"

	"github.com/miekg/dns"
)

// fuzzedRules are the options that FuzzAnswers goes through, each with and without members that are
// down.
var fuzzedRules = []string{
	"",
	"answers 1\n ttl 1",
	"policy weighted\n weight 192.0.2.0/25 3\n weight 192.0.2.1 0\n weight ::/1 65535\n answers 2",
	"policy sticky\n prefer 192.0.2.2/31 ::1",
	"policy random\n tier 192.0.2.0/31\n tier ::/8\n min_healthy 50%",
	"all_down nodata",
	"all_down servfail\n answers 3",
	"all_down fallback 198.51.100.1 198.51.100.2 2001:db8::1",
	"observe\n all_down servfail",
	"slow_start 60s\n damp\n tier 192.0.2.0/31\n failback after 10m",
	"policy sticky\n slow_start 60s\n damp\n answers 1",
}

const fallbackAddresses = "198.51.100.1 198.51.100.2 2001:db8::1"

// hostileSeeds are messages that are odd in one way each.
func hostileSeeds(f *testing.F) (all [][]byte) {
	f.Helper()
	for _, text := range []string{
		"www.f. A\x00www.f. A 192.0.2.1\n www.f. A 192.0.2.2\n www.f. 5 A 192.0.2.1",
		"a.f. A\x00b.f. A 192.0.2.1\n b.f. DNAME c.f.\n a.f. CNAME b.f.\n b.f. CNAME a.f.\n b.f. A 192.0.2.2",
		"f. MX\x00f. MX 1 a.f.\n f. MX 1 b.f.\n f. MX 2 c.f.\n f. RRSIG MX 8 2 300 20300101000000 20200101000000 1 f. AAAA",
		"_s.f. SRV\x00_s.f. SRV 1 1 1 a.f.\n _s.f. SRV 1 1 1 b.f.\n b.f. AAAA ::2\n b.f. AAAA ::3",
		"f. HTTPS\x00f. HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1,192.0.2.2 ipv6hint=::1\n f. HTTPS 1 . mandatory=ipv4hint ipv4hint=192.0.2.1",
		"www.f. A\x00www.f. A 192.0.2.1",
	} {
		question, answer, _ := cutZero(text)
		m := message(f, question, answer)
		m.AuthenticatedData = true
		m.Extra = records(f, "a.f. A 192.0.2.7\n a.f. A 192.0.2.8\n a.f. AAAA ::1")
		packed, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, packed)
	}
	return all
}

// FuzzAnswers gives every kind of rule whatever an upstream may send, with members that are down.
// For whatever comes up: it stays as it was, to the octet; what goes out can be packed if that
// could; no record is invented but the fallback and the SOA of a denial; no TTL rises; and it is
// counted once, every removed record too.
func FuzzAnswers(f *testing.F) {
	for i, packed := range hostileSeeds(f) {
		f.Add(packed, uint8(i))
		f.Add(packed, uint8(i+len(fuzzedRules)))
	}
	var handlers []plugin.Handler
	for _, options := range fuzzedRules {
		handlers = append(handlers, judged(f, options, echo), judged(f, options, echo, "192.0.2.1", "192.0.2.2", "192.0.2.7", "192.0.2.8", "::1"))
	}
	f.Fuzz(func(t *testing.T, wire []byte, which uint8) {
		m := new(dns.Msg)
		if m.Unpack(wire) != nil || len(m.Question) == 0 {
			return
		}
		h := handlers[int(which)%len(handlers)]
		before, text := *m, m.String()
		sections := [][]dns.RR{slices.Clone(m.Answer), slices.Clone(m.Ns), slices.Clone(m.Extra)}
		packed, unfit := m.Pack()
		counted := newTally()
		out := ask(t, h, m)
		if again, _ := m.Pack(); m.String() != text || string(again) != string(packed) ||
			!slices.Equal(sections[0], m.Answer) || !slices.Equal(sections[1], m.Ns) || !slices.Equal(sections[2], m.Extra) || m.MsgHdr != before.MsgHdr {
			t.Fatalf("the input changed from\n%s\nto\n%s", text, m)
		}
		if _, err := out.Pack(); err != nil && unfit == nil {
			t.Fatalf("what goes out cannot be packed: %v\n%s", err, out)
		}
		counted.check(t, m, out)
		checkNothingInvented(t, m, out)
	})
}

// checkNothingInvented checks every record that goes out.
func checkNothingInvented(t *testing.T, in, out *dns.Msg) {
	t.Helper()
	for _, section := range [][2][]dns.RR{{in.Answer, out.Answer}, {in.Ns, out.Ns}, {in.Extra, out.Extra}} {
		left, ttl := make(map[string]int), make(map[string]uint32)
		for _, rr := range section[0] {
			data := dataOf(rr)
			left[data]++
			ttl[data] = max(ttl[data], rr.Header().Ttl)
		}
		for _, rr := range section[1] {
			data := dataOf(rr)
			if left[data]--; left[data] < 0 && !isOurs(rr, out) {
				t.Fatalf("%s was not in the input", rr)
			}
			if left[data] >= 0 && rr.Header().Ttl > ttl[data] {
				t.Fatalf("the TTL of %s was %d", rr, ttl[data])
			}
		}
	}
}

// isOurs reports whether a record is one of those that a rule answers with of itself.
func isOurs(rr dns.RR, out *dns.Msg) bool {
	switch rr := rr.(type) {
	case *dns.A:
		return slices.Contains(strings.Fields(fallbackAddresses), rr.A.String())
	case *dns.AAAA:
		return slices.Contains(strings.Fields(fallbackAddresses), rr.AAAA.String())
	case *dns.SOA:
		return len(out.Ns) == 1 && rr.Minttl == negativeTTL
	}
	return false
}

// tallied is what was counted.
type tallied struct{ responses, removed float64 }

// newTally returns what all rules had counted: those of a fuzz target have their zone in common.
func newTally() (sum tallied) {
	c := allCounters.of(counterLabels{zone: "."})
	for o := range c.responses {
		sum.responses += c.responses[o].value()
	}
	for why := range c.removed {
		sum.removed += c.removed[why].value()
	}
	return sum
}

// check checks what was counted since for an answer.
func (before tallied) check(t *testing.T, in, out *dns.Msg) {
	t.Helper()
	now := newTally()
	if now.responses-before.responses != 1 {
		t.Fatalf("an answer was counted %v times", now.responses-before.responses)
	}
	gone := len(in.Answer) + len(in.Extra) - len(out.Answer) - len(out.Extra)
	hints := slices.ContainsFunc(in.Answer, func(rr dns.RR) bool { return svcbOf(rr) != nil })
	if removed := now.removed - before.removed; out.Rcode == in.Rcode && slices.Equal(out.Ns, in.Ns) && !hints && removed < float64(gone) {
		t.Fatalf("%d records are gone, and %v counted", gone, removed)
	}
}

// FuzzECS has a query and an answer with any client subnet. The reply to a trusted resolver carries
// the query's, with a scope that the family has, once; no other reply is touched, nor are the
// messages.
func FuzzECS(f *testing.F) {
	f.Add(uint16(1), uint8(24), []byte{198, 51, 100, 0}, uint16(1), uint8(24), uint8(32), []byte{198, 51, 100, 0}, true)
	f.Add(uint16(2), uint8(56), []byte(net.ParseIP("2001:db8::")), uint16(2), uint8(56), uint8(128), []byte(net.ParseIP("2001:db8::")), true)
	f.Add(uint16(0), uint8(0), []byte{}, uint16(1), uint8(0), uint8(0), []byte{0, 0, 0, 0}, true)
	f.Add(uint16(1), uint8(24), []byte{198, 51, 100, 0}, uint16(1), uint8(24), uint8(255), []byte{198, 51, 100, 0}, false)
	var upstream *dns.Msg
	next := plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, _ *dns.Msg) (int, error) { return 0, w.WriteMsg(upstream) })
	h := newHandler(f, "balance {\n policy sticky 20 48\n prefer 10.0.0.0/9 from 198.51.100.0/25 2001:db8::/33\n ecs 192.0.2.53\n}", next)
	f.Fuzz(func(t *testing.T, family uint16, bits uint8, addr []byte, upFamily uint16, upBits, upScope uint8, upAddr []byte, trusted bool) {
		query := received(t, setOf("www.f.", ""), &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: family, SourceNetmask: bits, Address: addr})
		upstream = received(t, setOf("www.f.", "abc"), &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: upFamily, SourceNetmask: upBits, SourceScope: upScope, Address: upAddr})
		if query == nil || upstream == nil {
			return // nothing that can be on a wire
		}
		asked, answered, resolver := query.String(), upstream.String(), "198.51.100.1"
		if trusted {
			resolver = "192.0.2.53"
		}
		rec := dnstest.NewRecorder(&test.ResponseWriter{RemoteIP: resolver})
		if _, err := h.ServeDNS(t.Context(), rec, query); err != nil {
			t.Fatal(err)
		}
		if query.String() != asked || upstream.String() != answered {
			t.Fatal("a message was changed")
		}
		out := rec.Msg
		if _, err := out.Pack(); err != nil {
			t.Fatalf("the reply cannot be packed: %v\n%s", err, out)
		}
		if !trusted {
			if !slices.Equal(out.Extra, upstream.Extra) {
				t.Fatalf("the reply to a resolver that is not trusted was changed to\n%s", out)
			}
			return
		}
		checkSubnet(t, out, subnetOf(query.IsEdns0()))
	})
}

// checkSubnet checks that a reply has a query's client subnet, once.
func checkSubnet(t *testing.T, out *dns.Msg, want *dns.EDNS0_SUBNET) {
	t.Helper()
	var found []*dns.EDNS0_SUBNET
	for _, rr := range out.Extra {
		if opt, ok := rr.(*dns.OPT); ok {
			for _, option := range opt.Option {
				if subnet, ok := option.(*dns.EDNS0_SUBNET); ok {
					found = append(found, subnet)
				}
			}
		}
	}
	if len(found) != 1 || found[0].Family != want.Family || found[0].SourceNetmask != want.SourceNetmask || !found[0].Address.Equal(want.Address) {
		t.Fatalf("the reply has %v, want %v", found, want)
	}
	if most := map[uint16]uint8{1: 32, 2: 128}[want.Family]; found[0].SourceScope > most {
		t.Fatalf("the scope is %d of %d bits", found[0].SourceScope, most)
	}
}

// received returns a message with an option as it comes from the wire, nil if none can come so.
func received(t *testing.T, m *dns.Msg, option dns.EDNS0) *dns.Msg {
	t.Helper()
	m.SetEdns0(1232, false)
	m.IsEdns0().Option = []dns.EDNS0{option}
	packed, err := m.Pack()
	if err != nil {
		return nil
	}
	back := new(dns.Msg)
	if err := back.Unpack(packed); err != nil || subnetOf(back.IsEdns0()) == nil {
		return nil
	}
	return back
}

// FuzzCorefile reads any text in the place of stanzas. An error names a line that the text has, in
// one line; what is no error is a rule that cannot probe without bounds, and is read the same
// again.
func FuzzCorefile(f *testing.F) {
	for _, seed := range golden.Inputs(f, "testdata/corefile/*.txt") {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		input := string(content)
		if strings.ContainsRune(input, '/') && (strings.Contains(input, "weights") || strings.Contains(input, "key")) || strings.Contains(input, "overrides") {
			return // files have targets of their own
		}
		c := caddy.NewTestController("dns", input)
		c.ServerBlockKeys = []string{"dns://.:53"}
		stanzas, err := parse(c)
		if err == nil {
			err = fleetIn(c).problem()
		}
		if err != nil {
			checkParseError(t, err, input)
			return
		}
		for _, r := range stanzas {
			checkRule(t, r)
		}
		if again := parsed(input); !strings.HasPrefix(input, "block ") && again != described(stanzas) {
			t.Fatalf("read again it is\n%s, was\n%s", again, described(stanzas))
		}
	})
}

func checkParseError(t *testing.T, err error, input string) {
	t.Helper()
	text := err.Error()
	rest, ok := strings.CutPrefix(text, "Testfile:")
	number, _, _ := strings.Cut(rest, ":")
	line, notNumber := strconv.Atoi(number)
	if !ok || notNumber != nil || line < 0 || line > strings.Count(input, "\n")+1 {
		t.Fatalf("the error names no line: %s", text)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) || !utf8.ValidString(text) {
		t.Fatalf("the error is not a line of text: %q", text)
	}
}

func checkRule(t *testing.T, r *rule) {
	t.Helper()
	if len(r.zones) == 0 || r.policy == nil {
		t.Fatalf("a rule for nothing: %s", describe(r))
	}
	for _, c := range r.checks {
		bounded := c.MaxEndpoints >= 1 && c.MaxEndpoints <= 1_000_000 && c.MaxInFlight >= 1 && c.MaxInFlight <= 10_000
		if len(c.allow) == 0 || c.Timing.Timeout <= 0 || c.Timing.Timeout >= c.Timing.Interval || c.Timing.FastInterval <= 0 || !bounded {
			t.Fatalf("a check without bounds: %s", describe(r))
		}
		if key := c.Key(); strings.ContainsFunc(key+c.Name(), func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("the key is not printable: %q", fmt.Sprint(c.Name(), key))
		}
	}
}
