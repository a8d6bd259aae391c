// SPDX-License-Identifier: Apache-2.0

package health

import "time"

// tracker is the state machine of one endpoint, as an immutable value: each result leads to a new
// tracker. The zero value has no verdict.
type tracker struct {
	verdict Verdict
	against uint16 // results in a row that contradict the verdict
	failed  uint16 // failures after the one that made the verdict down
}

// after returns the tracker after one more result. The first result sets the verdict. After that,
// fall failures or rise successes in a row change it.
func (t tracker) after(passed bool, rise, fall int) tracker {
	result, needed := Down, fall
	if passed {
		result, needed = Up, rise
	}
	switch {
	case t.verdict == result:
		return tracker{verdict: result, failed: t.failed + confirms(result, t.failed)}
	case t.verdict == Unknown, int(t.against)+1 >= needed:
		return tracker{verdict: result}
	}
	return tracker{verdict: t.verdict, against: t.against + 1, failed: t.failed}
}

// confirms returns 1 if a result confirms that an endpoint is down and the count has room, else 0.
func confirms(result Verdict, failed uint16) uint16 {
	if result == Down && failed < 1<<15 {
		return 1
	}
	return 0
}

// inDoubt reports whether the last result contradicted the verdict.
func (t tracker) inDoubt() bool { return t.against > 0 }

// pause returns the time between the last probe and the next one. While an endpoint stays down, the
// time grows by half after each probe, up to MaxInterval.
func (t tracker) pause(timing *Timing) time.Duration {
	if t.inDoubt() || t.verdict == Unknown {
		return timing.FastInterval
	}
	pause := timing.Interval
	for n := t.failed; n > 0 && pause < timing.MaxInterval; n-- {
		pause = min(pause+pause/2, timing.MaxInterval)
	}
	return pause
}

// align returns how long after a probe's start the next one is due: about an interval later, at the
// endpoint's own phase, 0 <= phase < interval. That keeps endpoints evenly spread. An endpoint that
// is far from its phase gets there in two steps of less than an interval. No step is more than 1.05
// intervals.
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
