// SPDX-License-Identifier: Apache-2.0

//go:build linux

package interop

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestHabits fills the table of how clients ask, what they keep and whether they go on to the next
// address.
func TestHabits(t *testing.T) {
	s := serve(t)
	table := table{marker: "habits", head: []string{"client", "asks", "queries for A a lookup", "4000 addresses", "keeps answers", "goes on"}}
	for _, c := range slices.Concat(lookupClients, connectClients) {
		t.Run(c.name, func(t *testing.T) {
			if c.needs != nil {
				c.needs(t)
			}
			table.add(t, func() []string {
				how, queries := asks(t, s, c)
				row := []string{c.name, how, strconv.Itoa(queries), many(t, s, c), keeps(t, s, c), "does not connect"}
				if c.goesOn != nil {
					row[5] = map[bool]string{true: "yes", false: "**no**"}[c.goesOn(t, "four.example.org")]
				}
				return row
			})
		})
	}
	table.compare(t)
}

// asks says over what a client asks, for which types and how large an answer over UDP it takes, and
// how many queries for A a lookup takes.
func asks(t *testing.T, s *server, c client) (how string, queries int) {
	t.Helper()
	questions := s.asked("four.example.org", func() { c.look(t, "four.example.org", 1) })
	protos, types, sizes := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, q := range questions {
		protos[q.proto], types[q.rrtype], sizes[q.size] = true, true, true
		if q.rrtype == "A" {
			queries++
		}
	}
	text := fmt.Sprintf("%s, %s", words(protos), words(types))
	if protos["udp"] {
		text += ", " + words(sizes) + " bytes"
	}
	return text, queries
}

func words(set map[string]bool) string {
	var all []string
	for word := range set {
		all = append(all, word)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// many says how many of 4000 addresses a client gets.
func many(t *testing.T, s *server, c client) string {
	t.Helper()
	if c.goesOn != nil {
		return "not asked"
	}
	var found [][]netip.Addr
	questions := s.asked("many.example.org", func() { found = c.look(t, "many.example.org", 1) })
	overTCP := slices.ContainsFunc(questions, func(q question) bool { return q.rrtype == "A" && q.proto != "udp" })
	how := map[bool]string{true: ", over TCP", false: ", over UDP alone"}[overTCP]
	if len(found) != 1 {
		return "none" + how
	}
	if len(found[0]) == manyAddresses {
		return "all" + how
	}
	return strconv.Itoa(len(found[0])) + how
}

// keeps says for how long a client keeps answers.
func keeps(t *testing.T, s *server, c client) string {
	t.Helper()
	if c.keep == nil {
		c.keep = c.look
	}
	const again = 4
	asked := map[string]int{}
	for _, name := range []string{"ttl300.example.org", "four.example.org"} {
		questions := s.asked(name, func() { c.keep(t, name, again) })
		for _, q := range questions {
			if q.rrtype == "A" {
				asked[name]++
			}
		}
	}
	t.Log("questions for A in 4 lookups", asked)
	switch {
	case asked["ttl300.example.org"] > 1:
		return "no"
	case asked["four.example.org"] > 1:
		return "at TTL 300, not at 0"
	}
	return "at TTL 300 and at 0"
}

// A name without AAAA records that an alias leads to: systemd-resolved asks for the A records of
// both, at once for the alias and then for its target, so that one lookup takes two turns, and of
// an even number of members every other one never leads.
func TestResolvedAsksTwiceForAnAlias(t *testing.T) {
	s := serve(t)
	nssResolve(t)
	var asked int
	var leads map[netip.Addr]int
	for range attempts {
		asked, leads = 0, map[netip.Addr]int{}
		questions := s.asked("four.example.org", func() {
			for n := range times {
				leads[look("cc")(t, fmt.Sprintf("n%d.four.example.org", n), 1)[0][0]]++
			}
		})
		for _, q := range questions {
			if q.rrtype == "A" {
				asked++
			}
		}
		if asked == 2*times && len(leads) == 2 {
			return
		}
	}
	t.Errorf("%d queries for A in %d lookups, leads %v; want two each, and two leads of four", asked, times, leads)
}

// The JVM keeps an answer for 30 seconds, whatever its TTL.
func TestJavaKeepsForThirtySeconds(t *testing.T) {
	compileJava(t)
	if got := strings.TrimSpace(run(t, nil, "java", javaArgs("", "policy", "", 1)...)); got != "30" {
		t.Errorf("the JVM keeps answers for %s seconds, want 30", got)
	}
}
