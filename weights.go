// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/miekg/dns"
)

// defaultWeight is the weight of a member that nothing gives one.
const defaultWeight = 1

// maxWeight is the highest weight.
const maxWeight = math.MaxUint16

// weightOf returns the weight of an address in the RRset of an owner, which is in lower case: the
// first that is found of the inline weight, the file's for the name, the file's for the longest
// wildcard above it. In each the address itself goes before a CIDR, and a longer CIDR before a
// shorter one.
func (r *rule) weightOf(owner string, addr netip.Addr) uint16 {
	if !r.policy.weighs || !addr.IsValid() {
		return defaultWeight
	}
	if w, ok := r.weights.of(addr); ok {
		return w
	}
	if r.file == nil {
		return defaultWeight
	}
	return r.file.weights.Load().of(owner, addr)
}

// weightLine is one weight: for a CIDR or, as one that holds it alone, for an address.
type weightLine struct {
	targets netip.Prefix
	weight  uint16
	line    uint32 // of the file that it stands in
}

// weightList gives weights to addresses. Immutable once sorted.
type weightList struct {
	addrs []weightLine // sorted
	cidrs []weightLine // longest first
}

func (l *weightList) add(line weightLine) {
	if line.targets.IsSingleIP() {
		l.addrs = append(l.addrs, line)
	} else {
		l.cidrs = append(l.cidrs, line)
	}
}

// has tells whether a line for the same targets was added.
func (l *weightList) has(targets netip.Prefix) bool {
	same := func(w weightLine) bool { return w.targets == targets }
	return slices.ContainsFunc(l.addrs, same) || slices.ContainsFunc(l.cidrs, same)
}

// sort makes the list ready for use.
func (l *weightList) sort() {
	slices.SortStableFunc(l.addrs, func(a, b weightLine) int { return a.targets.Addr().Compare(b.targets.Addr()) })
	slices.SortStableFunc(l.cidrs, func(a, b weightLine) int {
		return cmp.Or(b.targets.Bits()-a.targets.Bits(), a.targets.Addr().Compare(b.targets.Addr()))
	})
}

// of returns the weight of an address: its own or that of the longest CIDR that holds it.
func (l *weightList) of(addr netip.Addr) (weight uint16, ok bool) {
	at, ok := slices.BinarySearchFunc(l.addrs, addr, func(w weightLine, addr netip.Addr) int { return w.targets.Addr().Compare(addr) })
	if ok {
		return l.addrs[at].weight, true
	}
	for i := range l.cidrs {
		if l.cidrs[i].targets.Contains(addr) {
			return l.cidrs[i].weight, true
		}
	}
	return 0, false
}

// contradiction returns the two lines that give the same targets different weights, if any do.
func (l *weightList) contradiction() (first, second *weightLine) {
	for _, lines := range [][]weightLine{l.addrs, l.cidrs} {
		for i := 1; i < len(lines); i++ {
			if lines[i].targets == lines[i-1].targets && lines[i].weight != lines[i-1].weight {
				return &lines[i-1], &lines[i]
			}
		}
	}
	return nil, nil
}

// nameWeights is the content of a weight file. Immutable once parsed.
type nameWeights struct {
	names     map[string]*weightList // lower case, fully qualified
	wildcards map[string]*weightList // the same without the asterisk and its dot
}

// of returns the weight of an address in the RRset of an owner.
func (n *nameWeights) of(owner string, addr netip.Addr) uint16 {
	if w, ok := n.names[owner].find(addr); ok {
		return w
	}
	if len(n.wildcards) == 0 {
		return defaultWeight
	}
	for off, end := dns.NextLabel(owner, 0); !end; off, end = dns.NextLabel(owner, off) {
		if w, ok := n.wildcards[owner[off:]].find(addr); ok {
			return w
		}
	}
	if w, ok := n.wildcards["."].find(addr); ok {
		return w
	}
	return defaultWeight
}

// find is of for a list that may not be there.
func (l *weightList) find(addr netip.Addr) (uint16, bool) {
	if l == nil {
		return 0, false
	}
	return l.of(addr)
}

// parseWeights reads the weight file of CoreDNS' own loadbalance plugin: a line with a domain name,
// then lines with an address of it and a weight; "#" starts a comment. Beyond that it takes a CIDR
// where an address may stand, *.example.org for all names under example.org that have no weight for
// the address themselves, and weights from 0 to 65535. Errors start with the number of the line.
func parseWeights(content []byte) (*nameWeights, error) {
	n := &nameWeights{names: map[string]*weightList{}, wildcards: map[string]*weightList{}}
	var list *weightList
	number := uint32(0)
	for line := range bytes.Lines(content) {
		number++
		if err := checkLength(line); err != nil {
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
			err = parseWeightLine(list, fields, number)
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
func (n *nameWeights) listOf(name string) (*weightList, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	lists, key := n.names, dns.CanonicalName(name)
	if under, ok := strings.CutPrefix(key, "*."); ok {
		lists, key = n.wildcards, cmp.Or(under, ".")
	}
	if lists[key] == nil {
		lists[key] = &weightList{}
	}
	return lists[key], nil
}

// checkName returns an error for a line that is no domain name, most of all an address that lacks
// its weight.
func checkName(name string) error {
	if _, err := parsePrefix(name); err == nil {
		return fmt.Errorf("%q has no weight: want a whole number from 0 to %d behind it", name, maxWeight)
	}
	odd := strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= unicode.MaxASCII })
	if _, ok := dns.IsDomainName(name); !ok || odd || !dns.IsFqdn(dns.Fqdn(name)) || strings.Contains(strings.TrimPrefix(name, "*."), "*") {
		return fmt.Errorf("bad domain name %q: want one such as www.example.org or *.example.org", name)
	}
	labels := dns.SplitDomainName(name)
	if len(labels) > 0 && strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return fmt.Errorf("%q is neither a domain name nor an address", name)
	}
	return nil
}

// parseWeightLine reads a line with an address or CIDR and a weight into the list of its name.
func parseWeightLine(list *weightList, fields []string, number uint32) error {
	line, err := newWeightLine(fields[0], fields[1])
	if err != nil {
		return err
	}
	if list == nil {
		return fmt.Errorf("%q stands before any domain name: want the name that has this address on a line before it", fields[0])
	}
	line.line = number
	list.add(line)
	return nil
}

// newWeightLine reads an address or CIDR and a weight.
func newWeightLine(targets, weight string) (weightLine, error) {
	prefix, err := parseTargets(targets)
	if err != nil {
		return weightLine{}, err
	}
	w, err := parseNumber(weight, 0, maxWeight)
	if err != nil {
		return weightLine{}, fmt.Errorf("bad weight %q: want a whole number from 0 to %d", weight, maxWeight)
	}
	return weightLine{targets: prefix, weight: uint16(w)}, nil //nolint:gosec // checked
}

// parseTargets reads an address or a CIDR. Unlike parsePrefix it takes an IPv4 address in IPv6
// spelling, as loadbalance does.
func parseTargets(word string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(word); err == nil && addr.Is4In6() && addr.Zone() == "" {
		word = addr.Unmap().String()
	}
	return parsePrefix(word)
}

// sort makes the lists ready for use. Lines that contradict each other are an error.
func (n *nameWeights) sort() error {
	var first, second *weightLine // of the contradiction that shows first
	for _, lists := range []map[string]*weightList{n.names, n.wildcards} {
		for _, list := range lists {
			list.sort()
			if a, b := list.contradiction(); a != nil && (second == nil || b.line < second.line) {
				first, second = a, b
			}
		}
	}
	if second == nil {
		return nil
	}
	return fmt.Errorf("%d: %q has the weight %d, but on line %d the weight %d: want one weight for it and its name",
		second.line, word(second.targets), second.weight, first.line, first.weight)
}

// word returns a prefix as it is written: an address where it holds one alone.
func word(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// weightFile is the option weights: a file that gives weights to the addresses of names. Safe for
// concurrent use.
type weightFile struct {
	polledFile
	weights atomic.Pointer[nameWeights]
}

// newWeightFile reads a weight file for a rule, which it tells of every new content.
func newWeightFile(r *rule, path string, every time.Duration) (*weightFile, error) {
	f := &weightFile{polledFile: polledFile{path: path, every: every}}
	f.use = func(content []byte) error {
		weights, err := parseWeights(content)
		if err != nil {
			return err
		}
		f.weights.Store(weights)
		r.epoch.Add(1)
		return nil
	}
	return f, f.read()
}

// parseWeight reads "weight ADDRESS|CIDR WEIGHT".
func parseWeight(s *stanza, args []string) error {
	if len(args) != 2 {
		return wrongCount(args, "an address or CIDR, and its weight")
	}
	w, err := newWeightLine(args[0], args[1])
	if err != nil {
		return err
	}
	if s.weights.has(w.targets) {
		return fmt.Errorf("%q is weighted twice: want it once", args[0])
	}
	s.weights.add(w)
	return nil
}

// defaultWeightsInterval is how often the weight file is read.
const defaultWeightsInterval = 30 * time.Second

// parseWeightFile reads "weights FILE [DURATION]", and the file.
func parseWeightFile(s *stanza, args []string) error {
	path, every, err := s.fileArguments(args, defaultWeightsInterval)
	if err != nil {
		return err
	}
	s.file, err = newWeightFile(s.rule, path, every)
	return err
}

// parseReload reads "reload DURATION": how often the weight file is read, as loadbalance spells it.
func parseReload(s *stanza, args []string) error {
	if !s.moved || s.file == nil {
		return errors.New(`goes with a file behind the policy, as in loadbalance: want "weights FILE DURATION"`)
	}
	if len(args) != 1 {
		return wrongCount(args, "how often to read the weight file")
	}
	var err error
	s.file.every, err = parseInterval(args[0])
	return err
}
