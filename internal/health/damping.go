// SPDX-License-Identifier: Apache-2.0

package health

import (
	"math"
	"net/netip"
	"time"
)

// Damping keeps endpoints that flap out of the answers until they have been up for a while, as
// routers do with routes (RFC 2439). This file decides that; it consists of values and pure
// functions.

// The penalty of an endpoint. It halves in a half-life.
const (
	penaltyOfDown  = 1000                         // what going down adds
	suppressAbove  = 2000                         // a higher penalty keeps the endpoint out
	reuseBelow     = 750                          // a lower one lets it answer again
	longestDamping = 10                           // half-lives that it stays out, at most
	maxPenalty     = reuseBelow << longestDamping // it falls to reuseBelow in longestDamping
)

// damping says how much an endpoint has flapped, as of the time of its verdict. Immutable. The zero
// value is that of an endpoint that never flapped.
type damping struct {
	penalty    float32
	suppressed bool // it stays out
	charges    bool // it went down, and its penalty grows once it is back up
}

// decayed returns the damping after some time.
func (d damping) decayed(after, halfLife time.Duration) damping {
	d.penalty *= float32(math.Exp2(-float64(after) / float64(halfLife)))
	d.suppressed = d.suppressed && d.penalty >= reuseBelow
	return d
}

// wentDown returns the damping of an endpoint that goes down after some time. Its penalty grows
// only when it is back, because only then is it known whether this host was at fault.
func (d damping) wentDown(after, halfLife time.Duration, doubted bool) damping {
	d = d.decayed(after, halfLife)
	d.charges = !doubted
	return d
}

// cameUp returns the damping of an endpoint that comes back up after some time. The penalty for
// going down is added only now, but has decayed since the endpoint went down.
func (d damping) cameUp(after, halfLife time.Duration, doubted bool) damping {
	if !doubted {
		d = d.charged()
	}
	d.charges = false
	return d.decayed(after, halfLife)
}

// charged returns the damping with the penalty for going down, if that is still to be added.
func (d damping) charged() damping {
	if d.charges {
		d.penalty = min(d.penalty+penaltyOfDown, maxPenalty)
		d.suppressed = d.suppressed || d.penalty > suppressAbove
	}
	return d
}

// lasts returns how long the endpoint stays out.
func (d damping) lasts(halfLife time.Duration) time.Duration {
	if !d.suppressed {
		return 0
	}
	return time.Duration(math.Log2(float64(d.penalty)/reuseBelow) * float64(halfLife))
}

// damped returns the damping of an endpoint with a new verdict.
func (p *pool) damped(e *endpoint, before, now *status) damping {
	halfLife, lasted := p.check.HalfLife, now.since.Sub(before.since)
	switch {
	case halfLife == 0:
		return damping{}
	case before.verdict == Up && now.verdict == Down:
		return before.damping.wentDown(lasted, halfLife, e.doubt.overloaded > 0)
	case before.verdict == Down && now.verdict == Up:
		return before.damping.cameUp(lasted, halfLife, p.doubtedSince(e, before.since))
	}
	d := before.damping.decayed(lasted, halfLife)
	d.charges = false
	return d
}

// doubtedSince reports whether all endpoints of a rule have failed at once since a time, so that
// this host may have been at fault.
func (p *pool) doubtedSince(e *endpoint, at time.Time) bool {
	for s := range p.scopes.with(e) {
		if s.allFail || !p.base.Add(s.allFailed).Before(at) {
			return true
		}
	}
	return false
}

// reuse returns when damping lets the endpoint answer again, or did. It is the zero time if damping
// has not kept it out since it came up.
func (s *status) reuse(halfLife time.Duration) time.Time {
	if halfLife == 0 || s.verdict != Up || !s.damping.suppressed {
		return time.Time{}
	}
	return s.since.Add(s.damping.lasts(halfLife))
}

// penalty returns the penalty at a time.
func (s *status) penalty(at time.Time, halfLife time.Duration) float64 {
	if halfLife == 0 {
		return 0
	}
	return float64(s.damping.charged().decayed(at.Sub(s.since), halfLife).penalty)
}

// Record says how an endpoint came to its verdict.
type Record struct {
	Verdict Verdict
	Since   time.Time // of the verdict
	CameUp  bool      // it is up, and was down before
	Reuse   time.Time // when damping lets it answer, or did; zero: at once
}

// Record returns how an endpoint came to its verdict. It does not register the endpoint for
// probing.
func (s *Subscription) Record(at netip.AddrPort) Record {
	e := s.targetOf(at).known
	if e == nil {
		return Record{}
	}
	known := e.status.Load()
	return Record{known.verdict, known.since, known.cameUp, known.reuse(s.pool.check.HalfLife)}
}
