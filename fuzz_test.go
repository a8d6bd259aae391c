// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"slices"
	"testing"

	"github.com/miekg/dns"
)

// FuzzWriteMsg gives the plugin whatever an upstream may send and checks what holds for every
// answer: the input is untouched, every record of the output was in the input and holds a slot of
// its kind, CNAMEs come first, and an answer that had members still has.
func FuzzWriteMsg(f *testing.F) {
	for _, seed := range []string{
		"www.f. A\x00www.f. A 192.0.2.1\n www.f. A 192.0.2.2\n www.f. A 192.0.2.1",
		"a.f. A\x00b.f. A 192.0.2.1\n a.f. CNAME b.f.\n b.f. A 192.0.2.2\n b.f. 5 A 192.0.2.3",
		"f. MX\x00f. MX 1 a.f.\n f. MX 1 b.f.\n f. MX 2 c.f.\n f. RRSIG MX 8 2 300 20300101000000 20200101000000 1 f. AAAA",
		"www.f. A\x00www.f. A 192.0.2.1\n www.f. CH A 192.0.2.2\n www.f. A 192.0.2.3\n www.f. CH CNAME a.f.",
		"_s.f. SRV\x00_s.f. SRV 1 1 1 a.f.\n x.f. AAAA ::1\n _s.f. SRV 1 1 1 b.f.\n x.f. AAAA ::2",
	} {
		question, answer, _ := cutZero(seed)
		m := message(f, question, answer)
		m.Extra = records(f, "a.f. A 192.0.2.7\n a.f. A 192.0.2.8")
		packed, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed, uint8(0))
	}
	stanzas := []string{"balance", "balance {\n answers 2\n ttl 10\n}", "balance {\n policy random\n prefer 192.0.2.2/31\n}",
		"balance {\n policy weighted\n weight 192.0.2.2/31 3\n weight 192.0.2.1 0\n answers 2\n}"}
	f.Fuzz(func(t *testing.T, packed []byte, which uint8) {
		m := new(dns.Msg)
		if m.Unpack(packed) != nil || len(m.Question) == 0 {
			return
		}
		h := newHandler(t, stanzas[int(which)%len(stanzas)], echo)
		before, answer, extra := m.String(), slices.Clone(m.Answer), slices.Clone(m.Extra)
		for range 3 {
			out := ask(t, h, m)
			if m.String() != before || !slices.Equal(answer, m.Answer) || !slices.Equal(extra, m.Extra) {
				t.Fatalf("the input changed from\n%s\nto\n%s", before, m)
			}
			if !h.(*Balance).rules.of(m).balances(m) {
				if out != m {
					t.Fatalf("not ours to balance, but changed:\n%s", m)
				}
				continue
			}
			checkSection(t, m.Answer, out.Answer)
			checkSection(t, m.Extra, out.Extra)
			if chainIsLate(m.Answer) {
				if chainIsLate(out.Answer) {
					t.Fatalf("a CNAME is still behind an address:\n%s", out)
				}
				continue
			}
			checkSlots(t, m.Answer, out.Answer)
			checkSlots(t, m.Extra, out.Extra)
			if !slices.Equal(m.Ns, out.Ns) {
				t.Fatal("the authority section changed")
			}
		}
	})
}

func cutZero(s string) (before, after string, found bool) {
	for i := range len(s) {
		if s[i] == 0 {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// checkSection checks that out is what may become of in.
func checkSection(t *testing.T, in, out []dns.RR) {
	t.Helper()
	left := make(map[string]int)
	members := make(map[kind]int64)
	for _, rr := range in {
		left[dataOf(rr)]++
		members[kindOf(rr)]++
	}
	for _, rr := range out {
		if left[dataOf(rr)]--; left[dataOf(rr)] < 0 {
			t.Fatalf("%s was not in the input", rr)
		}
		members[kindOf(rr)] += 1 << 32
	}
	for k, n := range members {
		if n>>32 == 0 {
			t.Fatalf("all records of kind %v are gone", k)
		}
		if k != (kind{dns.ClassINET, dns.TypeA}) && k != (kind{dns.ClassINET, dns.TypeAAAA}) && n>>32 != n&(1<<32-1) {
			t.Fatalf("a record of kind %v is gone", k)
		}
	}
}

// checkSlots checks that records of other kinds kept their slots where none was removed.
func checkSlots(t *testing.T, in, out []dns.RR) {
	t.Helper()
	if len(in) != len(out) {
		return
	}
	for i := range in {
		if kindOf(in[i]) != kindOf(out[i]) {
			t.Fatalf("slot %d held %s and holds %s", i, in[i], out[i])
		}
	}
}

func chainIsLate(rrs []dns.RR) bool {
	s := &scanner{index: make(map[setKey]int)}
	s.scan(rrs)
	return s.chainLate
}

// kind is a class and a type.
type kind struct{ class, rrtype uint16 }

// kindOf is the kind of what a record really is, whatever its header says of the type.
func kindOf(rr dns.RR) kind {
	h := rr.Header()
	switch rr.(type) {
	case *dns.A:
		return kind{h.Class, dns.TypeA}
	case *dns.AAAA:
		return kind{h.Class, dns.TypeAAAA}
	}
	return kind{h.Class, h.Rrtype}
}

// dataOf is a record without its TTL.
func dataOf(rr dns.RR) string {
	c := dns.Copy(rr)
	c.Header().Ttl = 0
	if svcb := svcbOf(c); svcb != nil {
		svcb.Value = nil // hints move
	}
	return c.String()
}
