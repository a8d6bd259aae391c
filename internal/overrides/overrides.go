// SPDX-License-Identifier: Apache-2.0

// Package overrides reads the file in which operators override what probes say of members, and
// finds the override of an address.
package overrides

import (
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-f1518d44/balance/internal/cidr"
	"github.com/seed-f1518d44/balance/internal/names"
)

// Override is what an operator says of a member.
type Override uint8

// The overrides. Drain makes a standby: out of the answers while anything else serves. Failback is
// for a name, not for an address: see Set.Failback.
const (
	None Override = iota
	Up
	Down
	Drain
	Failback
)

var words = [...]string{None: "none", Up: "up", Down: "down", Drain: "drain", Failback: "failback"}

// All are the overrides that an address can have.
var All = []Override{Up, Down, Drain}

func (o Override) String() string { return words[o] }

// Line is a line of an overrides file. Immutable, except for the mark that it has applied.
type Line struct {
	Override Override
	From     time.Time // zero: since ever
	Until    time.Time // zero: for ever
	Why      string
	Number   int // of the line in the file

	name    string // as written, but in lower case and fully qualified, perhaps a wildcard; "": any
	owner   string // as names.Spell spells it; of a wildcard, what follows its asterisk
	targets netip.Prefix
	applied atomic.Bool // to a member, since the file was read
}

// fits reports whether the line is for an address of an owner, at a time.
func (l *Line) fits(owner string, addr netip.Addr, now time.Time) bool {
	return l.isFor(owner) && l.targets.Contains(addr) && l.inForce(now)
}

func (l *Line) isFor(owner string) bool {
	if strings.HasPrefix(l.name, "*.") {
		return names.InZone(owner, l.owner) && owner != l.owner
	}
	return l.name == "" || l.owner == owner
}

// Name returns the name that the line is for, which may be a wildcard: "" for any.
func (l *Line) Name() string { return l.name }

// Targets returns the addresses that the line is for.
func (l *Line) Targets() netip.Prefix { return l.targets }

// SameTarget reports whether two lines are for the same name and the same addresses, as they are
// written.
func (l *Line) SameTarget(other *Line) bool {
	return l.name == other.name && l.targets == other.targets
}

func (l *Line) inForce(now time.Time) bool {
	return !now.Before(l.From) && (l.Until.IsZero() || now.Before(l.Until))
}

// String writes the line as it may stand in a file.
func (l *Line) String() string {
	if l.Override == Failback {
		return l.failback()
	}
	text := cidr.Word(l.targets) + " " + l.Override.String()
	if l.name != "" {
		text = l.name + " " + text
	}
	if !l.From.IsZero() {
		text += " from " + l.From.Format(time.RFC3339)
	}
	if !l.Until.IsZero() {
		text += " until " + l.Until.Format(time.RFC3339)
	}
	return text + l.comment()
}

// failback is String for a line without an address.
func (l *Line) failback() string {
	return l.name + " failback at " + l.From.Format(time.RFC3339) + l.comment()
}

func (l *Line) comment() string {
	if l.Why == "" {
		return ""
	}
	return " # " + l.Why
}

// Set is the content of an overrides file. Safe for concurrent use.
type Set []*Line

// Of returns the override on an address of an owner, whose name names.Spell has spelled. It marks
// the line as applied.
func (s Set) Of(owner string, addr netip.Addr, now time.Time) Override {
	l := s.Find(owner, addr, now)
	if l == nil {
		return None
	}
	if !l.applied.Load() {
		l.applied.Store(true)
	}
	return l.Override
}

// Find returns the last line that fits an address of an owner, nil if there is none.
func (s Set) Find(owner string, addr netip.Addr, now time.Time) *Line {
	for _, l := range slices.Backward(s) {
		if l.fits(owner, addr, now) {
			return l
		}
	}
	return nil
}

// Failback returns when an RRset of an owner, whose name names.Spell has spelled, was last to go
// back to its first tier that can serve. It is the zero time for never. It marks the line as
// applied.
func (s Set) Failback(owner string, now time.Time) (last time.Time) {
	for _, l := range s {
		if l.Override == Failback && l.isFor(owner) && l.inForce(now) {
			l.applied.Store(true)
			if l.From.After(last) {
				last = l.From
			}
		}
	}
	return last
}

// InForce returns the lines that are in force at a time.
func (s Set) InForce(now time.Time) Set {
	return slices.DeleteFunc(slices.Clone(s), func(l *Line) bool { return !l.inForce(now) })
}

// ToCome returns the lines that are to be in force later.
func (s Set) ToCome(now time.Time) Set {
	return slices.DeleteFunc(slices.Clone(s), func(l *Line) bool { return !now.Before(l.From) })
}

// Count returns how many lines say something.
func (s Set) Count(what Override) (count int) {
	for _, l := range s {
		if l.Override == what {
			count++
		}
	}
	return count
}

// Ended returns the lines that are no longer in force.
func (s Set) Ended(now time.Time) Set {
	return slices.DeleteFunc(slices.Clone(s), func(l *Line) bool { return l.Until.IsZero() || now.Before(l.Until) })
}

// Without returns the lines that other does not have, wherever they stand in it.
func (s Set) Without(other Set) Set {
	has := make(map[string]bool, len(other))
	for _, l := range other {
		has[l.String()] = true
	}
	return slices.DeleteFunc(slices.Clone(s), func(l *Line) bool { return has[l.String()] })
}

// Unused returns the lines in force that applied to no member that was asked for.
func (s Set) Unused(now time.Time) Set {
	return slices.DeleteFunc(s.InForce(now), func(l *Line) bool { return l.applied.Load() })
}

// Texts returns the lines as they may stand in a file.
func (s Set) Texts() (texts []string) {
	for _, l := range s {
		texts = append(texts, l.String())
	}
	return texts
}

// Targets returns what the lines are for: names, addresses or CIDRs.
func (s Set) Targets() (targets []string) {
	for _, l := range s {
		target := l.Override.String()
		if l.targets.IsValid() {
			target = cidr.Word(l.targets)
		}
		targets = append(targets, strings.TrimSpace(l.name+" "+target))
	}
	return targets
}

// Differ reports whether other lines are in force at one time than at another.
func (s Set) Differ(from, to time.Time) bool {
	return slices.ContainsFunc(s, func(l *Line) bool { return l.inForce(from) != l.inForce(to) })
}

// Next returns when a line next begins or ends, zero for never, and whether any line does.
func (s Set) Next(now time.Time) (next time.Time, dated bool) {
	for _, l := range s {
		for _, at := range []time.Time{l.From, l.Until} {
			dated = dated || !at.IsZero()
			if now.Before(at) && (next.IsZero() || at.Before(next)) {
				next = at
			}
		}
	}
	return next, dated
}
