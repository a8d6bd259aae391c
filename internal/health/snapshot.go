// SPDX-License-Identifier: Apache-2.0

package health

import (
	"net/netip"
	"time"
)

// Endpoint is a snapshot of what is known about an endpoint. Immutable.
type Endpoint struct {
	At      netip.AddrPort
	Verdict Verdict
	Since   time.Time // of the verdict
	Failing bool      // the last probe failed
	Problem string    // of the last probe that failed, or why the endpoint is down
	Held    bool      // a connection to it is held
	Advice  Advice
	Load    Load
	Penalty float64   // for flapping; 0 if the check does not damp
	Reuse   time.Time // when damping lets it answer again; zero if damping does not keep it out

	Milliseconds []float64 // of the last probes, oldest first; from Peek, with Subscriber.History
	Failed       []int     // indexes of those that failed
}

// Name returns the endpoint for people: the address, and the port if it is not the check's own.
func (e *Endpoint) Name() string { return nameOf(e.At) }

// snapshot returns what is known about the endpoint, without its history. Safe for concurrent use.
func (e *endpoint) snapshot(halfLife time.Duration) Endpoint {
	known, at := e.status.Load(), time.Now()
	shown := Endpoint{At: e.at, Verdict: known.verdict, Since: known.since, Failing: e.failing.Load(), Problem: known.problem, Held: e.isHeld(), Advice: known.said(), Load: known.lastLoad(), Penalty: known.penalty(at, halfLife)}
	if until := known.reuse(halfLife); until.After(at) {
		shown.Reuse = until
	}
	return shown
}

// snapshotWithHistory is snapshot with the last probes.
func (e *endpoint) snapshotWithHistory(halfLife time.Duration) Endpoint {
	now, h := e.snapshot(halfLife), e.history.Load()
	if h == nil {
		return now
	}
	if problem := h.problem.Load(); problem != nil {
		now.Problem = *problem
	}
	now.Milliseconds, now.Failed = h.probes()
	return now
}
