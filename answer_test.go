// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// ask has a stanza's handler answer m's question with m and returns what goes out.
func ask(t testing.TB, h plugin.Handler, m *dns.Msg) *dns.Msg {
	t.Helper()
	return askFrom(t, h, m, "")
}

func askFrom(t testing.TB, h plugin.Handler, m *dns.Msg, client string) *dns.Msg {
	t.Helper()
	rec := dnstest.NewRecorder(&test.ResponseWriter{RemoteIP: client})
	if _, err := h.ServeDNS(t.Context(), rec, m); err != nil {
		t.Fatal(err)
	}
	return rec.Msg
}

// echo answers with the query itself: a test puts the answer there.
var echo = plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	return dns.RcodeSuccess, w.WriteMsg(r)
})

// records reads records, one a line.
func records(t testing.TB, text string) (rrs []dns.RR) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatalf("record %q: %v", line, err)
		}
		rrs = append(rrs, rr)
	}
	return rrs
}

// message is an answer to a question "NAME TYPE".
func message(t testing.TB, question, answer string) *dns.Msg {
	t.Helper()
	name, qtype, _ := strings.Cut(question, " ")
	m := new(dns.Msg)
	m.SetQuestion(name, dns.StringToType[qtype])
	m.Response = true
	m.Answer = records(t, answer)
	return m
}

// summary writes records short: owner, class where it is not IN, type and data.
func summary(rrs []dns.RR) []string {
	var lines []string
	for _, rr := range rrs {
		h := rr.Header()
		data := strings.TrimPrefix(rr.String(), h.String())
		rrtype := dns.TypeToString[h.Rrtype]
		if h.Class != dns.ClassINET {
			rrtype = dns.ClassToString[h.Class] + " " + rrtype
		}
		lines = append(lines, strings.TrimSuffix(h.Name, ".")+" "+rrtype+" "+data)
	}
	return lines
}

// What keeps its slot and what moves. The turn of each answer is not known, so any of the rotations
// in want will do, and over a round all of them come.
func TestSlots(t *testing.T) {
	tests := []struct {
		name     string
		question string
		answer   string
		want     [][]string
	}{
		{
			"one RRset", "www.slots. A",
			"www.slots. A 192.0.2.1\n www.slots. A 192.0.2.2\n www.slots. A 192.0.2.3",
			[][]string{
				{"www.slots A 192.0.2.1", "www.slots A 192.0.2.2", "www.slots A 192.0.2.3"},
				{"www.slots A 192.0.2.2", "www.slots A 192.0.2.3", "www.slots A 192.0.2.1"},
				{"www.slots A 192.0.2.3", "www.slots A 192.0.2.1", "www.slots A 192.0.2.2"},
			},
		},
		{
			"chain of four, A, MX in slots of their own", "a.slots. MX",
			`a.slots. CNAME b.slots.
			 b.slots. CNAME c.slots.
			 c.slots. CNAME d.slots.
			 d.slots. CNAME e.slots.
			 e.slots. MX 1 mx1.slots.
			 e.slots. A 192.0.2.9
			 e.slots. MX 1 mx2.slots.
			 e.slots. MX 2 mx3.slots.`,
			[][]string{
				{"a.slots CNAME b.slots.", "b.slots CNAME c.slots.", "c.slots CNAME d.slots.", "d.slots CNAME e.slots.", "e.slots MX 1 mx1.slots.", "e.slots A 192.0.2.9", "e.slots MX 1 mx2.slots.", "e.slots MX 2 mx3.slots."},
				{"a.slots CNAME b.slots.", "b.slots CNAME c.slots.", "c.slots CNAME d.slots.", "d.slots CNAME e.slots.", "e.slots MX 1 mx2.slots.", "e.slots A 192.0.2.9", "e.slots MX 1 mx1.slots.", "e.slots MX 2 mx3.slots."},
			},
		},
		{
			"addresses before the chain", "a2.slots. A",
			`c2.slots. A 192.0.2.1
			 b2.slots. CNAME c2.slots.
			 c2.slots. A 192.0.2.2
			 a2.slots. CNAME B2.slots.`,
			[][]string{
				{"a2.slots CNAME B2.slots.", "b2.slots CNAME c2.slots.", "c2.slots A 192.0.2.1", "c2.slots A 192.0.2.2"},
				{"a2.slots CNAME B2.slots.", "b2.slots CNAME c2.slots.", "c2.slots A 192.0.2.2", "c2.slots A 192.0.2.1"},
			},
		},
		{
			"DNAME ahead of its CNAME", "x.old.slots. A",
			`x.new.slots. A 192.0.2.1
			 x.new.slots. A 192.0.2.2
			 x.old.slots. CNAME x.new.slots.
			 old.slots. DNAME new.slots.`,
			[][]string{
				{"old.slots DNAME new.slots.", "x.old.slots CNAME x.new.slots.", "x.new.slots A 192.0.2.1", "x.new.slots A 192.0.2.2"},
				{"old.slots DNAME new.slots.", "x.old.slots CNAME x.new.slots.", "x.new.slots A 192.0.2.2", "x.new.slots A 192.0.2.1"},
			},
		},
		{
			"CNAME loop", "l1.slots. A",
			`l9.slots. A 192.0.2.1
			 l1.slots. CNAME l2.slots.
			 l2.slots. CNAME l1.slots.`,
			[][]string{{"l1.slots CNAME l2.slots.", "l2.slots CNAME l1.slots.", "l9.slots A 192.0.2.1"}},
		},
		{
			"SRV within a priority", "_s._tcp.slots. SRV",
			`_s._tcp.slots. SRV 10 5 80 a.slots.
			 _s._tcp.slots. SRV 20 5 80 c.slots.
			 _s._tcp.slots. SRV 10 5 80 b.slots.`,
			[][]string{
				{"_s._tcp.slots SRV 10 5 80 a.slots.", "_s._tcp.slots SRV 10 5 80 b.slots.", "_s._tcp.slots SRV 20 5 80 c.slots."},
				{"_s._tcp.slots SRV 10 5 80 b.slots.", "_s._tcp.slots SRV 10 5 80 a.slots.", "_s._tcp.slots SRV 20 5 80 c.slots."},
			},
		},
		{
			"two RRsets mixed", "m.slots. A",
			`m.slots. A 192.0.2.1
			 n.slots. TXT "stays"
			 n.slots. A 192.0.2.8
			 M.slots. A 192.0.2.2`,
			[][]string{
				{"m.slots A 192.0.2.1", `n.slots TXT "stays"`, "n.slots A 192.0.2.8", "M.slots A 192.0.2.2"},
				{"M.slots A 192.0.2.2", `n.slots TXT "stays"`, "n.slots A 192.0.2.8", "m.slots A 192.0.2.1"},
			},
		},
		{
			"duplicates count once and stay", "d.slots. A",
			`d.slots. A 192.0.2.1
			 d.slots. A 192.0.2.1
			 d.slots. A 192.0.2.2`,
			[][]string{
				{"d.slots A 192.0.2.1", "d.slots A 192.0.2.2", "d.slots A 192.0.2.1"},
				{"d.slots A 192.0.2.2", "d.slots A 192.0.2.1", "d.slots A 192.0.2.1"},
			},
		},
		{
			"another class keeps its place", "o.slots. A",
			`o.slots. A 192.0.2.1
			 o.slots. CH A 192.0.2.66
			 o.slots. A 192.0.2.2
			 o.slots. CH CNAME elsewhere.
			 o.slots. CH HTTPS 1 . ipv4hint=192.0.2.66,192.0.2.67
			 o.slots. CH RRSIG A 8 2 300 20300101000000 20200101000000 1 slots. AAAA`,
			[][]string{
				{"o.slots A 192.0.2.1", "o.slots CH A 192.0.2.66", "o.slots A 192.0.2.2", "o.slots CH CNAME elsewhere.", `o.slots CH HTTPS 1 . ipv4hint="192.0.2.66,192.0.2.67"`, "o.slots CH RRSIG A 8 2 300 20300101000000 20200101000000 1 slots. AAAA"},
				{"o.slots A 192.0.2.2", "o.slots CH A 192.0.2.66", "o.slots A 192.0.2.1", "o.slots CH CNAME elsewhere.", `o.slots CH HTTPS 1 . ipv4hint="192.0.2.66,192.0.2.67"`, "o.slots CH RRSIG A 8 2 300 20300101000000 20200101000000 1 slots. AAAA"},
			},
		},
		{
			"another class behind a chain that was late", "q.slots. A",
			`q2.slots. A 192.0.2.1
			 q.slots. CH CNAME q3.slots.
			 q.slots. CNAME q2.slots.`,
			[][]string{{"q.slots CNAME q2.slots.", "q2.slots A 192.0.2.1", "q.slots CH CNAME q3.slots."}},
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			h := newHandler(t, "balance", echo)
			var seen [][]string
			for range tc.want {
				m := message(t, tc.question, tc.answer)
				seen = append(seen, summary(ask(t, h, m).Answer))
			}
			slices.SortFunc(seen, slices.Compare[[]string])
			want := slices.SortedFunc(slices.Values(tc.want), slices.Compare[[]string])
			if diff := cmp.Diff(want, seen); diff != "" {
				t.Errorf("a round of answers (-want +got):\n%s", diff)
			}
		})
	}
}

// What is not an answer to choose from goes out as the very message that came up.
func TestPassedThrough(t *testing.T) {
	const three = "p.pass. A 192.0.2.1\n p.pass. A 192.0.2.2\n p.pass. A 192.0.2.3"
	tests := map[string]func(m *dns.Msg){
		"NXDOMAIN":       func(m *dns.Msg) { m.Rcode = dns.RcodeNameError },
		"SERVFAIL":       func(m *dns.Msg) { m.Rcode = dns.RcodeServerFailure },
		"notify":         func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify },
		"update":         func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate },
		"class CH":       func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS },
		"ANY":            func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeANY },
		"AXFR":           func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAXFR },
		"IXFR":           func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeIXFR },
		"truncated":      func(m *dns.Msg) { m.Truncated = true },
		"two questions":  func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) },
		"one record":     func(m *dns.Msg) { m.Answer = m.Answer[:1] },
		"no record":      func(m *dns.Msg) { m.Answer = nil },
		"no members":     func(m *dns.Msg) { m.Answer = records(t, "p.pass. TXT a\n p.pass. TXT b") },
		"another class":  func(m *dns.Msg) { m.Answer = records(t, strings.ReplaceAll(three, " A ", " CH A ")) },
		"hints of it":    func(m *dns.Msg) { m.Answer = records(t, "p.pass. CH HTTPS 1 . ipv4hint=192.0.2.1,192.0.2.2") },
		"too many":       func(m *dns.Msg) { m.Answer = slices.Repeat(m.Answer, 30000) },
		"type is a liar": func(m *dns.Msg) { m.Answer = slices.Repeat([]dns.RR{&dns.TXT{Hdr: *m.Answer[0].Header()}}, 3) },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHandler(t, "balance {\n answers 1\n ttl 1\n}", echo)
			m := message(t, "p.pass. A", three)
			change(m)
			before := *m
			if out := ask(t, h, m); out != m || !cmp.Equal(before.Answer, m.Answer) {
				t.Errorf("a message was changed that is not ours:\n%s", out)
			}
		})
	}
}

// A message without a question must not crash, no message is an error; packed bytes go out as they
// are.
func TestOddWrites(t *testing.T) {
	var written []byte
	h := newHandler(t, "balance", plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		m := r.Copy()
		m.Question = nil
		m.Answer = records(t, "o.odd. A 192.0.2.1\n o.odd. A 192.0.2.2")
		_ = w.WriteMsg(m)
		if err := w.WriteMsg(nil); err == nil {
			t.Error("no message was written without an error")
		}
		_, err := w.Write([]byte("raw"))
		return dns.RcodeSuccess, err
	}))
	w := &rawRecorder{bytes: &written}
	if _, err := h.ServeDNS(t.Context(), w, message(t, "o.odd. A", "")); err != nil || string(written) != "raw" {
		t.Errorf("wrote %q, error %v: want the bytes as they came", written, err)
	}
}

type rawRecorder struct {
	test.ResponseWriter
	bytes *[]byte
}

func (w *rawRecorder) Write(p []byte) (int, error) {
	*w.bytes = append(*w.bytes, p...)
	return len(p), nil
}

// Fifty selections over one input leave it bit-identical, for every option.
func TestInputIsBorrowed(t *testing.T) {
	for _, contender := range benchContenders {
		if !strings.HasPrefix(contender.stanza, "balance") {
			continue
		}
		t.Run(contender.name, func(t *testing.T) {
			h := newHandler(t, contender.stanza, echo)
			m := message(t, "b.borrowed. SRV", `b.borrowed. SRV 1 1 1 t.borrowed.
				b.borrowed. SRV 1 1 1 u.borrowed.
				b.borrowed. 60 RRSIG SRV 8 2 300 20300101000000 20200101000000 1 borrowed. AAAA
				b.borrowed. A 10.0.0.1
				b.borrowed. A 10.0.0.2
				c.borrowed. CNAME b.borrowed.`)
			m.Extra = records(t, "t.borrowed. A 10.0.0.1\n t.borrowed. A 10.0.0.2\n t.borrowed. 7 A 10.0.0.3")
			before, answer, extra := m.Copy(), slices.Clone(m.Answer), slices.Clone(m.Extra)
			for range 50 {
				ask(t, h, m)
			}
			if diff := cmp.Diff(before.String(), m.String()); diff != "" {
				t.Errorf("the message changed (-before +after):\n%s", diff)
			}
			if !slices.Equal(answer, m.Answer) || !slices.Equal(extra, m.Extra) {
				t.Error("the records were exchanged in the message's own slices")
			}
		})
	}
}

// The writer may be written to more than once; every message stays what it was.
func TestSecondMessage(t *testing.T) {
	var out []*dns.Msg
	h := newHandler(t, "balance {\n answers 1\n}", plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		for _, last := range []string{"1", "2"} {
			m := message(t, "s.second. A", "s.second. A 192.0.2."+last+"\n s.second. A 192.0.2.1"+last)
			m.Id = uint16(len(last))
			_ = w.WriteMsg(m)
		}
		return dns.RcodeSuccess, nil
	}))
	w := &keeper{kept: &out}
	_, _ = h.ServeDNS(t.Context(), w, message(t, "s.second. A", ""))
	if len(out) != 2 || out[0] == out[1] || out[0].Answer[0] == out[1].Answer[0] {
		t.Errorf("two messages were written, these went out: %v", out)
	}
}

type keeper struct {
	test.ResponseWriter
	kept *[]*dns.Msg
}

func (k *keeper) WriteMsg(m *dns.Msg) error {
	*k.kept = append(*k.kept, m)
	return nil
}

// AD goes where records of an unsigned RRset go, and only there.
func TestAuthenticatedData(t *testing.T) {
	const unsigned = "ad.data. A 192.0.2.1\n ad.data. A 192.0.2.2"
	const sealedSet = unsigned + "\n ad.data. RRSIG A 8 2 300 20300101000000 20200101000000 1 data. AAAA"
	tests := []struct {
		name, stanza, answer string
		wantAD               bool
		wantRecords          int
	}{
		{"ordered", "balance", unsigned, true, 2},
		{"trimmed", "balance {\n answers 1\n}", unsigned, false, 1},
		{"sealed keeps all", "balance {\n answers 1\n}", sealedSet, true, 3},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			h := newHandler(t, tc.stanza, echo)
			for range 3 {
				m := message(t, "ad.data. A", tc.answer)
				m.AuthenticatedData = true
				out := ask(t, h, m)
				if out.AuthenticatedData != tc.wantAD || len(out.Answer) != tc.wantRecords {
					t.Errorf("AD %v with %d records, want %v with %d", out.AuthenticatedData, len(out.Answer), tc.wantAD, tc.wantRecords)
				}
			}
		})
	}
}

func TestTTL(t *testing.T) {
	const sig = " RRSIG A 8 2 300 20300101000000 20200101000000 1 limits. AAAA"
	var many strings.Builder // more RRsets than are searched one by one
	for i := range 9 {
		fmt.Fprintf(&many, "n%d.limits. 300 A 192.0.2.1\n", i)
	}
	tests := []struct {
		name, stanza, answer string
		want                 []uint32
	}{
		{"kept", "balance", "t.limits. 300 A 192.0.2.1\n t.limits. 300 A 192.0.2.2", []uint32{300, 300}},
		{"lowered", "balance {\n ttl 30 5\n}", "t.limits. 300 A 192.0.2.1\n t.limits. 300 A 192.0.2.2", []uint32{30, 30}},
		{"never raised", "balance {\n ttl 30 5\n}", "t.limits. 5 A 192.0.2.1\n t.limits. 5 A 192.0.2.2", []uint32{5, 5}},
		{"the lowest of an RRset", "balance", "t.limits. 300 A 192.0.2.1\n t.limits. 20 A 192.0.2.2", []uint32{20, 20}},
		{"the signature too", "balance {\n ttl 30\n}", "t.limits. 300 A 192.0.2.1\n t.limits. 300 A 192.0.2.2\n t.limits. 300" + sig, []uint32{30, 30, 30}},
		{
			"all its signatures, however they spell the owner", "balance {\n ttl 30\n}",
			"t.limits. 300" + sig + "\n t.limits. 300 A 192.0.2.1\n t.limits. 300 A 192.0.2.2\n T.Limits. 300" + sig + "\n u.limits. 300" + sig + "\n t.limits. 300" + strings.Replace(sig, " A ", " AAAA ", 1),
			[]uint32{30, 30, 30, 30, 300, 300},
		},
		{"the signature of one of many", "balance {\n ttl 30\n}", many.String() + "t.limits. 300 A 192.0.2.1\n t.limits. 300 A 192.0.2.2\n T.limits. 300" + sig + "\n t.limits. 300" + sig, append(slices.Repeat([]uint32{300}, 9), 30, 30, 30, 30)},
		{"only what was kept", "balance {\n ttl 30\n answers 1\n}", "t.limits. 300 A 192.0.2.1\n t.limits. 300 A 192.0.2.2", []uint32{30}},
		{"every type", "balance {\n ttl 30\n}", "t.limits. 300 MX 1 a.\n t.limits. 300 MX 2 b.\n u.limits. 40 AAAA ::1\n u.limits. 40 AAAA ::2\n v.limits. SRV 1 1 1 a.\n v.limits. SRV 1 1 1 b.", []uint32{30, 30, 30, 30, 30, 30}},
		{"an only record is left alone", "balance {\n ttl 30\n}", "t.limits. 300 CNAME u.limits.\n u.limits. 300 A 192.0.2.1", []uint32{300, 300}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			h := newHandler(t, tc.stanza, echo)
			for range 3 {
				var got []uint32
				for _, rr := range ask(t, h, message(t, "t.limits. A", tc.answer)).Answer {
					got = append(got, rr.Header().Ttl)
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Fatalf("TTLs (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// A scanner, which is used for one section after the other, holds what the last one had and no
// more.
func TestScanForgets(t *testing.T) {
	rrs := records(t, "s.scan. A 192.0.2.1\n s.scan. A 192.0.2.2\n s.scan. RRSIG A 8 2 300 20300101000000 20200101000000 1 scan. AAAA")
	s := scanner{index: make(map[setKey]int)}
	for range 3 {
		s.scan(rrs)
		if len(s.sets) != 1 || len(s.stretches) != 1 || len(s.slots) != 2 || len(s.seals) != 1 || s.sets[0].seal != 1 {
			t.Fatalf("%d sets, %d stretches, %d slots and %d seals, want 1, 1, 2 and 1", len(s.sets), len(s.stretches), len(s.slots), len(s.seals))
		}
	}
}

// Records with a lowered TTL are kept from one answer to the next. If the upstream's answer changes
// in TTLs, order, members or the spelling of the owner, the reply follows it nevertheless.
func TestTTLOfAnswersThatDiffer(t *testing.T) {
	h := newHandler(t, "balance {\n ttl 30\n}", echo)
	answers := []string{
		"o.kept. 300 A 192.0.2.1\n o.kept. 299 A 192.0.2.2\n o.kept. 300 A 192.0.2.1",
		"o.kept. 300 A 192.0.2.2\n o.kept. 300 A 192.0.2.1",
		"O.kept. 300 A 192.0.2.2\n O.kept. 300 A 192.0.2.1",
		"o.kept. 300 A 192.0.2.2\n O.kept. 300 A 192.0.2.1",
		"o.kept. 31 A 192.0.2.2\n o.kept. 20 A 192.0.2.1",
		"o.kept. 30 A 192.0.2.2\n o.kept. 30 A 192.0.2.1",
	}
	others := []string{
		"o.kept. 300 A 192.0.2.3\n o.kept. 300 A 192.0.2.1",
		"o.kept. 300 A 192.0.2.1\n o.kept. 300 A 192.0.2.2",
		"o.kept. 300 AAAA 2001:db8::3\n o.kept. 300 AAAA 2001:db8::1",
	}
	for i := range 60 {
		next := answers[i/6%len(answers)]
		if i >= 48 {
			next = others[i/4%len(others)]
		}
		for _, answer := range []string{next, answers[i%len(answers)]} {
			m := message(t, "o.kept. A", answer)
			var want, got []string
			for _, rr := range m.Answer {
				lowest := dns.Copy(rr)
				for _, other := range m.Answer {
					lowest.Header().Ttl = min(30, lowest.Header().Ttl, other.Header().Ttl)
				}
				want = append(want, lowest.String())
			}
			for _, rr := range ask(t, h, m).Answer {
				got = append(got, rr.String())
			}
			slices.Sort(want)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("answer %d (-want +got):\n%s", i, diff)
			}
		}
	}
}

// An answer whose TTL is lowered costs no allocation a record, though each spells the owner anew,
// as resolvers that guard against forgery have it, or has another TTL, as a cache below does.
func TestTTLCostsNoAllocationARecord(t *testing.T) {
	const size = 64
	spellings := []string{"s.alloc.", "S.alloc.", "s.Alloc.", "S.ALLOC.", "s.aLLoc."}
	var spelled, ageing []*dns.Msg
	for i, name := range spellings {
		spelled = append(spelled, aSet(name, 0, size))
		aged := aSet("t.alloc.", size, size)
		for at, rr := range aged.Answer {
			rr.Header().Ttl = uint32(10 + i + at%2)
		}
		ageing = append(ageing, aged)
	}
	for name, tc := range map[string]struct {
		option  string
		answers []*dns.Msg
	}{
		"other spellings": {"ttl 30", spelled}, "TTLs below the limit": {"ttl 30", ageing}, "TTLs kept": {"ttl keep", ageing},
	} {
		h, next := newHandler(t, "balance {\n "+tc.option+"\n}", echo), 0
		per := testing.AllocsPerRun(100, func() {
			ask(t, h, tc.answers[next%len(tc.answers)])
			next++
		})
		if per > size/2 {
			t.Errorf("%s: %.0f allocations for %d records", name, per, size)
		}
	}
}

// Preferred targets first, in the order of the CIDRs, and each group takes turns of its own.
func TestPrefer(t *testing.T) {
	const five = `x.prefer. A 10.9.30.1
		x.prefer. A 10.9.20.2
		x.prefer. A 192.0.2.1
		x.prefer. A 10.9.20.1
		x.prefer. A 192.0.2.2`
	h := newHandler(t, "balance {\n prefer 10.9.20.0/24 10.9.30.0/24 from 10.1.0.0/16 2001:db8::/32\n}", echo)
	leads := map[string]int{}
	for range 40 {
		got := summary(askFrom(t, h, message(t, "x.prefer. A", five), "10.1.2.3").Answer)
		leads[got[0]]++
		first, last := slices.Sorted(slices.Values(got[:2])), slices.Sorted(slices.Values(got[3:]))
		if diff := cmp.Diff([]string{"x.prefer A 10.9.20.1", "x.prefer A 10.9.20.2"}, first); diff != "" {
			t.Fatalf("first group (-want +got):\n%s", diff)
		}
		if got[2] != "x.prefer A 10.9.30.1" || !slices.Equal(last, []string{"x.prefer A 192.0.2.1", "x.prefer A 192.0.2.2"}) {
			t.Fatalf("got %q", got)
		}
	}
	if want := map[string]int{"x.prefer A 10.9.20.1": 20, "x.prefer A 10.9.20.2": 20}; !cmp.Equal(want, leads) {
		t.Errorf("leads %v, want %v", leads, want)
	}
	leads = map[string]int{}
	for range 50 {
		leads[summary(askFrom(t, h, message(t, "x.prefer. A", five), "10.2.2.3").Answer)[0]]++
	}
	for lead, n := range leads {
		if n != 10 {
			t.Errorf("for another client %s leads %d of 50 answers, want 10", lead, n)
		}
	}
}

// With "answers 1" each answer holds one member, and each member has its share of them.
func TestAnswers(t *testing.T) {
	h := newHandler(t, "balance {\n answers 1\n}", echo)
	seen := map[string]int{}
	for range 3000 {
		m := message(t, "n.answers. A", "n.answers. A 192.0.2.1\n n.answers. A 192.0.2.2\n n.answers. A 192.0.2.3")
		got := summary(ask(t, h, m).Answer)
		if len(got) != 1 {
			t.Fatalf("got %q, want one record", got)
		}
		seen[got[0]]++
	}
	for _, n := range seen {
		if n != 1000 {
			t.Fatalf("answers %v, want 1000 each", seen)
		}
	}
	if got := ask(t, newHandler(t, "balance {\n answers 5\n}", echo), message(t, "m.answers. A", "m.answers. A 192.0.2.1\n m.answers. A 192.0.2.2\n m.answers. A 192.0.2.3")); len(got.Answer) != 3 {
		t.Errorf("answers 5 of 3: %d records, want 3", len(got.Answer))
	}
}

func TestAnswersEightOfTen(t *testing.T) {
	for _, policy := range policyNames(false) {
		h := newHandler(t, "balance {\n policy "+policy+"\n answers 8\n}", echo)
		sets := map[string]bool{}
		for i := range 50 {
			m := addressesMsg(10)
			rand.Shuffle(10, func(i, j int) { m.Answer[i], m.Answer[j] = m.Answer[j], m.Answer[i] })
			got := slices.Compact(slices.Sorted(slices.Values(summary(askFrom(t, h, m, fmt.Sprintf("192.0.%d.1", i)).Answer))))
			if len(got) != 8 {
				t.Fatalf("%s: %q, want eight distinct records", policy, got)
			}
			sets[strings.Join(got, ",")] = true
		}
		if len(sets) < 2 {
			t.Errorf("%s: the set never varies", policy)
		}
	}
}

// Duplicates of a member that goes out go out; those of one that does not, do not.
func TestAnswersWithDuplicates(t *testing.T) {
	h := newHandler(t, "balance {\n answers 1\n}", echo)
	for range 4 {
		got := summary(ask(t, h, message(t, "dup.answers. A", "dup.answers. A 192.0.2.1\n dup.answers. A 192.0.2.2\n dup.answers. A 192.0.2.1\n dup.answers. A 192.0.2.2")).Answer)
		if len(got) != 2 || got[0] != got[1] {
			t.Errorf("got %q, want one member and its duplicate", got)
		}
	}
}

// The additional section of an MX or SRV answer is balanced.
func TestExtra(t *testing.T) {
	const glue = "mx.extra. A 192.0.2.1\n mx.extra. A 192.0.2.2"
	h := newHandler(t, "balance", echo)
	leads := map[string]int{}
	for range 10 {
		m := message(t, "extra. MX", "extra. MX 1 mx.extra.\n extra. MX 2 mz.extra.")
		m.Extra = append(records(t, glue), &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}})
		out := ask(t, h, m)
		leads[summary(out.Extra)[0]]++
		if _, ok := out.Extra[2].(*dns.OPT); !ok {
			t.Fatal("OPT left its place")
		}
	}
	if want := map[string]int{"mx.extra A 192.0.2.1": 5, "mx.extra A 192.0.2.2": 5}; !cmp.Equal(want, leads) {
		t.Errorf("glue leads %v, want %v", leads, want)
	}
}

// The rule is that of the longest zone; a name outside of all is not ours.
func TestLongestZone(t *testing.T) {
	h := newHandler(t, "balance longest {\n answers 2\n}\nbalance one.longest "+`\111\046dd.longest bob's.longest`+" {\n answers 1\n}", echo)
	tests := map[string]int{
		"a.longest.": 2, "one.longest.": 1, "x.ONE.longest.": 1, "xone.longest.": 2, "a.shortest.": 3, `x\.one.longest.`: 2,
		`x.o\.dd.longest.`: 1, `bob\'s.longest.`: 1, // as queries spell them
	}
	for name, want := range tests {
		m := aSet(name, 0, 3)
		if got := len(ask(t, h, m).Answer); got != want {
			t.Errorf("%s: %d records, want %d", name, got, want)
		}
	}
}

// A rule that is the only one of its block holds the names of its zone and no others, as one among
// several does.
func TestOnlyZone(t *testing.T) {
	h := newHandler(t, "balance only.test {\n answers 1\n}", echo)
	tests := map[string]int{
		"only.test.": 1, "x.only.test.": 1, "X.oNLy.TesT.": 1, `x\\.only.test.`: 1, // a backslash ends the label in front of the last one
		"xonly.test.": 2, `x\.only.test.`: 2, `x\\\.only.test.`: 2, "only.test.x.": 2, "test.": 2, ".": 2,
	}
	for name, want := range tests {
		m := message(t, name+" A", name+" A 192.0.2.1\n "+name+" A 192.0.2.2")
		if got := len(ask(t, h, m).Answer); got != want {
			t.Errorf("%s: %d records, want %d", name, got, want)
		}
	}
}

// An only rule holds the names that the search among several finds it for, however they are
// spelled.
func TestOnlyZoneIsSearchedAlike(t *testing.T) {
	pieces := []string{"a", "B", "b", ".", ".", `\.`, `\\`, `\046`, `\255`}
	found := 0
	for _, zone := range []string{".", "a.", "b.a.", `\..`, `\\.a.`, `b\.a.`} {
		served := &servedRule{zoneRule: &zoneRule{zone: zone}}
		searched := rules{byZone: map[string]*servedRule{zone: served}}
		only := rules{byZone: searched.byZone, only: served}
		for number := range 9 * 9 * 9 * 9 * 9 {
			var text strings.Builder
			for left := number; left > 0; left /= len(pieces) {
				text.WriteString(pieces[left%len(pieces)])
			}
			name := text.String()
			if _, ok := dns.IsDomainName(name); !ok && name != "" {
				continue
			}
			query := &dns.Msg{Question: []dns.Question{{Name: name}}}
			want, got := searched.of(query), only.of(query)
			if want != got {
				t.Fatalf("zone %q, name %q: found among several: %v, as an only one: %v", zone, name, want != nil, got != nil)
			}
			if got != nil {
				found++
			}
		}
	}
	if found == 0 {
		t.Error("no name was in any zone")
	}
}

// A query that re-enters the server while a balance has it in hand is one turn, not two.
func TestNestedQuery(t *testing.T) {
	inner := newHandler(t, "balance", echo)
	outer := newHandler(t, "balance", plugin.HandlerFunc(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		return inner.ServeDNS(ctx, w, r)
	}))
	leads := map[string]int{}
	for range 10 { // two turns an answer would always let the same member lead
		m := message(t, "in.nested. A", "in.nested. A 192.0.2.1\n in.nested. A 192.0.2.2")
		leads[summary(ask(t, outer, m).Answer)[0]]++
	}
	if want := map[string]int{"in.nested A 192.0.2.1": 5, "in.nested A 192.0.2.2": 5}; !cmp.Equal(want, leads) {
		t.Errorf("leads %v, want %v", leads, want)
	}
}
