// SPDX-License-Identifier: Apache-2.0

package weights

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"github.com/miekg/dns"
	"golang.org/x/net/idna"

	"github.com/seed-f1518d44/balance/internal/cidr"
	"github.com/seed-f1518d44/balance/internal/names"
)

// parser reads a weight file.
type parser struct {
	file     *File
	list     *List  // of the name that the next lines are for; nil before the first one
	number   uint32 // of the line
	warnings []warning
}

// warning is about a line that may be meant otherwise.
type warning struct {
	line uint32
	text string
}

// Parse reads the weight file of CoreDNS' own loadbalance plugin: a line with a domain name,
// then lines with an address of it and a weight; "#" starts a comment. Beyond that it takes a CIDR
// instead of an address, *.example.org for all names under example.org that have no weight for
// the address themselves, weights from 0 to 65535, and weights that change over time, such as
// "5 to 50 from 2026-12-01T10:00:00Z over 2h". Errors start with the number of the line.
func Parse(content []byte) (*File, error) {
	p := &parser{file: &File{Names: map[string]*List{}, Wildcards: map[string]*List{}}}
	for line := range bytes.Lines(content) {
		p.number++
		if err := p.readLine(line); err != nil {
			return nil, fmt.Errorf("%d: %w", p.number, err)
		}
	}
	return p.finish(), nil
}

// readLine reads a line. Its comment may have any length.
func (p *parser) readLine(line []byte) error {
	text, _, _ := bytes.Cut(line, []byte("#"))
	if err := CheckLength(text); err != nil {
		return err
	}
	switch fields := strings.Fields(string(text)); len(fields) {
	case 0:
		return nil
	case 1:
		return p.readName(fields[0])
	default:
		return p.readWeight(fields[0], fields[1], fields[2:])
	}
}

// readName reads the name that the next lines are for.
func (p *parser) readName(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if ascii := toASCII(name); ascii != name {
		p.warn(p.number, "%q is taken octet by octet: write %q if the internationalized name is meant", name, ascii)
	}
	lists := p.file.Names
	under, isWildcard := strings.CutPrefix(name, "*.")
	if isWildcard {
		lists = p.file.Wildcards
	}
	key := names.Spell(under)
	if lists[key] == nil {
		lists[key] = &List{}
	}
	p.list = lists[key]
	return nil
}

// toASCII returns the spelling of an internationalized name in messages (RFC 5890, A-labels). Other
// names stay as they are.
func toASCII(name string) string {
	if strings.IndexFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) < 0 {
		return name
	}
	under, isWildcard := strings.CutPrefix(name, "*.")
	ascii, err := idna.Lookup.ToASCII(under)
	if err != nil {
		return name
	}
	if isWildcard {
		return "*." + ascii
	}
	return ascii
}

// readWeight reads a line with an address or CIDR and a weight. What follows the weight says how it
// changes.
func (p *parser) readWeight(targets, weight string, change []string) error {
	line, err := ParseLine(targets, weight)
	if err != nil {
		return err
	}
	if len(change) > 0 {
		if line.ramp, err = parseRamp(change); err != nil {
			return err
		}
	}
	if p.list == nil {
		return fmt.Errorf("%q stands before any domain name: want the name that has this address on a line before it", targets)
	}
	line.Number = p.number
	p.list.Add(line)
	return nil
}

// ParseLine reads an address or CIDR and a weight.
func ParseLine(targets, weight string) (Line, error) {
	prefix, err := cidr.ParseTargets(targets)
	if err != nil {
		return Line{}, err
	}
	w, err := parseWeight(weight)
	if err != nil {
		return Line{}, err
	}
	return Line{Targets: prefix, Weight: w}, nil
}

func parseWeight(word string) (uint16, error) {
	w, err := strconv.ParseUint(word, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("bad weight %q: want a whole number from 0 to %d", word, Max)
	}
	return uint16(w), nil
}

func (p *parser) warn(line uint32, format string, args ...any) {
	p.warnings = append(p.warnings, warning{line, fmt.Sprintf(format, args...)})
}

// finish makes the file ready for use.
func (p *parser) finish() *File {
	f := p.file
	f.unused = make([]atomic.Uint32, p.number/32+1)
	for _, lists := range []map[string]*List{f.Names, f.Wildcards} {
		for _, list := range lists {
			list.Sort()
			p.warnOfEqual(list.addrs)
			p.warnOfEqual(list.cidrs)
		}
	}
	last := NamedLine{}
	f.each(func(name string, line Line) {
		f.count++
		first := name != last.Name || line.Targets != last.Targets // of equal lines, the first counts
		last = NamedLine{name, line}
		if first && line.ramp != nil {
			f.ramps = append(f.ramps, NamedLine{name, line})
		}
		if !line.Targets.Addr().Is4() {
			f.count6++
		}
		f.unused[line.Number/32].Or(1 << (line.Number % 32))
	})
	slices.SortFunc(p.warnings, func(a, b warning) int { return cmp.Compare(a.line, b.line) })
	for _, w := range p.warnings {
		f.Warnings = append(f.Warnings, fmt.Sprintf("%d: %s", w.line, w.text))
	}
	return f
}

// warnOfEqual adds a warning for every line whose targets have another weight on an earlier one.
func (p *parser) warnOfEqual(lines []Line) {
	first := 0
	for i := range lines {
		if lines[i].Targets != lines[first].Targets {
			first = i
		}
		if !lines[i].sameWeight(&lines[first]) {
			p.warn(lines[i].Number, "%q has the weight %s, but on line %d the weight %s, which counts: want one weight for it and its name",
				cidr.Word(lines[i].Targets), lines[i].Text(), lines[first].Number, lines[first].Text())
		}
	}
}

// MaxLine is the longest line, in bytes and without its comment. A name has at most 1,009, escapes
// included.
const MaxLine = 4 << 10

// CheckLength returns an error for a line that is too long to be meant, and to be repeated in an
// error.
func CheckLength(line []byte) error {
	if len(line) > MaxLine {
		return fmt.Errorf("line of %d bytes: want at most %d", len(line), MaxLine)
	}
	return nil
}

// CheckName returns an error for a word that is no domain name, most of all an address without its
// weight.
func CheckName(name string) error {
	_, noAddress := cidr.ParseTargets(name)
	if noAddress == nil {
		return fmt.Errorf("%q has no weight: want a whole number from 0 to %d behind it", name, Max)
	}
	odd := func(r rune) bool { return r <= ' ' || r == unicode.MaxASCII || r == utf8.RuneError }
	_, isName := dns.IsDomainName(name)
	if !isName || strings.ContainsFunc(name, odd) || !dns.IsFqdn(dns.Fqdn(name)) || strings.Contains(strings.TrimPrefix(name, "*."), "*") {
		return fmt.Errorf("bad domain name %q: want one such as www.example.org or *.example.org", name)
	}
	if !isMisspelledAddress(name) {
		return nil
	}
	if _, err := netip.ParsePrefix(name); err == nil {
		return noAddress // which says what was meant
	}
	return fmt.Errorf("%q is neither a domain name nor an address: want one such as www.example.org, 192.0.2.1 or 192.0.2.0/24", name)
}

// isMisspelledAddress reports whether a name looks like an address that is none: all of its labels
// are numbers, or the last one has what only misspelled addresses and their weights have, such as
// 192.0.2.1/24, 192.0.2.1=5 and fe80::1%eth0.
func isMisspelledAddress(name string) bool {
	labels := dns.SplitDomainName(names.Spell(name))
	if len(labels) == 0 {
		return false
	}
	hasLetter := func(label string) bool { return strings.Trim(label, "0123456789") != "" }
	return !slices.ContainsFunc(labels, hasLetter) || strings.ContainsAny(labels[len(labels)-1], "/:%=,")
}
