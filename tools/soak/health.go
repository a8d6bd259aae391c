// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"slices"
	"time"
)

// health is the state of a backend that a probe finds.
type health uint8

const (
	healthy health = iota
	murky          // about to change, or flapping: it may be answered or not
	// A probe fails at once, and a held connection ended when that began.
	severed
	refusing // a probe fails at once
	silent   // a probe fails when its timeout is over
)

// checkTiming is the timing of a health check in the Corefile.
type checkTiming struct {
	interval, timeout, fast, maxInterval time.Duration
	rise, fall                           int
}

// timing is that of most checks. For a check with hold it is slow, so that probes alone would be
// far too late.
var (
	timing    = &checkTiming{time.Second, 800 * time.Millisecond, 250 * time.Millisecond, 2 * time.Second, 2, 3}
	unhurried = &checkTiming{4 * time.Second, 800 * time.Millisecond, time.Second, 4 * time.Second, 2, 3}
)

const (
	jitterShare = 10              // a pause between probes is longer by at most this part of it
	publishing  = time.Second     // after the probes; part of the documented bound
	slack       = 2 * time.Second // because other programs use the processor, beside the measured lateness
)

// longer returns the longest that a pause between probes takes.
func longer(d time.Duration) time.Duration { return d + d/jitterShare }

// confirming is the pause between probes after a held connection ended.
const confirming = 50 * time.Millisecond

// downWithin is how long a dead backend may be answered: the interval, fall-1 pauses in doubt, and
// the timeouts if it is silent. If a held connection ended with it, it is probed at once and with
// short pauses. The slack is then shorter than the interval, so that detection by probes alone
// would come too late.
func (t *checkTiming) downWithin(h health, busy time.Duration) time.Duration {
	if h == severed {
		return time.Duration(t.fall-1)*confirming + publishing + slack/4 + busy
	}
	bound := longer(t.interval) + time.Duration(t.fall-1)*longer(t.fast) + publishing + slack + busy
	if h == silent {
		bound += time.Duration(t.fall) * t.timeout
	}
	return bound
}

// upWithin is how long a backend that came back may be missing. A probe that is in flight may still
// fail.
func (t *checkTiming) upWithin(busy time.Duration) time.Duration {
	return t.timeout + longer(t.maxInterval) + time.Duration(t.rise)*longer(t.fast) + publishing + slack + busy
}

// expectation is what an answer may do about a member.
type expectation uint8

const (
	either expectation = iota
	mustAnswer
	mustNot
)

// expect returns what the answer to a query may do about a member, given the history of its
// backend. The query was in flight during a time. busy is how late things ran lately.
func (t *checkTiming) expect(history *timeline[health], from, to time.Time, busy time.Duration) expectation {
	if only(history.during(from.Add(-t.upWithin(busy)), to), healthy) {
		return mustAnswer
	}
	for _, h := range []health{severed, refusing, silent} { // the bound grows
		dead := history.during(from.Add(-t.downWithin(h, busy)), to)
		if !only(dead, severed, refusing, silent) {
			return either
		}
		if slices.Max(dead) <= h {
			return mustNot
		}
	}
	return either
}

// only reports whether all values are among those allowed.
func only[T comparable](values []T, allowed ...T) bool {
	return !slices.ContainsFunc(values, func(v T) bool { return !slices.Contains(allowed, v) })
}
