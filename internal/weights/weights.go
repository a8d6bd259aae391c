// SPDX-License-Identifier: Apache-2.0

// Package weights reads the weight file of CoreDNS' own loadbalance plugin, and more, and finds the
// weight of an address in it.
//
//	weights.go   lines, and lists of them
//	ramp.go      weights that change over time
//	file.go      the content of a file: lookup, lines that never applied, what a new content changes
//	parse.go     the parser
package weights

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
)

// Default is the weight of an address that nothing gives one.
const Default = 1

// Max is the highest weight.
const Max = math.MaxUint16

// Line is one weight. An address is a CIDR that holds only it.
type Line struct {
	Targets netip.Prefix
	Weight  uint16 // a ramp begins with it
	Number  uint32 // of the line in its file
	ramp    *ramp  // nil for a weight that stays
}

// List gives weights to addresses. Immutable once sorted.
type List struct {
	addrs []Line // sorted
	cidrs []Line // longest first
}

// Add adds a line. Call Sort before Of.
func (l *List) Add(line Line) {
	if line.Targets.IsSingleIP() {
		l.addrs = append(l.addrs, line)
	} else {
		l.cidrs = append(l.cidrs, line)
	}
}

// Has reports whether a line for the same targets was added.
func (l *List) Has(targets netip.Prefix) bool {
	same := func(w Line) bool { return w.Targets == targets }
	return slices.ContainsFunc(l.addrs, same) || slices.ContainsFunc(l.cidrs, same)
}

// Sort makes the list ready for use. Of lines for the same targets the first stays first.
func (l *List) Sort() {
	slices.SortStableFunc(l.addrs, func(a, b Line) int { return a.Targets.Addr().Compare(b.Targets.Addr()) })
	slices.SortStableFunc(l.cidrs, func(a, b Line) int {
		return cmp.Or(b.Targets.Bits()-a.Targets.Bits(), a.Targets.Addr().Compare(b.Targets.Addr()))
	})
}

// Of returns the weight of an address: its own or that of the longest CIDR that holds it.
func (l *List) Of(addr netip.Addr) (weight uint16, ok bool) {
	if line := l.find(addr); line != nil {
		return line.Weight, true
	}
	return 0, false
}

// find returns the line for an address, nil if there is none or no list.
func (l *List) find(addr netip.Addr) *Line {
	if l == nil {
		return nil
	}
	at, ok := slices.BinarySearchFunc(l.addrs, addr, func(w Line, addr netip.Addr) int { return w.Targets.Addr().Compare(addr) })
	if ok {
		return &l.addrs[at]
	}
	for i := range l.cidrs {
		if l.cidrs[i].Targets.Contains(addr) {
			return &l.cidrs[i]
		}
	}
	return nil
}

// Lines returns the lines that were added: addresses first and, once sorted, in order.
func (l *List) Lines() []Line { return slices.Concat(l.addrs, l.cidrs) }
