// SPDX-License-Identifier: Apache-2.0

// Package locality finds the place that an address is in: a zone, a site, a data centre. Places are
// named by an operator, address range by address range, or taken from the nodes of a Kubernetes
// cluster.
//
//	locality.go   Locality, and Table, which finds the one that an address is in
//	nodes.go      Nodes follows the nodes of a cluster
//	zones.go      what a node's zone, pod ranges and addresses say; pure
package locality

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"sync"

	"github.com/gaissmai/bart"
)

// Locality is a place. It is a number that is cheap to compare and to use as a key, and stays the
// same as long as the process runs. The zero Locality is an unknown place.
type Locality uint16

// MaxLocalities is the most names that a process can know, over all reloads.
const MaxLocalities = math.MaxUint16

// known has the names of all localities. Names are never forgotten: they come from Corefiles and
// from the labels of nodes, so there are few.
var known = struct {
	sync.RWMutex
	numbers map[string]Locality
	names   []string
}{numbers: map[string]Locality{"": 0}, names: []string{""}}

// Named returns the locality of a name. The empty name is the unknown place, and so is every new
// name beyond MaxLocalities.
func Named(name string) Locality {
	known.Lock()
	defer known.Unlock()
	l, ok := known.numbers[name]
	if !ok && len(known.names) <= MaxLocalities {
		l = Locality(len(known.names)) //nolint:gosec // at most MaxLocalities
		known.numbers[name], known.names = l, append(known.names, name)
	}
	return l
}

// Find returns the locality of a name that somebody else says, the unknown place if nothing here
// has that name.
func Find(name string) Locality {
	known.RLock()
	defer known.RUnlock()
	return known.numbers[name]
}

// Known reports whether l is a place.
func (l Locality) Known() bool { return l != 0 }

// String returns the name, which is empty for the unknown place.
func (l Locality) String() string {
	known.RLock()
	defer known.RUnlock()
	return known.names[l]
}

// Compare orders localities by name.
func (l Locality) Compare(other Locality) int { return cmp.Compare(l.String(), other.String()) }

// Range says that the addresses of a prefix are in a locality.
type Range struct {
	Prefix   netip.Prefix
	Locality Locality
}

// Table finds the locality of an address: that of the longest prefix that holds it. The zero Table
// knows none. Immutable, safe for concurrent use.
type Table struct {
	prefixes *bart.Table[Locality]
	names    []Locality // sorted
	longest  [2]int     // prefix lengths, of IPv4 and IPv6
}

// With returns a table that knows more ranges. A range of a prefix that t has already replaces it;
// of equal prefixes in ranges the last one counts. The two tables share most of their memory.
func (t Table) With(ranges []Range) Table {
	prefixes := t.prefixes
	if prefixes == nil {
		prefixes = new(bart.Table[Locality])
		for _, r := range ranges {
			prefixes.Insert(r.Prefix, r.Locality)
		}
	} else {
		for _, r := range ranges {
			prefixes = prefixes.InsertPersist(r.Prefix, r.Locality)
		}
	}
	next := Table{prefixes, slices.Clone(t.names), t.longest}
	for _, r := range ranges {
		next.names = append(next.names, r.Locality)
		family := &next.longest[0]
		if r.Prefix.Addr().Is6() {
			family = &next.longest[1]
		}
		*family = max(*family, r.Prefix.Bits())
	}
	slices.Sort(next.names)
	next.names = slices.Compact(next.names)
	slices.SortFunc(next.names, Locality.Compare)
	return next
}

// Of returns the locality of an address, the unknown one if no prefix holds it. An IPv4 address
// that is mapped to IPv6 counts as IPv4.
func (t Table) Of(addr netip.Addr) Locality {
	if t.prefixes == nil {
		return 0
	}
	l, _ := t.prefixes.Lookup(addr.Unmap())
	return l
}

// PrefixOf returns the prefix that decides the locality of an address. It reports false if there
// is none.
func (t Table) PrefixOf(addr netip.Addr) (netip.Prefix, bool) {
	if t.prefixes == nil || !addr.IsValid() {
		return netip.Prefix{}, false
	}
	addr = addr.Unmap()
	prefix, _, ok := t.prefixes.LookupPrefixLPM(netip.PrefixFrom(addr, addr.BitLen()))
	return prefix, ok
}

// Names returns the localities that the table knows, sorted by name. The caller must not change it.
func (t Table) Names() []Locality { return t.names }

// Len returns the number of prefixes.
func (t Table) Len() int {
	if t.prefixes == nil {
		return 0
	}
	return t.prefixes.Size()
}

// LongestPrefix returns the length of the longest prefix for addresses of bits bits, 32 or 128. It
// is how many bits of a client's address the table's answer can depend on (RFC 7871, section
// 7.2.1).
func (t Table) LongestPrefix(bits int) int {
	if bits == 128 {
		return t.longest[1]
	}
	return t.longest[0]
}
