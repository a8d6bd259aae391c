// SPDX-License-Identifier: Apache-2.0

package health

import (
	"sync/atomic"
	"time"
)

// limiter bounds the probes in flight, so that they delay neither queries nor each other when there are more than the
// processors can do. It goes by the lag: how long a probe waits for a processor after it was handed to a worker, of
// which one is always free. A query waits as long. Slow endpoints cause no lag, so they may take all the window. It is
// owned by the pool's goroutine, except for waiting.
type limiter struct {
	window  int           // probes that may be in flight now
	most    int           // max_in_flight
	worst   time.Duration // lag since the window last changed
	changed time.Duration // when it did, as the pool counts time

	waiting atomic.Int32 // probes handed to a worker that have not begun
}

const (
	maxWaiting    = 16                    // probes that wait for a processor; a query may have to wait behind them
	maxLag        = 5 * time.Millisecond  // above it the processors are overloaded
	lagStep       = 20 * time.Millisecond // between two changes of the window, so that the first one shows
	leastInFlight = 32                    // that always remain: other programs may cause the load, and not stop
)

// full reports whether no probe may start now, with so many in flight. It is for a moment only if the probes that have
// not begun are the reason.
func (l *limiter) full(inFlight int) (full, moment bool) {
	if inFlight >= l.window {
		return true, false
	}
	moment = l.waiting.Load() >= maxWaiting
	return moment, moment
}

// silentPart returns how many probes of silent endpoints may be in flight. They may take the whole timeout; the other
// endpoints do not wait for them.
func (l *limiter) silentPart() int { return max(1, l.window*3/4) }

// after takes in the lag of a probe that is over. It need not see all of them, because they take turns.
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
