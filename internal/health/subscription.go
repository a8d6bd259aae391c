// SPDX-License-Identifier: Apache-2.0

package health

import (
	"iter"
	"net/netip"
	"sync/atomic"
	"time"
)

// Subscriber is a rule, in one of its zones, whose endpoints are to be probed.
type Subscriber struct {
	Zone    string
	Scope   uint64         // identifies the rule in its zone; a reload keeps it
	Allow   []netip.Prefix // the addresses that may be probed for it
	History bool           // remember the last probes
	Observe bool           // the rule leaves its answers as they are
	Changed func()         // called when verdicts may have changed; must not block
}

// Subscription is a rule's part in the probes of a check. Safe for concurrent use.
type Subscription struct {
	sub      Subscriber
	registry *Registry
	pool     *pool
	scope    *scope
	gone     atomic.Bool // the rule has left: late answers register nothing
}

// Name returns the name of the check, for people.
func (s *Subscription) Name() string { return s.pool.check.Name() }

// Allows reports whether the rule may have an address probed.
func (s *Subscription) Allows(addr netip.Addr) bool { return MayProbe(s.sub.Allow, addr) }

// Refuse counts an address in an answer that no check of the rule may probe.
func (s *Subscription) Refuse() { s.scope.counters.outside.Inc() }

// Seen returns the verdict on an endpoint that an answer holds, and registers the endpoint for
// probing. The verdict is unknown if the rule may not have it probed.
func (s *Subscription) Seen(at netip.AddrPort) Verdict {
	at = unmapped(at)
	e := s.pool.table.find(at)
	switch {
	case e != nil && s.scope.has(e):
		if !s.gone.Load() {
			e.seen.Store(int64(s.pool.now()))
		}
	case !s.Allows(at.Addr()):
		return Unknown
	case !s.gone.Load():
		s.register(at)
	}
	if e == nil {
		return Unknown
	}
	return e.status.Load().verdict
}

// register notes that an answer held an endpoint that the scope does not have.
func (s *Subscription) register(at netip.AddrPort) {
	if s.scope.isFull() && s.scope.full.Load() || s.scope.arrived.Load() >= 2*s.scope.limit {
		s.scope.counters.full.Inc()
		return
	}
	s.scope.arrived.Add(1)
	s.pool.table.arrive(at, s)
}

// patience is added to the timeout in the wait for a first verdict.
const patience = 2 * time.Second

// Awaited returns when the wait for an endpoint's first verdict ends. It is the zero time if there
// is a verdict, the wait is over, or the endpoint is not probed.
func (s *Subscription) Awaited(at netip.AddrPort) time.Time {
	at = unmapped(at)
	if !s.Allows(at.Addr()) {
		return time.Time{}
	}
	e, now := s.pool.table.find(at), time.Now()
	if e == nil {
		if s.scope.isFull() {
			return time.Time{}
		}
		return now.Add(s.pool.check.Timing.Timeout + patience)
	}
	known := e.status.Load()
	until := known.since.Add(s.pool.check.Timing.Timeout + patience)
	if known.verdict != Unknown || !now.Before(until) {
		return time.Time{}
	}
	return until
}

// unmapped returns an endpoint with an IPv4-mapped address turned into IPv4.
func unmapped(at netip.AddrPort) netip.AddrPort {
	if !at.Addr().Is4In6() {
		return at
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// Peek returns what is known about an endpoint, with its last probes, without registering it. It
// reports false if the endpoint is not known or the rule may not have it probed.
func (s *Subscription) Peek(at netip.AddrPort) (Endpoint, bool) {
	at = unmapped(at)
	e := s.pool.table.find(at)
	if e == nil || !s.Allows(at.Addr()) {
		return Endpoint{}, false
	}
	return e.snapshotWithHistory(s.pool.check.HalfLife), true
}

// Endpoints returns what is known about the endpoints that the rule's answers hold, without their
// last probes.
func (s *Subscription) Endpoints() iter.Seq[Endpoint] {
	return func(yield func(Endpoint) bool) {
		for n := range s.scope.members.all() {
			if e := s.pool.table.numbered(n); e != nil && !yield(e.snapshot(s.pool.check.HalfLife)) {
				return
			}
		}
	}
}

// Leave ends the subscription. If it is the last one of its check, Leave waits until no probe is in
// flight.
func (s *Subscription) Leave() { s.registry.leave(s) }
