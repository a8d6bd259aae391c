// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// freshTurns gives a test a table of turns of its own.
func freshTurns(t testing.TB) {
	t.Helper()
	before := allTurns
	allTurns = newTurnCache()
	t.Cleanup(func() { allTurns = before })
}

// keeps returns how many bytes more the process keeps after a call.
func keeps(call func()) int64 {
	before := heapBytes()
	call()
	return heapBytes() - before
}

// counted returns how many RRsets and members all generations have.
func counted() (rrsets, members int64) {
	for _, g := range allTurns.generations.Load() {
		rrsets += g.entries.Load()
		members += g.members.Load()
	}
	return rrsets, members
}

// longName returns a domain name of 255 octets, which text has four bytes for. Numbers make
// different ones.
func longName(number int) string {
	label := strings.Repeat(`\255`, 62)
	return fmt.Sprintf(`%s.%s.%s.%s\%03d\%03d\%03d.f.`, label, label, label, strings.Repeat(`\255`, 53), number>>16&255, number>>8&255, number&255)
}

// mxSet is an answer of n MX records of a name: host and rank are for a record, by its number.
func mxSet(name string, n int, host func(i int) string, rank func(i int) int) *dns.Msg {
	m := new(dns.Msg).SetQuestion(name, dns.TypeMX)
	for i := range n {
		m.Answer = append(m.Answer, &dns.MX{
			Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeMX, Class: dns.ClassINET, Ttl: 60}, Mx: host(i), Preference: uint16(rank(i)),
		})
	}
	return m
}

// aSet is an answer of n A records of a name, that follow each other from the address with a
// number.
func aSet(name string, from, n int) *dns.Msg {
	m := new(dns.Msg).SetQuestion(name, dns.TypeA)
	for i := from; i < from+n; i++ {
		m.Answer = append(m.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: []byte{10, byte(i >> 16), byte(i >> 8), byte(i)},
		})
	}
	return m
}

// Whatever an upstream answers, what is kept of it is counted, so that the table's bound is one of
// memory: an RRset takes a kilobyte at most, and what else it has is as many bytes as are counted
// for it.
func TestHostileAnswersAreCounted(t *testing.T) {
	const names = 300
	same := func(int) int { return 10 }
	tests := map[string]struct {
		options string
		answer  func(i int) []*dns.Msg
	}{
		"long owners": {"", func(i int) []*dns.Msg { return []*dns.Msg{aSet(longName(i), 0, 2)} }},
		"long owners with another TTL": {"ttl 10\n", func(i int) []*dns.Msg {
			m := aSet(longName(i), 0, 2)
			return []*dns.Msg{m, m, m} // its records are kept when they are wanted again
		}},
		"records with another TTL": {"ttl 10\n", func(i int) []*dns.Msg {
			m := aSet(fmt.Sprintf("n%d.f.", i), 100*i, 100)
			return []*dns.Msg{m, m, m}
		}},
		"long targets": {"", func(i int) []*dns.Msg {
			return []*dns.Msg{mxSet(fmt.Sprintf("n%d.f.", i), 30, func(k int) string { return longName(30*i + k) }, same)}
		}},
		"a rank for each": {"", func(i int) []*dns.Msg {
			return []*dns.Msg{mxSet(fmt.Sprintf("n%d.f.", i), 100, func(k int) string { return fmt.Sprintf("t%d-%d.f.", i, k) }, func(k int) int { return k })}
		}},
		"other ranks every time": {"", func(i int) (all []*dns.Msg) {
			for round := range 20 {
				all = append(all, mxSet(fmt.Sprintf("n%d.f.", i), 100, func(k int) string { return fmt.Sprintf("t%d-%d.f.", i, k) }, func(int) int { return round }))
			}
			return all
		}},
		"long cycles": {"policy weighted\n weight 10.0.0.0/31 254\n weight 10.0.0.2/31 257\n weight 10.1.0.0/16 256\n", // 1024 turns
			func(i int) (all []*dns.Msg) {
				for k := range 4 {
					m := aSet(fmt.Sprintf("n%d-%d.f.", i, k), 0, 4)
					m.Answer[1].(*dns.A).A = []byte{10, 1, byte(i), byte(4*(i>>8) + k)}
					all = append(all, m)
				}
				return all
			}},
		"stride trees": {"policy weighted\n weight 10.0.0.0/9 65535\n weight 10.128.0.0/9 65534\n answers 2\n",
			func(i int) []*dns.Msg {
				m := aSet(fmt.Sprintf("n%d.f.", i), 100*i, 100)
				m.Answer[1].(*dns.A).A[1] |= 128
				return []*dns.Msg{m}
			}},
		"plans that are shared and left": {"", func(i int) []*dns.Msg {
			return []*dns.Msg{aSet("first.f.", 100*i, 100), aSet(fmt.Sprintf("n%d.f.", i), 100*i, 100)}
		}},
		"sticky": {"policy sticky\n", func(i int) []*dns.Msg { return []*dns.Msg{aSet(fmt.Sprintf("n%d.f.", i), 100*i, 100)} }},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			freshTurns(t)
			h := newHandler(t, "balance {\n"+tc.options+"\n}", echo)
			grown := keeps(func() {
				for i := range names {
					for _, m := range tc.answer(i) {
						ask(t, h, m)
					}
				}
			})
			rrsets, members := counted()
			const few = 1 << 20 // bytes: the table's own, and what pools keep
			if bound := few + rrsets<<10 + members*memberSize*3/2; grown > bound {
				t.Errorf("%d bytes are kept, and %d RRsets with %d members counted: want at most %d", grown, rrsets, members, bound)
			}
			if rrsets < names || members > grown {
				t.Errorf("%d RRsets with %d members are counted for %d bytes", rrsets, members, grown)
			}
		})
	}
}

// What is no longer kept is no longer counted: an RRset whose members change all the time does not
// make the table forget others.
func TestMembersThatLeaveAreNotCounted(t *testing.T) {
	freshTurns(t)
	h := newHandler(t, "balance", echo)
	for i := range 1000 {
		ask(t, h, aSet("changing.f.", i, 50))
	}
	if _, members := counted(); members > 100 {
		t.Errorf("%d members are counted for an RRset of 50", members)
	}
}

// RRsets that are in the table can grow: that too is bounded.
func TestKnownRRsetsGrow(t *testing.T) {
	freshTurns(t)
	h := newHandler(t, "balance", echo)
	const names, size = 250, 4000
	for i := range names {
		ask(t, h, aSet(fmt.Sprintf("n%d.f.", i), 2*i, 2))
	}
	for i := range names {
		ask(t, h, aSet(fmt.Sprintf("n%d.f.", i), size*i, size))
		// Every generation may pass its share by the RRset that filled it.
		const most = (1 + olderGenerations) * (exactMembers/olderGenerations + size)
		if _, members := counted(); members > most {
			t.Fatalf("%d members are counted, want at most %d", members, most)
		}
	}
}

// hostile returns the answers whose shape costs most to work out, each of 64 KiB at most.
func hostile(tb testing.TB) map[string][]*dns.Msg {
	tb.Helper()
	all := map[string][]*dns.Msg{}
	for round := range 2 { // with other data every time
		other := func(i int) int { return 4000*round + i }
		one := func(int) int { return 10 }
		all["ranks"] = append(all["ranks"], mxSet("r.f.", 4000, func(i int) string { return fmt.Sprintf("t%d.", i) }, other))
		all["upper case"] = append(all["upper case"], mxSet("u.f.", 2000, func(i int) string { return fmt.Sprintf("TARGET%d.F.", other(i)) }, one))
		all["long targets"] = append(all["long targets"], mxSet("l.f.", 240, func(i int) string { return longName(other(i)) }, one))
		all["addresses"] = append(all["addresses"], aSet("a.f.", 4000*round, 4000))
		owners, signed, hints := aSet("o.f.", 0, 1), aSet("s.f.", 0, 1), new(dns.Msg).SetQuestion("h.f.", dns.TypeHTTPS)
		for i := range 1400 {
			owner := fmt.Sprintf("o%d-%d.f.", round, i)
			owners.Answer = append(owners.Answer, aSet(owner, 0, 2).Answer...)
			signed.Answer = append(signed.Answer, aSet(owner, 0, 1).Answer[0], emptySignature(owner, dns.TypeA))
			hints.Answer = append(hints.Answer, records(tb, fmt.Sprintf("h.f. 60 HTTPS 1 . ipv4hint=10.0.%d.%d,10.1.0.%d", i>>8, i&255, round))...)
		}
		all["owners"], all["signatures"], all["hints"] = append(all["owners"], owners), append(all["signatures"], signed), append(all["hints"], hints)
		chain := new(dns.Msg).SetQuestion("c0.f.", dns.TypeA)
		chain.Answer = aSet("c3000.f.", 0, 2).Answer
		for i := range 3000 {
			chain.Answer = append(chain.Answer, &dns.CNAME{Hdr: dns.RR_Header{Name: fmt.Sprintf("c%d.f.", 2999-i), Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: fmt.Sprintf("c%d.f.", 3000-i)})
		}
		all["chain"] = append(all["chain"], chain)
		all["deep chain"] = append(all["deep chain"], deepChain())
		all["signed sets"] = append(all["signed sets"], signedSets(1000))
		all["signed hints"] = append(all["signed hints"], signedHintsOf(1000))
	}
	return all
}

// deepChain is a chain of names with 122 labels each, with a DNAME that every label of them may lie
// under.
func deepChain() *dns.Msg {
	name := func(i int) string { return fmt.Sprintf("%d.%sf.", i, strings.Repeat("x.", 120)) }
	m := new(dns.Msg).SetQuestion(name(0), dns.TypeA)
	m.Answer = append(aSet(name(2800), 0, 2).Answer, &dns.DNAME{Hdr: dns.RR_Header{Name: "other.", Rrtype: dns.TypeDNAME, Class: dns.ClassINET}, Target: "f."})
	for i := range 2800 {
		m.Answer = append(m.Answer, &dns.CNAME{Hdr: dns.RR_Header{Name: name(i), Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: name(i + 1)})
	}
	return m
}

// signedSets is n RRsets of two records with a signature each.
func signedSets(n int) *dns.Msg {
	m := new(dns.Msg).SetQuestion("s.f.", dns.TypeA)
	for i := range n {
		owner := fmt.Sprintf("%s.%d.f.", strings.Repeat("x", 20), i)
		m.Answer = append(m.Answer, aSet(owner, 0, 2).Answer...)
		m.Answer = append(m.Answer, emptySignature(owner, dns.TypeA))
	}
	return m
}

// signedHintsOf is n HTTPS records with hints, and as many signatures of another name, which
// differs from theirs near its end.
func signedHintsOf(n int) *dns.Msg {
	label := strings.Repeat("x", 60)
	name := strings.Join([]string{label, label, label, label}, ".")
	m := new(dns.Msg).SetQuestion(name+".a.", dns.TypeHTTPS)
	for i := range n {
		m.Answer = append(m.Answer, &dns.HTTPS{SVCB: dns.SVCB{
			Hdr: dns.RR_Header{Name: name + ".a.", Rrtype: dns.TypeHTTPS, Class: dns.ClassINET, Ttl: 60}, Priority: 1, Target: ".",
			Value: []dns.SVCBKeyValue{&dns.SVCBIPv4Hint{Hint: []net.IP{{10, 0, byte(i >> 8), byte(i)}}}},
		}}, emptySignature(name+".b.", dns.TypeHTTPS))
	}
	return m
}

func emptySignature(owner string, covered uint16) *dns.RRSIG {
	return &dns.RRSIG{Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypeRRSIG, Class: dns.ClassINET, Ttl: 60}, TypeCovered: covered, SignerName: "."}
}

// BenchmarkHostileAnswers has beside each answer what it costs to unpack it, which a server that
// forwards does anyway.
func BenchmarkHostileAnswers(b *testing.B) {
	for name, answers := range hostile(b) {
		b.Run(name+"/balance", func(b *testing.B) {
			h := newHandler(b, "balance {\n health_check tcp 80 {\n allow 192.0.2.0/24\n }\n}", echo)
			for i := 0; b.Loop(); i++ {
				ask(b, h, answers[i%2])
			}
		})
		b.Run(name+"/unpack", func(b *testing.B) {
			answers[0].Compress = true
			packed, err := answers[0].Pack()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(len(packed)), "octets")
			for b.Loop() {
				if err := new(dns.Msg).Unpack(packed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// heapBytes returns what the process keeps.
func heapBytes() int64 {
	runtime.GC()
	runtime.GC() // pools keep for one collection what others left in them
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
