// SPDX-License-Identifier: Apache-2.0

package weights

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/cidr"
)

// File is the content of a weight file. Safe for concurrent use.
type File struct {
	Names     map[string]*List // as names.Spell spells them
	Wildcards map[string]*List // the same without the asterisk and its dot
	Warnings  []string         // lines that may be meant otherwise: "3: ..."

	count  int         // of lines with a weight
	count6 int         // of them, those for IPv6
	ramps  []NamedLine // those whose weight changes
	// A bit for every line of the file: set if it has a weight that never applied.
	unused []atomic.Uint32
}

// NamedLine is a line with the name or wildcard that it is for.
type NamedLine struct {
	Name string
	Line
}

// String writes the line with its number and name.
func (l NamedLine) String() string {
	return fmt.Sprintf("%d: %s %s %s", l.Number, l.Name, cidr.Word(l.Targets), l.Text())
}

// Of returns the weight of an address in the RRset of an owner at a time, Default if no line has
// one.
func (f *File) Of(owner string, addr netip.Addr, now time.Time) uint16 {
	if line := f.Find(owner, addr); line != nil {
		return line.At(now)
	}
	return Default
}

// Find returns the line that has the weight of an address in the RRset of an owner, nil if none
// has: the one for the name, or for the longest wildcard above it that has the address. It marks
// the line as applied.
func (f *File) Find(owner string, addr netip.Addr) *Line {
	line := f.Peek(owner, addr)
	if line != nil {
		f.use(line)
	}
	return line
}

// Peek is Find, but leaves no mark.
func (f *File) Peek(owner string, addr netip.Addr) *Line {
	if line := f.Names[owner].find(addr); line != nil {
		return line
	}
	if len(f.Wildcards) == 0 {
		return nil
	}
	for off, end := dns.NextLabel(owner, 0); !end; off, end = dns.NextLabel(owner, off) {
		if line := f.Wildcards[owner[off:]].find(addr); line != nil {
			return line
		}
	}
	return f.Wildcards["."].find(addr)
}

// use notes that a line applied.
func (f *File) use(line *Line) {
	word, bit := &f.unused[line.Number/32], uint32(1)<<(line.Number%32)
	if word.Load()&bit != 0 {
		word.And(^bit)
	}
}

// Next returns when a weight changes after a time, zero for never, and whether any weight ever
// does.
func (f *File) Next(now time.Time) (next time.Time, changes bool) {
	first := int64(math.MaxInt64)
	for i := range f.ramps {
		if at := f.ramps[i].next(now); at > 0 {
			first = min(first, at)
		}
	}
	if first < math.MaxInt64 {
		next = time.Unix(first, 0)
	}
	return next, len(f.ramps) > 0
}

// Differ reports whether any weight is another one at one time than at the other, or a ramp began
// or ended in between.
func (f *File) Differ(from, to time.Time) bool {
	differs := func(l NamedLine) bool { return l.At(from) != l.At(to) }
	return slices.ContainsFunc(f.ramps, differs) || len(f.Ramps(from, to)) > 0
}

// Ramps describes the ramps that began or ended between two times.
func (f *File) Ramps(from, to time.Time) (texts []string) {
	between := func(at time.Time) bool { return from.Before(at) && !at.After(to) }
	for i := range f.ramps {
		l := &f.ramps[i]
		switch name := l.Name + " " + cidr.Word(l.Targets); {
		case between(l.ends()):
			texts = append(texts, fmt.Sprintf("%s ends its ramp: weight %d", name, l.ramp.to))
		case between(l.begins()):
			texts = append(texts, fmt.Sprintf("%s begins its ramp: %s", name, l.Text()))
		}
	}
	return texts
}

// Len returns the number of lines with a weight.
func (f *File) Len() int { return f.count }

// HasFamilyOf reports whether any line is for addresses of the family of one.
func (f *File) HasFamilyOf(addr netip.Addr) bool {
	if addr.Is4() {
		return f.count > f.count6
	}
	return f.count6 > 0
}

// Unused returns the first lines whose weights applied to no address so far, most of them at most,
// and how many there are.
func (f *File) Unused(most int) (first []NamedLine, total int) {
	wanted := make(map[uint32]bool)
	for i := range f.unused {
		word := f.unused[i].Load()
		total += bits.OnesCount32(word)
		for ; word != 0 && len(wanted) < most; word &= word - 1 {
			wanted[uint32(32*i+bits.TrailingZeros32(word))] = true
		}
	}
	f.each(func(name string, line Line) {
		if wanted[line.Number] {
			first = append(first, NamedLine{name, line})
		}
	})
	slices.SortFunc(first, func(a, b NamedLine) int { return cmp.Compare(a.Number, b.Number) })
	return first, total
}

// each calls do for every line, with its name or wildcard.
func (f *File) each(do func(name string, line Line)) {
	for name, list := range f.Names {
		list.each(name, do)
	}
	for name, list := range f.Wildcards {
		list.each(wildcard(name), do)
	}
}

func (l *List) each(name string, do func(name string, line Line)) {
	for _, lines := range [][]Line{l.addrs, l.cidrs} {
		for _, line := range lines {
			do(name, line)
		}
	}
}

// wildcard writes the wildcard of the names under another.
func wildcard(name string) string { return "*." + strings.TrimPrefix(name, ".") }

// Changes says which weights differ from those before, in the order of names and addresses.
func (f *File) Changes(before *File) (changes []string) {
	type key struct {
		name    string
		targets netip.Prefix
	}
	was := make(map[key]string, before.count)
	before.each(func(name string, line Line) {
		if _, again := was[key{name, line.Targets}]; !again { // the first of equal lines counts
			was[key{name, line.Targets}] = line.Text()
		}
	})
	seen := make(map[key]bool)
	f.each(func(name string, line Line) {
		at := key{name, line.Targets}
		if seen[at] {
			return
		}
		seen[at] = true
		switch weight, ok := was[at]; {
		case !ok:
			changes = append(changes, fmt.Sprintf("%s %s %s is new", name, cidr.Word(line.Targets), line.Text()))
		case weight != line.Text():
			changes = append(changes, fmt.Sprintf("%s %s %s instead of %s", name, cidr.Word(line.Targets), line.Text(), weight))
		}
		delete(was, at)
	})
	for at, weight := range was {
		changes = append(changes, fmt.Sprintf("%s %s %s is gone", at.name, cidr.Word(at.targets), weight))
	}
	slices.Sort(changes)
	return changes
}
