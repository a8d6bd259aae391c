// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// lead returns the last octet, say, of who leads: what stands behind the last dot or colon.
func lead(m *dns.Msg) string {
	data := strings.Fields(summary(m.Answer)[0])
	host := strings.TrimSuffix(data[len(data)-1], ".")
	return host[strings.LastIndexAny(host, ".:")+1:]
}

// setOf is an answer with one A record for each letter: a is 10.0.0.1, b is 10.0.0.2.
func setOf(name, letters string) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, dns.TypeA)
	for _, letter := range letters {
		m.Answer = append(m.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
			A:   []byte{10, 0, 0, byte(letter - 'a' + 1)},
		})
	}
	return m
}

// order writes the members of an answer as letters.
func order(m *dns.Msg) string {
	var b strings.Builder
	for _, rr := range m.Answer {
		b.WriteByte(rr.(*dns.A).A[3] - 1 + 'a')
	}
	return b.String()
}

func shuffled(m *dns.Msg) *dns.Msg {
	rand.Shuffle(len(m.Answer), func(i, j int) { m.Answer[i], m.Answer[j] = m.Answer[j], m.Answer[i] })
	return m
}

// Every answer is a rotation of the sorted set and leads with the member after the last.
func TestStrict(t *testing.T) {
	upstreams := map[string]func(m *dns.Msg, i int) *dns.Msg{
		"keeps its order": func(m *dns.Msg, _ int) *dns.Msg { return m },
		"reversed":        func(m *dns.Msg, _ int) *dns.Msg { slices.Reverse(m.Answer); return m },
		"shuffles":        func(m *dns.Msg, _ int) *dns.Msg { return shuffled(m) },
		"rotates": func(m *dns.Msg, i int) *dns.Msg {
			m.Answer = append(m.Answer[i%5:], m.Answer[:i%5]...)
			return m
		},
		"changes now and then": func(m *dns.Msg, i int) *dns.Msg {
			for range i / 10 % 5 {
				m.Answer = append(m.Answer[1:], m.Answer[0])
			}
			return m
		},
		"mixes case": func(m *dns.Msg, i int) *dns.Msg {
			m.Answer[i%5].Header().Name = strings.ToUpper(m.Answer[0].Header().Name)
			return m
		},
	}
	for name, upstream := range upstreams {
		t.Run(name, func(t *testing.T) {
			h := newHandler(t, "balance", echo)
			owner := strings.ReplaceAll(name, " ", "-") + ".strict."
			const cycle = "abcdeabcde"
			at := -1
			for i := range 200 {
				got := order(ask(t, h, upstream(setOf(owner, "abcde"), i)))
				if at < 0 {
					at = strings.Index(cycle, got)
				}
				if want := cycle[at%5 : at%5+5]; got != want {
					t.Fatalf("answer %d is %q, want %q", i, got, want)
				}
				at++
			}
		})
	}
}

// With many clients: each member leads as often as any other, whatever the upstream does.
func TestStrictConcurrently(t *testing.T) {
	for _, shuffles := range []bool{false, true} {
		h := newHandler(t, "balance", echo)
		const clients, each = 8, 3000
		leads := make([]map[string]int, clients)
		var wg sync.WaitGroup
		for c := range clients {
			leads[c] = map[string]int{}
			wg.Go(func() {
				for range each {
					m := setOf(fmt.Sprint(shuffles, ".concurrent."), "abc")
					if shuffles {
						shuffled(m)
					}
					leads[c][lead(ask(t, h, m))]++
				}
			})
		}
		wg.Wait()
		sum := map[string]int{}
		for _, l := range leads {
			for member, n := range l {
				sum[member] += n
			}
		}
		if want := map[string]int{"1": 8000, "2": 8000, "3": 8000}; !cmp.Equal(want, sum) {
			t.Errorf("upstream shuffles %v: leads %v, want %v", shuffles, sum, want)
		}
	}
}

// Members that come and go leave the others their place: the lead goes on behind the last one.
func TestMembersComeAndGo(t *testing.T) {
	tests := []struct {
		name  string
		steps []string // the set, then who leads its answers one by one
	}{
		{"one goes that was due", []string{"abcd:ab", "abd:dabd"}},
		{"one goes that led last", []string{"abcd:ab", "acd:cdac"}},
		{"one goes that was far", []string{"abcd:ab", "bcd:cdbc"}},
		{"the last goes", []string{"abc:abcab", "ab:ab"}},
		{"one comes behind all", []string{"abc:ab", "abcd:cdab"}},
		{"one comes before all", []string{"bcd:bc", "abcd:dabc"}},
		{"one comes in between", []string{"acd:a", "abcd:cdabcd"}},
		{"one goes and returns", []string{"abc:a", "ac:cac", "abc:abc"}},
		{"all are exchanged", []string{"abc:ab", "def:def", "abc:abc"}},
		{"down to one and back", []string{"abc:a", "b:b", "abc:bca"}},
		{"the one that was due gives way to the last", []string{"ab:ab", "bd:dbd"}},
		{"the one that was due gives way to one before it", []string{"bce:bceb", "bde:deb"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			h := newHandler(t, "balance", echo)
			owner := strings.ReplaceAll(tc.name, " ", "-") + ".change."
			first, _, _ := strings.Cut(tc.steps[0], ":")
			untilLeads(t, func() *dns.Msg { return ask(t, h, setOf(owner, first)) }, first[len(first)-1:])
			for _, step := range tc.steps {
				set, leads, _ := strings.Cut(step, ":")
				for i, want := range leads {
					if got := order(ask(t, h, shuffled(setOf(owner, set))))[:1]; got != string(want) {
						t.Fatalf("set %s: answer %d is led by %s, want %c of %q", set, i, got, want, leads)
					}
				}
			}
		})
	}
}

// So it is where verdicts have them come and go: nobody leads twice running for it, nor is passed
// over.
func TestVerdictsLeaveOthersTheirPlace(t *testing.T) {
	tests := []struct {
		name  string
		steps []string // those that are up, then who leads the answers one by one
	}{
		{"one of two goes and returns", []string{"ab:ab", "a:aa", "ab:bab"}},
		{"the other of two", []string{"ab:aba", "b:b", "ab:aba"}},
		{"it goes when it is due, over and over", []string{"ab:a", "a:a", "ab:b", "a:a", "ab:b", "a:a", "ab:ba"}},
		{"two of three go and return", []string{"abc:ab", "b:b", "abc:cab"}},
		{"one stands in for the others", []string{"abc:ab", "b:bb", "ab:ab"}},
	}
	for _, options := range []string{"policy round_robin", "policy weighted\n weight 10.0.0.0/8 7"} {
		for _, tc := range tests {
			t.Run(options[7:14]+" "+tc.name, func(t *testing.T) {
				freshTurns(t)
				all, _, _ := strings.Cut(tc.steps[0], ":")
				m := setOf("verdicts.change.", all)
				h := judged(t, options, echo)
				served := h.(*Balance).rules.of(m)
				untilLeads(t, func() *dns.Msg { return ask(t, h, m) }, all[len(all)-1:])
				for _, step := range tc.steps {
					set, leads, _ := strings.Cut(step, ":")
					var dead []string
					for _, letter := range all {
						if !strings.ContainsRune(set, letter) {
							dead = append(dead, fmt.Sprintf("10.0.0.%d", letter-'a'+1))
						}
					}
					verdictsOf(served).judge(dead...)
					for i, want := range leads {
						if got := order(ask(t, h, m))[:1]; got != string(want) {
							t.Fatalf("%s up: answer %d is led by %s, want %c of %q", set, i, got, want, leads)
						}
					}
				}
			})
		}
	}
}

// A tier that fails and returns goes on where it stood, however often the other one answered
// meanwhile.
func TestTiersKeepTheirPlace(t *testing.T) {
	for _, policy := range []string{"round_robin", "weighted"} {
		m := setOf("tiers."+policy+".change.", "abcdxy")
		h := judged(t, "policy "+policy+"\n tier 10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4", echo)
		served := h.(*Balance).rules.of(m)
		lead := func() string { return order(ask(t, h, m))[:1] }
		first, second := "abcd", "xy"
		at := strings.Index(first, lead())
		standby := -1
		for range 20 {
			verdictsOf(served).judge("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")
			for range 3 {
				got := strings.Index(second, lead())
				if standby >= 0 && got != 1-standby {
					t.Fatalf("%s: the second tier is led by %c twice", policy, second[got])
				}
				standby = got
			}
			verdictsOf(served).judge()
			for range 3 {
				at = (at + 1) % len(first)
				if got := lead(); got != first[at:at+1] {
					t.Fatalf("%s: the first tier is led by %s, want %c", policy, got, first[at])
				}
			}
		}
	}
}

// Names with the same members and other weights have plans of their own: only what is the same is
// shared.
func TestPlansOfOtherWeights(t *testing.T) {
	const names = 500
	var file strings.Builder
	for i := range names {
		fmt.Fprintf(&file, "n%d.plans.\n10.0.0.1 %d\n10.0.0.2 %d\n", i, i+1, names)
	}
	path := filepath.Join(t.TempDir(), "weights")
	writeFile(t, path, file.String())
	h := newHandler(t, "balance {\n policy weighted\n weights "+path+"\n}", echo)
	z := h.(*Balance).rules.byZone["."]
	for i := range names {
		m := setOf(fmt.Sprintf("n%d.plans.", i), "ab")
		ask(t, h, m)
		key := turnKey{where: inAnswer, rrtype: dns.TypeA, prefer: choice{line: noPreference}}
		plan := allTurns.entry(z.scope, key, m.Question[0].Name).state.Load().plan
		if got := plan.groups[0].weights; !slices.Equal(got, []uint16{uint16(i + 1), names}) {
			t.Fatalf("name %d has the weights %v, want %d and %d", i, got, i+1, names)
		}
	}
}

// untilLeads asks until an answer is led by a member, so that the next is led by the one behind.
func untilLeads(t *testing.T, ask func() *dns.Msg, member string) {
	t.Helper()
	for range 64 {
		if order(ask())[:1] == member {
			return
		}
	}
	t.Fatalf("%s never leads", member)
}

// A and AAAA, the two sections, and rules that differ in zone or listener have turns of their own.
func TestTurnsAreApart(t *testing.T) {
	a := allTurns.entry(1, turnKey{where: inAnswer, rrtype: dns.TypeA, prefer: choice{line: noPreference}}, "www.apart.")
	if allTurns.entry(1, turnKey{where: inAnswer, rrtype: dns.TypeA, prefer: choice{line: noPreference}}, "WWW.apart.") != a {
		t.Error("the same RRset has two turns")
	}
	others := map[string]*entry{
		"scope":   allTurns.entry(2, turnKey{where: inAnswer, rrtype: dns.TypeA, prefer: choice{line: noPreference}}, "www.apart."),
		"type":    allTurns.entry(1, turnKey{where: inAnswer, rrtype: dns.TypeAAAA, prefer: choice{line: noPreference}}, "www.apart."),
		"section": allTurns.entry(1, turnKey{where: inExtra, rrtype: dns.TypeA, prefer: choice{line: noPreference}}, "www.apart."),
		"line":    allTurns.entry(1, turnKey{where: inAnswer, rrtype: dns.TypeA}, "www.apart."),
		"owner":   allTurns.entry(1, turnKey{where: inAnswer, rrtype: dns.TypeA, prefer: choice{line: noPreference}}, "www2.apart."),
	}
	for what, e := range others {
		if e == a {
			t.Errorf("two RRsets that differ in their %s share their turns", what)
		}
	}
}

// A new RRset starts at a random member: of 3,000 names about a third start at each of three. By
// a binomial distribution with a standard deviation of 26, 150 off happens once in 10^8 runs.
func TestRandomStart(t *testing.T) {
	h := newHandler(t, "balance", echo)
	starts := map[string]int{}
	for i := range 3000 {
		starts[lead(ask(t, h, setOf(fmt.Sprintf("n%d.start.", i), "abc")))]++
	}
	for _, member := range []string{"1", "2", "3"} {
		if n := starts[member]; n < 850 || n > 1150 {
			t.Errorf("%s starts %d of 3000 names, want about 1000", member, n)
		}
	}
}

// RRsets in use keep their turn exactly while up to exactRRsets others come by; the memory of a
// flood of names is bounded.
func TestFlood(t *testing.T) {
	table := newTurnCache()
	key := turnKey{where: inAnswer, rrtype: dns.TypeA, prefer: choice{line: noPreference}}
	kept := make([]*entry, 100)
	for i := range kept {
		kept[i] = table.entry(1, key, fmt.Sprintf("kept%d.flood.", i))
	}
	const flood = 5 * exactRRsets
	for i := range flood {
		table.entry(1, key, fmt.Sprintf("random%d.flood.", i))
		if i%(exactRRsets-1) == 0 {
			for j := range kept {
				if table.entry(1, key, fmt.Sprintf("kept%d.flood.", j)) != kept[j] {
					t.Fatalf("name %d was forgotten although it was used within the last %d", j, exactRRsets)
				}
			}
		}
	}
	n := int64(0)
	for _, g := range table.generations.Load() {
		n += g.entries.Load()
	}
	if n > 1.25*exactRRsets+5 {
		t.Errorf("%d of %d RRsets are kept, want at most a quarter more than %d", n, flood, exactRRsets)
	}
}

// Names that a wildcard makes up cost what a counter costs, however many members they have.
func TestFloodOfLargeSets(t *testing.T) {
	h := newHandler(t, "balance", echo)
	m := addressesMsg(500)
	before := heapBytes()
	const names = 20000
	for i := range names {
		name := fmt.Sprintf("w%d.wildcard.flood.", i)
		for _, rr := range m.Answer {
			rr.Header().Name = name
		}
		ask(t, h, m)
	}
	if each := (heapBytes() - before) / names; each > 1024 {
		t.Errorf("a name of 500 members keeps %d bytes, want at most 1024", each)
	}
}

// Large sets that differ are forgotten earlier than small ones: their memory counts.
func TestFloodOfDifferentSets(t *testing.T) {
	h := newHandler(t, "balance", echo)
	before := allTurns.generations.Load()
	addr := netip.MustParseAddr("10.0.0.0")
	m := addressesMsg(200)
	for i := range exactMembers/200 + 2 {
		for _, rr := range m.Answer {
			addr = addr.Next()
			rr.Header().Name = fmt.Sprintf("d%d.different.flood.", i)
			rr.(*dns.A).A = addr.AsSlice()
		}
		ask(t, h, m)
	}
	if allTurns.generations.Load() == before {
		t.Errorf("more than %d members were kept in one generation", exactMembers)
	}
}

// Two queries for a name that nobody has asked for yet share one entry.
func TestConcurrentFirstQueries(t *testing.T) {
	for round := range 50 {
		table := newTurnCache()
		entries := make([]*entry, 8)
		var wg sync.WaitGroup
		for i := range entries {
			wg.Go(func() {
				entries[i] = table.entry(1, turnKey{}, fmt.Sprintf("r%d.first.", round))
			})
		}
		wg.Wait()
		if len(slices.Compact(entries)) != 1 {
			t.Fatal("two queries were given different entries for one name")
		}
	}
}
