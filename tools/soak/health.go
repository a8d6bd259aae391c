// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"slices"
	"time"
)

// health is what a backend is to whoever probes it.
type health uint8

const (
	healthy health = iota
	murky          // about to change, or flapping: it may be answered or not
	// A probe fails at once, and a connection that was held ended when it came to that.
	severed
	refusing // a probe fails at once
	silent   // a probe fails when its timeout is over
)

// checkTiming is the timing of a health check in the Corefile.
type checkTiming struct {
	interval, timeout, fast, maxInterval time.Duration
	rise, fall                           int
}

// timing is that of most. Where connections are held it is unhurried: so probes alone would be late
// by far.
var (
	timing    = &checkTiming{time.Second, 800 * time.Millisecond, 250 * time.Millisecond, 2 * time.Second, 2, 3}
	unhurried = &checkTiming{4 * time.Second, 800 * time.Millisecond, time.Second, 4 * time.Second, 2, 3}
)

const (
	jitterShare = 10              // a pause between probes is longer by one part in so many at most
	publishing  = time.Second     // beyond the probes, as the documented bound has it
	slack       = 2 * time.Second // for the processor being another's, beside what was seen of that
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

// upWithin is how long a backend that came back may be missing: one probe may be under way and fail
// yet.
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

// expect returns what answers to a query that was under way for a time may do about a member whose
// backend has a history. busy is how late things ran lately.
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
