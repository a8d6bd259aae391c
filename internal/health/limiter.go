// SPDX-License-Identifier: Apache-2.0

package health

import (
	"sync/atomic"
	"time"
)

// pace keeps probes from crowding queries out, and each other, where they ask for more than the
// processors can do. What it goes by is the lag: how long a probe that was handed to a worker, of which
// one is always free, waits for a processor. A query waits as long. Slow endpoints cause no
// lag, so they may take all places in flight. Owned by the pool's goroutine but for waiting.
type limiter struct {
	window  int           // probes that may be in flight now
	most    int           // max_in_flight
	worst   time.Duration // lag since the window last changed
	changed time.Duration // when it did, as the pool counts time

	waiting atomic.Int32 // probes handed to a worker that have not begun
}

const (
	maxWaiting    = 16                    // probes that wait for a processor; a query may have to wait behind them
	maxLag        = 5 * time.Millisecond  // above it the processors are too busy
	lagStep       = 20 * time.Millisecond // from one change of the window to the next: then the last one shows
	leastInFlight = 32                    // that stay: the load may be another's, and go on for ever
)

// full tells whether no probe may start now, with so many in flight. Where it is for those that wait, it
// lasts for a moment only.
func (p *limiter) full(inFlight int) (full, moment bool) {
	if inFlight >= p.window {
		return true, false
	}
	moment = p.waiting.Load() >= maxWaiting
	return moment, moment
}

// after takes in the lag of a probe that is over. One in many is enough to tell, for they take turns.
func (p *limiter) after(lag, now time.Duration) {
	p.worst = max(p.worst, lag)
	if now-p.changed < lagStep {
		return
	}
	if p.worst > maxLag {
		p.window = max(p.window*3/4, min(p.most, leastInFlight))
	} else {
		p.window = min(p.window+p.window/16+1, p.most)
	}
	p.worst, p.changed = 0, now
}
