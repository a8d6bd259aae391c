// SPDX-License-Identifier: Apache-2.0

//go:build linux

package interop

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestHabits fills the table of how clients ask, what they keep and whether they go on to the next address.
func TestHabits(t *testing.T) {
	s := serve(t)
	table := table{marker: "habits", head: []string{"client", "asks over", "4000 addresses", "keeps answers", "goes on"}}
	for _, c := range slices.Concat(lookupClients, connectClients) {
		t.Run(c.name, func(t *testing.T) {
			if c.needs != nil {
				c.needs(t)
			}
			row := []string{c.name, asks(t, s, c), many(t, s, c), keeps(t, s, c), "does not connect"}
			if c.goesOn != nil {
				row[4] = map[bool]string{true: "yes", false: "**no**"}[c.goesOn(t, "four.example.org")]
			}
			t.Log(row)
			table.rows = append(table.rows, row)
		})
	}
	table.compare(t)
}

// asks says over what a client asks, for which types, and how large an answer over UDP it takes.
func asks(t *testing.T, s *server, c client) string {
	t.Helper()
	questions := s.asked("four.example.org", func() { c.look(t, "four.example.org", 1) })
	protos, types, sizes := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, q := range questions {
		protos[q.proto], types[q.rrtype], sizes[q.size] = true, true, true
	}
	text := fmt.Sprintf("%s, %s", words(protos), words(types))
	if protos["udp"] {
		text += ", " + words(sizes) + " bytes"
	}
	return text
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
	return fmt.Sprint(len(found[0])) + how
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
	t.Log("questions for A", asked)
	switch {
	case asked["ttl300.example.org"] > 1:
		return "no"
	case asked["four.example.org"] > 1:
		return "as long as the TTL"
	}
	return "even with TTL 0"
}
