// SPDX-License-Identifier: Apache-2.0

//go:build linux

package interop

import (
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// times is how often a client looks a name up: a multiple of every number of members.
const times = 12

// columns are the names that are looked up, and what the document calls them.
var columns = [][2]string{
	{"four", "IPv4"}, {"own", "IPv4, some near"}, {"six", "IPv6, one /64"}, {"far", "IPv6, some nearer"},
	{"both", "both families"}, {"mixed", "both, some IPv4 near"}, {"own.one", "IPv4, some near, `answers 1`"}, {"far.one", "IPv6, some nearer, `answers 1`"},
}

func columnHeads() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, c := range columns {
			if !yield(c[1]) {
				return
			}
		}
	}
}

// TestOrder fills the table of what clients make of our order.
func TestOrder(t *testing.T) {
	serve(t)
	table := table{marker: "order", head: append([]string{"client"}, slices.Collect(columnHeads())...)}
	for _, c := range slices.Concat(lookupClients, connectClients) {
		t.Run(c.name, func(t *testing.T) {
			if c.needs != nil {
				c.needs(t)
			}
			table.add(t, func() []string {
				row := []string{c.name}
				for _, column := range columns {
					found := c.look(t, column[0]+".example.org", times)
					set, _, _ := strings.Cut(column[0], ".")
					row = append(row, order(memberSets[set], found))
					if t.Failed() || !strings.Contains(row[len(row)-1], "even") {
						t.Log(column[0], found)
					}
				}
				return row
			})
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
		return first(found) + "; IPv6 " + words[0] + ", IPv4 " + words[1]
	}
	return words[0]
}

// orderOf judges the addresses of one family. The first member is the nearest, where one is.
func orderOf(members []netip.Addr, lists [][]netip.Addr) string {
	if len(lists) == 0 {
		return "never"
	}
	leads := map[netip.Addr]int{}
	rotations, give := 0, 0
	for _, l := range lists {
		leads[l[0]]++
		if len(l) == 1 {
			give = 2 // a client that connects may find an address slow and take the next
		}
		if isRotation(l, members) || len(l) == 1 {
			rotations++
		}
	}
	counts := slices.Sorted(maps.Values(leads))
	switch {
	case len(leads) == 1 && lists[0][0] == members[0] && apart(members):
		return "**nearest**"
	case rotations < len(lists):
		return "**shuffled**"
	case len(leads) < len(members):
		return fmt.Sprintf("**%d of %d**", len(leads), len(members))
	case counts[len(counts)-1]-counts[0] > give:
		return fmt.Sprintf("**uneven %v**", counts)
	}
	return "even"
}

// apart reports whether members are not equally far from the client.
func apart(members []netip.Addr) bool {
	prefix := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()/2).Masked() }
	return slices.ContainsFunc(members, func(a netip.Addr) bool { return prefix(a) != prefix(members[0]) })
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

// isRotation reports whether got is the sorted members, rotated.
func isRotation(got, members []netip.Addr) bool {
	sorted := slices.SortedFunc(slices.Values(members), netip.Addr.Compare)
	at := slices.Index(sorted, got[0])
	return at >= 0 && slices.Equal(got, slices.Concat(sorted[at:], sorted[:at]))
}
