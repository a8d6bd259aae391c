// SPDX-License-Identifier: Apache-2.0

// Package weights reads the weight file of CoreDNS' own loadbalance plugin, and more, and finds the
// weight of an address in it.
package weights

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/cidr"
	"github.com/seed-f1518d44/balance/internal/names"
)

// Default is the weight of an address that nothing gives one.
const Default = 1

// Max is the highest weight.
const Max = math.MaxUint16

// Line is one weight: for a CIDR or, as one that holds it alone, for an address.
type Line struct {
	Targets netip.Prefix
	Weight  uint16
	line    uint32 // of the file that it stands in
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

// Has tells whether a line for the same targets was added.
func (l *List) Has(targets netip.Prefix) bool {
	same := func(w Line) bool { return w.Targets == targets }
	return slices.ContainsFunc(l.addrs, same) || slices.ContainsFunc(l.cidrs, same)
}

// Sort makes the list ready for use.
func (l *List) Sort() {
	slices.SortStableFunc(l.addrs, func(a, b Line) int { return a.Targets.Addr().Compare(b.Targets.Addr()) })
	slices.SortStableFunc(l.cidrs, func(a, b Line) int {
		return cmp.Or(b.Targets.Bits()-a.Targets.Bits(), a.Targets.Addr().Compare(b.Targets.Addr()))
	})
}

// Of returns the weight of an address: its own or that of the longest CIDR that holds it.
func (l *List) Of(addr netip.Addr) (weight uint16, ok bool) {
	at, ok := slices.BinarySearchFunc(l.addrs, addr, func(w Line, addr netip.Addr) int { return w.Targets.Addr().Compare(addr) })
	if ok {
		return l.addrs[at].Weight, true
	}
	for i := range l.cidrs {
		if l.cidrs[i].Targets.Contains(addr) {
			return l.cidrs[i].Weight, true
		}
	}
	return 0, false
}

// Lines returns the lines that were added: addresses first and, once sorted, in order.
func (l *List) Lines() []Line { return slices.Concat(l.addrs, l.cidrs) }

// contradiction returns the two lines that give the same targets different weights, if any do.
func (l *List) contradiction() (first, second *Line) {
	for _, lines := range [][]Line{l.addrs, l.cidrs} {
		for i := 1; i < len(lines); i++ {
			if lines[i].Targets == lines[i-1].Targets && lines[i].Weight != lines[i-1].Weight {
				return &lines[i-1], &lines[i]
			}
		}
	}
	return nil, nil
}

// File is the content of a weight file. Immutable once parsed.
type File struct {
	Names     map[string]*List // lower case, fully qualified
	Wildcards map[string]*List // the same without the asterisk and its dot
}

// Of returns the weight of an address in the RRset of an owner.
func (n *File) Of(owner string, addr netip.Addr) uint16 {
	if w, ok := n.Names[owner].find(addr); ok {
		return w
	}
	if len(n.Wildcards) == 0 {
		return Default
	}
	for off, end := dns.NextLabel(owner, 0); !end; off, end = dns.NextLabel(owner, off) {
		if w, ok := n.Wildcards[owner[off:]].find(addr); ok {
			return w
		}
	}
	if w, ok := n.Wildcards["."].find(addr); ok {
		return w
	}
	return Default
}

// find is Of for a list that may not be there.
func (l *List) find(addr netip.Addr) (uint16, bool) {
	if l == nil {
		return 0, false
	}
	return l.Of(addr)
}

// Parse reads the weight file of CoreDNS' own loadbalance plugin: a line with a domain name,
// then lines with an address of it and a weight; "#" starts a comment. Beyond that it takes a CIDR
// where an address may stand, *.example.org for all names under example.org that have no weight for
// the address themselves, and weights from 0 to 65535. Errors start with the number of the line.
func Parse(content []byte) (*File, error) {
	n := &File{Names: map[string]*List{}, Wildcards: map[string]*List{}}
	var list *List
	number := uint32(0)
	for line := range bytes.Lines(content) {
		number++
		if err := CheckLength(line); err != nil {
			return nil, fmt.Errorf("%d: %w", number, err)
		}
		text, _, _ := strings.Cut(string(line), "#")
		fields := strings.Fields(text)
		var err error
		switch len(fields) {
		case 0:
		case 1:
			list, err = n.listOf(fields[0])
		case 2:
			err = addLine(list, fields, number)
		default:
			err = fmt.Errorf("found %q: want a domain name, or an address or CIDR and its weight", fields)
		}
		if err != nil {
			return nil, fmt.Errorf("%d: %w", number, err)
		}
	}
	return n, n.sort()
}

// listOf returns the list that the lines after a name go to.
func (n *File) listOf(name string) (*List, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	lists := n.Names
	if under, ok := strings.CutPrefix(name, "*."); ok {
		lists, name = n.Wildcards, under
	}
	key := names.Spell(name)
	if lists[key] == nil {
		lists[key] = &List{}
	}
	return lists[key], nil
}

// MaxLine is the longest line, in bytes. A name has at most 1,009, escapes included.
const MaxLine = 4 << 10

// CheckLength returns an error for a line that is too long to be meant, and to be repeated in an error.
func CheckLength(line []byte) error {
	if len(line) > MaxLine {
		return fmt.Errorf("line of %d bytes: want at most %d", len(line), MaxLine)
	}
	return nil
}

// CheckName returns an error for a line that is no domain name, most of all an address that lacks
// its weight.
func CheckName(name string) error {
	_, noAddress := cidr.ParseTargets(name)
	if noAddress == nil {
		return fmt.Errorf("%q has no weight: want a whole number from 0 to %d behind it", name, Max)
	}
	odd := strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= unicode.MaxASCII })
	if _, ok := dns.IsDomainName(name); !ok || odd || !dns.IsFqdn(dns.Fqdn(name)) || strings.Contains(strings.TrimPrefix(name, "*."), "*") {
		return fmt.Errorf("bad domain name %q: want one such as www.example.org or *.example.org", name)
	}
	labels := dns.SplitDomainName(names.Spell(name))
	if len(labels) > 0 && noTopLabel(labels[len(labels)-1]) {
		if _, err := netip.ParsePrefix(name); err == nil {
			return noAddress // which says what was meant
		}
		return fmt.Errorf("%q is neither a domain name nor an address: want one such as www.example.org, 192.0.2.1 or 192.0.2.0/24", name)
	}
	return nil
}

// noTopLabel tells whether no name ends in a label: it is the end of an address, or has what only misspelled addresses and
// their weights have, such as 192.0.2.1/24, 192.0.2.1=5 and fe80::1%eth0.
func noTopLabel(label string) bool {
	return strings.Trim(label, "0123456789") == "" || strings.ContainsAny(label, "/:%=,")
}

// addLine adds a line with an address or CIDR and a weight to the list of its name.
func addLine(list *List, fields []string, number uint32) error {
	line, err := ParseLine(fields[0], fields[1])
	if err != nil {
		return err
	}
	if list == nil {
		return fmt.Errorf("%q stands before any domain name: want the name that has this address on a line before it", fields[0])
	}
	line.line = number
	list.Add(line)
	return nil
}

// ParseLine reads an address or CIDR and a weight.
func ParseLine(targets, weight string) (Line, error) {
	prefix, err := cidr.ParseTargets(targets)
	if err != nil {
		return Line{}, err
	}
	w, err := strconv.ParseUint(weight, 10, 16)
	if err != nil {
		return Line{}, fmt.Errorf("bad weight %q: want a whole number from 0 to %d", weight, Max)
	}
	return Line{Targets: prefix, Weight: uint16(w)}, nil
}

// sort makes the lists ready for use. Lines that contradict each other are an error.
func (n *File) sort() error {
	var first, second *Line // of the contradiction that shows first
	for _, lists := range []map[string]*List{n.Names, n.Wildcards} {
		for _, list := range lists {
			list.Sort()
			if a, b := list.contradiction(); a != nil && (second == nil || b.line < second.line) {
				first, second = a, b
			}
		}
	}
	if second == nil {
		return nil
	}
	return fmt.Errorf("%d: %q has the weight %d, but on line %d the weight %d: want one weight for it and its name",
		second.line, cidr.Word(second.Targets), second.Weight, first.line, first.Weight)
}
