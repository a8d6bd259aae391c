// SPDX-License-Identifier: Apache-2.0

package health

import (
	"sync/atomic"
	"time"
)

// historySize is how many probes of an endpoint are remembered.
const historySize = 30

// history is the last probes of an endpoint, which only rules with the option status have remembered: 144
// bytes an endpoint. Written by its pool, read by whoever looks. Safe for concurrent use.
type history struct {
	problem atomic.Pointer[string]     // of the last probe that failed
	made    atomic.Uint32              // probes so far
	took    [historySize]atomic.Uint32 // microseconds, by number of the probe
}

// probeFailed is the bit that marks a probe which failed.
const probeFailed = 1 << 31

// remember keeps a result in the endpoint's history, if a rule wants one.
func (p *pool) remember(e *endpoint, r result) {
	h := e.history.Load()
	if !p.subscribers.load().history {
		if h != nil {
			e.history.Store(nil)
		}
		return
	}
	if h == nil {
		h = new(history)
		e.history.Store(h)
	}
	h.add(r)
}

func (h *history) add(r result) {
	took := uint32(min(r.took/time.Microsecond, probeFailed-1)) //nolint:gosec // in range
	if r.err != nil {
		took |= probeFailed
		problem := r.err.Error()
		h.problem.Store(&problem)
	}
	n := h.made.Load()
	h.took[n%historySize].Store(took)
	h.made.Store(n + 1)
}

// probes returns how long the last probes took, in milliseconds, oldest first, and which of them failed.
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
