// SPDX-License-Identifier: Apache-2.0

package balance

import "time"

// verdict is what probes say of an endpoint.
type verdict uint8

const (
	unknown verdict = iota
	up
	down
)

var verdictNames = [...]string{unknown: "unknown", up: "up", down: "down"}

func (v verdict) String() string { return verdictNames[v] }

// and returns the verdict of two checks that must both pass.
func (v verdict) and(other verdict) verdict {
	switch {
	case v == down || other == down:
		return down
	case v == unknown || other == unknown:
		return unknown
	}
	return up
}

// timing says when an endpoint is probed, and how many results make a verdict.
type timing struct {
	interval    time.Duration // between probes
	timeout     time.Duration // of a probe; below interval
	fast        time.Duration // between probes while the verdict is in doubt
	maxInterval time.Duration // between probes of an endpoint that has been down for long
	rise, fall  int           // consecutive results that turn a verdict, at least 1
}

// tracker is the state machine of one endpoint. It is a value: what follows from a result is another
// tracker. The zero value knows nothing.
type tracker struct {
	verdict verdict
	against uint16 // results in a row that speak against the verdict
	failed  uint16 // results in a row, since it went down, that confirmed it
}

// after returns the tracker after one more result. The first result decides alone; a verdict turns
// after fall failures or rise successes in a row.
func (t tracker) after(passed bool, rise, fall int) tracker {
	result, needed := down, fall
	if passed {
		result, needed = up, rise
	}
	switch {
	case t.verdict == result:
		return tracker{verdict: result, failed: t.failed + confirms(result, t.failed)}
	case t.verdict == unknown, int(t.against)+1 >= needed:
		return tracker{verdict: result}
	}
	return tracker{verdict: t.verdict, against: t.against + 1, failed: t.failed}
}

// confirms returns what one more failure adds to those that confirmed that an endpoint is down.
func confirms(result verdict, failed uint16) uint16 {
	if result == down && failed < 1<<15 {
		return 1
	}
	return 0
}

// inDoubt tells whether the last result spoke against the verdict.
func (t tracker) inDoubt() bool { return t.against > 0 }

// pause returns the time between the last probe and the next. One that is down for long is probed
// ever more rarely, each time after half as long again, up to the ceiling.
func (t tracker) pause(timing *timing) time.Duration {
	if t.inDoubt() || t.verdict == unknown {
		return timing.fast
	}
	pause := timing.interval
	for n := t.failed; n > 0 && pause < timing.maxInterval; n-- {
		pause = min(pause+pause/2, timing.maxInterval)
	}
	return pause
}

// align returns how long after a probe's start the next is due, about an interval later, so that
// endpoints are probed at the phase that is theirs, 0 <= phase < interval, which spreads them evenly
// for good. One that is far from its phase gets there in two steps of less than an interval. Never
// more than 1.05 intervals.
func align(start, phase, interval time.Duration) time.Duration {
	gap := (phase - start) % interval
	for gap <= interval/2 {
		gap += interval
	}
	if gap > interval+interval/20 {
		gap /= 2
	}
	return gap
}
