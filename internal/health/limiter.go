// SPDX-License-Identifier: Apache-2.0

package health

import (
	"sync/atomic"
	"time"
)

// limiter bounds the probes in flight so that they delay neither queries nor each other when there
// are more than the processors can handle. Its input is the lag: how long a probe waits for a
// processor after a free worker has taken it. A query that arrives meanwhile waits as long. Slow
// endpoints cause no lag, so they do not narrow the window. Owned by the pool's goroutine, except
// waiting.
type limiter struct {
	window  int           // probes that may be in flight now
	most    int           // max_in_flight
	worst   time.Duration // the longest lag since the window last changed
	changed time.Duration // when the window last changed, in the pool's time

	waiting atomic.Int32 // probes handed to a worker that have not begun
}

const (
	maxWaiting    = 16                     // most probes that wait for a processor, ahead of a query
	maxLag        = 5 * time.Millisecond   // with a longer lag the processors are overloaded
	lagStep       = 20 * time.Millisecond  // between changes of the window, so that each shows its effect
	slowAfter     = 100 * time.Millisecond // a probe that takes this long is slow
	leastInFlight = 32                     // the smallest window: other programs may cause the lag
)

// full reports whether no probe may start now, with inFlight in flight. moment reports that only
// the run queue is full: retry in a millisecond.
func (l *limiter) full(inFlight int) (full, moment bool) {
	if inFlight >= l.window {
		return true, false
	}
	moment = l.waiting.Load() >= maxWaiting
	return moment, moment
}

// lastingParts returns how many long probes may be in flight: silent is the limit for silent
// endpoints, most is the limit for silent and slow ones together. The rest is left to prompt ones.
func (l *limiter) lastingParts() (silent, most int) {
	return max(1, l.window-l.window/4), max(1, l.window-l.window/8)
}

// after adjusts the window with the lag of a finished probe. The longest lag of a step decides.
func (l *limiter) after(lag, now time.Duration) {
	l.worst = max(l.worst, lag)
	if now-l.changed < lagStep {
		return
	}
	if l.worst > maxLag {
		l.window = max(l.window*3/4, min(l.most, leastInFlight))
	} else {
		l.window = min(l.window+l.window/16+1, l.most)
	}
	l.worst, l.changed = 0, now
}
