// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/cidr"
	"github.com/seed-f1518d44/balance/internal/names"
	"github.com/seed-f1518d44/balance/internal/weights"
)

// override is what an operator says of a member, whatever probes say.
type override uint8

const (
	noOverride override = iota
	forcedUp
	forcedDown
	drain // standby: out of the answers while anything else serves
)

var overrideNames = [...]string{noOverride: "none", forcedUp: "up", forcedDown: "down", drain: "drain"}

// overrideLine is a line of an overrides file. Immutable.
type overrideLine struct {
	name    string // as written, but in lower case and fully qualified, perhaps a wildcard; "": any
	owner   string // the same as answers spell it, of a wildcard what is behind its asterisk
	targets netip.Prefix
	what    override
	until   time.Time // zero: for ever
	why     string
	line    int
}

// fits tells whether the line is for an address of an owner, at a time.
func (l *overrideLine) fits(owner string, addr netip.Addr, now time.Time) bool {
	return l.isFor(owner) && l.targets.Contains(addr) && !l.expired(now)
}

func (l *overrideLine) isFor(owner string) bool {
	if strings.HasPrefix(l.name, "*.") {
		return names.InZone(owner, l.owner) && owner != l.owner
	}
	return l.name == "" || l.owner == owner
}

func (l *overrideLine) expired(now time.Time) bool { return !l.until.IsZero() && !now.Before(l.until) }

// overrideSet is the content of an overrides file. Immutable.
type overrideSet []overrideLine

// of returns the override on an address of an owner.
func (s overrideSet) of(owner string, addr netip.Addr, now time.Time) override {
	if l := s.lineFor(owner, addr, now); l != nil {
		return l.what
	}
	return noOverride
}

// lineFor returns the last line that fits an address of an owner, nil where there is none.
func (s overrideSet) lineFor(owner string, addr netip.Addr, now time.Time) *overrideLine {
	for i := range slices.Backward(s) {
		if s[i].fits(owner, addr, now) {
			return &s[i]
		}
	}
	return nil
}

// count returns how many lines are in force, by what they say.
func (s overrideSet) count(now time.Time) (count [len(overrideNames)]int) {
	for i := range s {
		if !s[i].expired(now) {
			count[s[i].what]++
		}
	}
	return count
}

// nextExpiry returns when the next line expires, the zero time for never, and whether any line has an end.
func (s overrideSet) nextExpiry(now time.Time) (next time.Time, expires bool) {
	for i := range s {
		until := s[i].until
		expires = expires || !until.IsZero()
		if now.Before(until) && (next.IsZero() || until.Before(next)) {
			next = until
		}
	}
	return next, expires
}

// turned tells whether other lines are in force at one time than at the other.
func (s overrideSet) turned(from, to time.Time) bool {
	return slices.ContainsFunc(s, func(l overrideLine) bool { return l.expired(from) != l.expired(to) })
}

// parseOverrides reads lines of "[NAME] ADDRESS|CIDR up|down|drain [until RFC3339] [# why]". Errors
// start with the number of the line.
func parseOverrides(content []byte) (overrideSet, error) {
	var set overrideSet
	number := 0
	for line := range bytes.Lines(content) {
		number++
		if err := weights.CheckLength(line); err != nil {
			return nil, fmt.Errorf("%d: %w", number, err)
		}
		text, why, _ := strings.Cut(string(line), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		l, err := parseOverride(words)
		if err != nil {
			return nil, fmt.Errorf("%d: %w", number, err)
		}
		l.why, l.line = strings.TrimSpace(why), number
		set = append(set, l)
	}
	return set, nil
}

// parseOverride reads the words of a line.
func parseOverride(words []string) (l overrideLine, err error) {
	const form = "[NAME] ADDRESS|CIDR up|down|drain [until TIME] [# why]"
	if prefix, err := cidr.ParseTargets(words[0]); err == nil {
		l.targets, words = prefix, words[1:]
	} else {
		if len(words) < 2 || slices.Contains(overrideNames[forcedUp:], words[1]) {
			return l, err // the first word was to be the address
		}
		if err := weights.CheckName(words[0]); err != nil {
			return l, err
		}
		l.name, l.owner = dns.CanonicalName(words[0]), names.Spell(strings.TrimPrefix(words[0], "*."))
		if l.targets, err = cidr.ParseTargets(words[1]); err != nil {
			return l, err
		}
		words = words[2:]
	}
	if len(words) != 1 && len(words) != 3 {
		return l, fmt.Errorf("behind the address: %w: want %s", wrongCount(words), form)
	}
	what := slices.Index(overrideNames[:], words[0])
	if what < int(forcedUp) {
		return l, unknownWord("override", words[0], overrideNames[forcedUp:])
	}
	l.what = override(what) //nolint:gosec // an index
	if len(words) == 1 {
		return l, nil
	}
	if words[1] != "until" {
		return l, fmt.Errorf("found %q: want %s", words[1], form)
	}
	if l.until, err = time.Parse(time.RFC3339, words[2]); err == nil {
		_, err = l.until.MarshalText() // not all that is parsed is RFC 3339, and status would fail
	}
	if err != nil {
		return l, fmt.Errorf("bad time %q: want one such as 2026-12-01T00:00:00Z", words[2])
	}
	return l, nil
}

// overridesFile is the option overrides. Safe for concurrent use.
type overridesFile struct {
	polledFile
	set atomic.Pointer[overrideSet]
}

// newOverridesFile reads an overrides file for a rule, which it tells of every change. A file that
// is not there is an empty one.
func newOverridesFile(r *rule, path string, every time.Duration) (*overridesFile, error) {
	f := &overridesFile{polledFile: polledFile{path: path, every: every, optional: true}}
	f.use = func(content []byte) error {
		set, err := parseOverrides(content)
		if err != nil {
			return err
		}
		before := f.set.Swap(&set)
		r.epoch.Add(1)
		if before != nil || len(set) > 0 {
			log.Infof("%s: %s%s", f.name(), set.describe(wallClock()), r.observeNote())
		}
		return nil
	}
	f.dated = &dated{
		clock:  wallClock,
		turned: func(from, to time.Time) bool { return f.set.Load().turned(from, to) },
		expiry: func(now time.Time) (time.Time, bool) { return f.set.Load().nextExpiry(now) },
		notify: func() {
			r.epoch.Add(1)
			log.Infof("%s: %s%s", f.name(), f.set.Load().describe(f.dated.clock()), r.observeNote())
		},
	}
	return f, f.read()
}

// describe says which overrides are in force, for the log.
func (s overrideSet) describe(now time.Time) string {
	var lines []string
	for i := range s {
		if !s[i].expired(now) {
			lines = append(lines, oneLine(s[i].String()))
		}
	}
	const most = 10
	switch {
	case len(lines) == 0:
		return "no overrides in force"
	case len(lines) > most:
		return fmt.Sprintf("%d overrides in force: %s; and %d more", len(lines), strings.Join(lines[:most], "; "), len(lines)-most)
	}
	return fmt.Sprintf("%d overrides in force: %s", len(lines), strings.Join(lines, "; "))
}

// String writes the line as it may stand in a file.
func (l *overrideLine) String() string {
	text := cidr.Word(l.targets) + " " + overrideNames[l.what]
	if l.name != "" {
		text = l.name + " " + text
	}
	if !l.until.IsZero() {
		text += " until " + l.until.Format(time.RFC3339)
	}
	if l.why != "" {
		text += " # " + l.why
	}
	return text
}

// defaultOverridesInterval is how often the overrides file is read.
const defaultOverridesInterval = 5 * time.Second
