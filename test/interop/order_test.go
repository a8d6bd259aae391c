// SPDX-License-Identifier: Apache-2.0

//go:build linux

package interop

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// times is how often a client looks a name up: a multiple of every number of members.
const times = 12

// TestOrder fills the table of what clients make of our order.
func TestOrder(t *testing.T) {
	serve(t)
	names := []string{"four", "own", "six", "far", "both", "mixed", "own.one", "far.one"}
	table := table{marker: "order", head: append([]string{"client"}, names...)}
	for _, c := range slices.Concat(lookupClients, connectClients) {
		t.Run(c.name, func(t *testing.T) {
			if c.needs != nil {
				c.needs(t)
			}
			row := []string{c.name}
			for _, name := range names {
				found := c.look(t, name+".example.org", times)
				set, _, _ := strings.Cut(name, ".")
				row = append(row, order(memberSets[set], found))
				if strings.HasPrefix(row[len(row)-1], "un") {
					t.Log(name, found)
				}
			}
			t.Log(row)
			table.rows = append(table.rows, row)
		})
	}
	table.compare(t)
}

// order says in a word or two what became of our order, given what so many lookups found.
func order(members []netip.Addr, found [][]netip.Addr) string {
	if len(found) != times {
		return fmt.Sprintf("%d of %d failed", times-len(found), times)
	}
	var words []string
	for _, family := range []func(netip.Addr) bool{netip.Addr.Is6, netip.Addr.Is4} {
		ours := filtered(members, family)
		if len(ours) == 0 {
			continue
		}
		var lists [][]netip.Addr
		for _, f := range found {
			if l := filtered(f, family); len(l) > 0 {
				lists = append(lists, l)
			}
		}
		words = append(words, orderOf(ours, lists))
	}
	if len(words) == 2 {
		return "IPv6 " + words[0] + ", IPv4 " + words[1] + "; " + first(found)
	}
	return words[0]
}

// orderOf judges the addresses of one family.
func orderOf(members []netip.Addr, lists [][]netip.Addr) string {
	leads := map[netip.Addr]int{}
	rotations := 0
	for _, l := range lists {
		leads[l[0]]++
		if isRotation(l, members) || len(l) == 1 {
			rotations++
		}
	}
	counts := slices.Sorted(maps.Values(leads))
	even := len(leads) == len(members) && counts[len(counts)-1]-counts[0] <= 1
	switch {
	case len(lists) == 0:
		return "never"
	case even && rotations == len(lists):
		return "even"
	case len(leads) == 1 && len(lists[0]) == len(members):
		return "fixed: " + lists[0][0].String()
	case len(leads) == 1:
		return "only " + lists[0][0].String()
	case rotations < len(lists):
		return "shuffled"
	}
	return fmt.Sprintf("uneven %v", counts)
}

// first tells which family came first.
func first(found [][]netip.Addr) string {
	six := 0
	for _, f := range found {
		if f[0].Is6() {
			six++
		}
	}
	switch six {
	case len(found):
		return "IPv6 first"
	case 0:
		return "IPv4 first"
	}
	return "either first"
}

func filtered(addrs []netip.Addr, keep func(netip.Addr) bool) (kept []netip.Addr) {
	for _, a := range addrs {
		if keep(a) {
			kept = append(kept, a)
		}
	}
	return kept
}

// isRotation tells whether got is the sorted members, rotated.
func isRotation(got, members []netip.Addr) bool {
	sorted := slices.SortedFunc(slices.Values(members), netip.Addr.Compare)
	at := slices.Index(sorted, got[0])
	return at >= 0 && slices.Equal(got, slices.Concat(sorted[at:], sorted[:at]))
}
