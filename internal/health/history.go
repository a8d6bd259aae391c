// SPDX-License-Identifier: Apache-2.0

package health

import (
	"sync/atomic"
	"time"
)

// historySize is how many probes of an endpoint are remembered.
const historySize = 30

// history is the last probes of an endpoint: 144 bytes. It exists only if a subscriber wants it.
// Its pool writes it. Safe for concurrent use.
type history struct {
	problem atomic.Pointer[string]     // why the last failed probe failed
	made    atomic.Uint32              // number of probes so far
	took    [historySize]atomic.Uint32 // in microseconds; a ring, by number of the probe
}

// probeFailed is the bit that marks a failed probe.
const probeFailed = 1 << 31

// remember keeps a result in the endpoint's history, if that is wanted.
func (e *endpoint) remember(r attempt, wanted bool) {
	h := e.history.Load()
	switch {
	case !wanted && h == nil:
		return
	case !wanted:
		e.history.Store(nil)
		return
	case h == nil:
		h = new(history)
		e.history.Store(h)
	}
	h.add(r)
}

func (h *history) add(r attempt) {
	took := uint32(min(r.took/time.Microsecond, probeFailed-1))
	if r.err != nil {
		took |= probeFailed
		problem := r.err.Error()
		h.problem.Store(&problem)
	}
	n := h.made.Load()
	h.took[n%historySize].Store(took)
	h.made.Store(n + 1)
}

// probes returns how long the last probes took, in milliseconds, oldest first, and the indexes of
// those that failed.
func (h *history) probes() (milliseconds []float64, failed []int) {
	made := h.made.Load()
	for n := made - min(made, historySize); n != made; n++ {
		took := h.took[n%historySize].Load()
		if took&probeFailed != 0 {
			failed = append(failed, len(milliseconds))
		}
		milliseconds = append(milliseconds, float64(took&^probeFailed)/1000)
	}
	return milliseconds, failed
}
