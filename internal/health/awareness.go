// SPDX-License-Identifier: Apache-2.0

package health

import (
	"errors"
	"time"

	"github.com/seed-f1518d44/balance/internal/probe"
)

// A probe can fail because of this host: it could not be made, or the host was too busy to read the
// reply in time. This file decides whether such a probe counts. It consists of values and pure
// functions.

// outcome is what a probe says about its endpoint.
type outcome uint8

const (
	success      outcome = iota
	failure              // the endpoint seems to be down
	localError           // the probe could not be made
	noSay                // the check does not count for the endpoint
	inconclusive         // overload here, or the endpoint did not say (status 429, for example)
)

// attempt describes a finished probe.
type attempt struct {
	report probe.Report
	err    error
	lag    time.Duration // how late it began
	start  time.Duration // in the pool's time
	took   time.Duration
}

// doubt counts the consecutive probes of one endpoint that proved nothing. The counts decide when
// to probe next, and limit how many results in a row may be discarded: an overloaded host must
// notice dead endpoints too.
type doubt struct {
	local      uint8         // probes that could not be made
	overloaded uint8         // probes discarded because of overload; local errors do not reset it
	evasive    time.Duration // since when its replies have not said whether it is up; 0: they do
}

const (
	minOverrun     = 50 * time.Millisecond // a probe that outlasts its timeout by this shows overload
	maxLocal       = 50                    // local errors in a row that still lengthen the pause
	maxOverloaded  = 3                     // results in a row that may be discarded, at most
	longestEvasion = 5 * time.Minute       // if its replies say nothing for this long, it is down
)

// awareness is what a pool knows about its own host.
type awareness struct {
	lagged time.Duration // when a probe last began too late for timeouts to prove anything; 0: never
}

// after returns the awareness after one more attempt, which ended at now.
func (a awareness) after(one attempt, timeout, now time.Duration) awareness {
	if one.lag > timeout/4 {
		a.lagged = now
	}
	return a
}

// outcome returns what an attempt says about its endpoint, and the new doubt.
func (a awareness) outcome(one attempt, before doubt, timeout time.Duration) (outcome, doubt) {
	switch {
	case errors.Is(one.err, probe.ErrLocal):
		before.local = min(before.local+1, maxLocal)
		return localError, before
	case one.err == nil:
		return success, doubt{}
	case errors.Is(one.err, probe.ErrNoSay):
		return noSay, doubt{}
	case errors.Is(one.err, probe.ErrInconclusive):
		return evaded(one.start, before)
	case !a.overloaded(one, timeout):
		return failure, doubt{}
	case before.overloaded < maxOverloaded:
		return inconclusive, doubt{overloaded: before.overloaded + 1}
	}
	return failure, doubt{overloaded: before.overloaded}
}

// evaded returns the outcome of a reply that does not say whether the endpoint is up: a failure
// once that has lasted too long.
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

// overloaded reports whether a probe may have failed because this host was too busy to read the
// reply in time. Either the probe outlasted its timeout by far, or it timed out after it or a probe
// beside it had begun late.
func (a awareness) overloaded(one attempt, timeout time.Duration) bool {
	return one.err != nil && (one.took > timeout+max(timeout/4, minOverrun) || one.took >= timeout && a.lagged > one.start)
}

// AllFail reports whether all known endpoints fail, which makes this host suspect. A single
// endpoint does not.
func AllFail(known, failing int) bool { return known > 1 && failing == known }
