// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"slices"
	"time"
)

// census knows how many replicas were there a minute ago. It is a value: each change leads to a new
// one.
type census struct {
	history []headcount // oldest first; the first one is the last from before the window
}

// headcount is how many replicas were live from a moment on. Those that left in order since do not
// count.
type headcount struct {
	from time.Duration
	live int
}

const (
	censusWindow = time.Minute
	maxCensus    = 256 // changes within a window that are kept apart
)

// after returns the census after a change. inOrder is how many of those that are gone said so.
func (c census) after(live, inOrder int, now time.Duration) census {
	next := census{history: make([]headcount, 0, len(c.history)+1)}
	for _, h := range c.past(now) {
		next.history = append(next.history, headcount{h.from, max(h.live-inOrder, 0)})
	}
	if len(next.history) >= maxCensus { // the two oldest become one
		next.history[1].from = next.history[0].from
		next.history = next.history[1:]
	}
	next.history = append(next.history, headcount{now, live})
	return next
}

// past returns the counts that still matter: those of the window, and the last one before it.
func (c census) past(now time.Duration) []headcount {
	first := 0
	for i, h := range c.history {
		if h.from <= now-censusWindow {
			first = i
		}
	}
	return c.history[first:]
}

// alone reports whether this replica sees fewer than half of the replicas that were there a minute
// ago. An even split is not alone: both halves go on.
func (c census) alone(now time.Duration) bool {
	past := c.past(now)
	if len(past) == 0 {
		return false
	}
	return 2*past[len(past)-1].live < past[0].live
}

// Gone is a replica that failed or cannot be reached.
type Gone struct {
	Replica
	Since  time.Time
	before int // live replicas before it failed
}

const (
	goneFor = time.Hour // how long a replica is missed
	maxGone = 20
)

// goneAfter returns which replicas are missed if others are live: none that is back, and no more
// than there are fewer of. The caller holds the lock.
func (f *Fleet) goneAfter(live []Replica) []Gone {
	all, before := slices.Clone(f.gone), len(f.members)
	for _, m := range f.members {
		if !contains(live, m.Name) && !slices.Contains(f.inOrder, m.Name) {
			all = append(all, Gone{m, time.Now(), before})
			before--
		}
	}
	all = slices.DeleteFunc(all, func(g Gone) bool {
		return len(live) >= g.before || time.Since(g.Since) >= goneFor ||
			slices.ContainsFunc(live, func(m Replica) bool { return m.Name == g.Name || m.Addr == g.Addr && m.Addr.IsValid() })
	})
	return all[max(0, len(all)-maxGone):]
}
