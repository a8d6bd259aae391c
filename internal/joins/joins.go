// SPDX-License-Identifier: Apache-2.0

// Package joins remembers since when a set has its members.
package joins

import (
	"cmp"
	"slices"
	"time"
)

// maxLeft is the most members that a log keeps after they left.
const maxLeft = 1024

// Log knows when the members of a set joined it. Members are known by numbers, such as hashes.
// Immutable. A nil Log is that of a set that was never seen.
type Log struct {
	entries []entry // by number
}

type entry struct {
	number uint64
	joined time.Time // zero: the set had it when it was first seen
	left   time.Time // zero: the set has it
}

// Joined returns when a member joined the set. It is the zero time if the set has had it from the
// first, or does not have it.
func (l *Log) Joined(number uint64) time.Time {
	if l == nil {
		return time.Time{}
	}
	at, ok := l.find(number)
	if !ok {
		return time.Time{}
	}
	return l.entries[at].joined
}

// After returns the log of a set that has some members now. A member that left and came back within
// absence has never left, because some servers answer with a few of many members each time.
func (l *Log) After(members []uint64, now time.Time, absence time.Duration) *Log {
	if l.has(members) {
		return l
	}
	next := &Log{}
	for _, number := range members {
		next.entries = append(next.entries, l.entryFor(number, now, absence))
	}
	next.sort()
	if l == nil {
		return next
	}
	left := l.without(next, now, absence)
	next.entries = append(next.entries, left[:min(len(left), maxLeft)]...)
	next.sort()
	return next
}

// has reports whether some members are those that the set had last.
func (l *Log) has(members []uint64) bool {
	if l == nil {
		return false
	}
	for _, number := range members {
		if at, ok := l.find(number); !ok || !l.entries[at].left.IsZero() {
			return false
		}
	}
	present := 0
	for i := range l.entries {
		if l.entries[i].left.IsZero() {
			present++
		}
	}
	return present == len(members)
}

// entryFor returns the entry of a member that the set has now.
func (l *Log) entryFor(number uint64, now time.Time, absence time.Duration) entry {
	if l == nil {
		return entry{number: number}
	}
	at, ok := l.find(number)
	if !ok || !l.entries[at].left.IsZero() && now.Sub(l.entries[at].left) >= absence {
		return entry{number: number, joined: now}
	}
	return entry{number: number, joined: l.entries[at].joined}
}

// without returns the entries of members that next does not have and that have not been gone for
// too long, those that left last first.
func (l *Log) without(next *Log, now time.Time, absence time.Duration) (gone []entry) {
	for _, e := range l.entries {
		if _, stays := next.find(e.number); stays {
			continue
		}
		if e.left.IsZero() {
			e.left = now
		}
		if now.Sub(e.left) < absence {
			gone = append(gone, e)
		}
	}
	slices.SortFunc(gone, func(a, b entry) int { return b.left.Compare(a.left) })
	return gone
}

func (l *Log) sort() {
	slices.SortFunc(l.entries, func(a, b entry) int { return cmp.Compare(a.number, b.number) })
}

func (l *Log) find(number uint64) (at int, ok bool) {
	return slices.BinarySearchFunc(l.entries, number, func(e entry, number uint64) int { return cmp.Compare(e.number, number) })
}
