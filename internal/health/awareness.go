// SPDX-License-Identifier: Apache-2.0

package health

import (
	"errors"
	"time"

	"github.com/seed-f1518d44/balance/internal/probe"
)

// A probe can fail because of this host: it could not be made, or the host was too busy to notice the reply in time.
// This file decides what such a probe is worth. All of it is values and pure functions.

// outcome is what a probe says about its endpoint.
type outcome uint8

const (
	success      outcome = iota
	failure              // the endpoint is down, for all we know
	localError           // the probe could not be made: it says nothing
	inconclusive         // it says nothing, because this host was overloaded or the endpoint would not say
)

// attempt is a probe that is over.
type attempt struct {
	err   error
	lag   time.Duration // from the time that it was due to run until it ran
	start time.Duration // as the pool counts time
	took  time.Duration
}

// doubt counts the probes of one endpoint, in a row, that said nothing. They pace its next probes, and a row of
// inconclusive ones ends: an overloaded host has to notice deaths too.
type doubt struct {
	local      uint8         // could not be made
	overloaded uint8         // were discarded because of overload, regardless of those that could not be made
	evasive    time.Duration // when the endpoint began not to say; 0: it does say
}

const (
	minOverrun     = 50 * time.Millisecond // by which a probe must outlast its timeout to show overload
	maxLocal       = 50                    // local errors that count for the pause between probes
	maxOverloaded  = 3                     // probes in a row that overload may discard
	longestEvasion = 5 * time.Minute       // after which an endpoint that would not say is down
)

// awareness is what a pool knows about its own host.
type awareness struct {
	lagged time.Duration // when a probe last began so late that timeouts of that time say nothing; 0: never
}

// after returns the awareness after one more attempt, which ended at now.
func (a awareness) after(one attempt, timeout, now time.Duration) awareness {
	if one.lag > timeout/4 {
		a.lagged = now
	}
	return a
}

// outcome returns what an attempt says about its endpoint, and the doubt that follows.
func (a awareness) outcome(one attempt, before doubt, timeout time.Duration) (outcome, doubt) {
	switch {
	case errors.Is(one.err, probe.ErrLocal):
		before.local = min(before.local+1, maxLocal)
		return localError, before
	case one.err == nil:
		return success, doubt{}
	case errors.Is(one.err, probe.ErrNoSay):
		return inconclusive, doubt{}
	case errors.Is(one.err, probe.ErrInconclusive):
		return evaded(one.start, before)
	case !a.overloaded(one, timeout):
		return failure, doubt{}
	case before.overloaded < maxOverloaded:
		return inconclusive, doubt{overloaded: before.overloaded + 1}
	}
	return failure, doubt{overloaded: before.overloaded}
}

// evaded returns the outcome if the endpoint would not say: a failure if that lasts.
func evaded(start time.Duration, before doubt) (outcome, doubt) {
	now := doubt{evasive: before.evasive}
	if now.evasive == 0 {
		now.evasive = max(start, 1)
	}
	if start-now.evasive >= longestEvasion {
		return failure, now
	}
	return inconclusive, now
}

// overloaded reports whether a probe failed because this host noticed the reply too late. It shows in a probe that
// outlasts its timeout by far, and in one, this or another meanwhile, that began late.
func (a awareness) overloaded(one attempt, timeout time.Duration) bool {
	return one.err != nil && (one.took > timeout+max(timeout/4, minOverrun) || one.took >= timeout && a.lagged > one.start)
}

// AllFail reports whether so many failing endpoints, of those known, are a reason to doubt this host. One alone is
// none.
func AllFail(known, failing int) bool { return known > 1 && failing == known }
