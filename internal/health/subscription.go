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
	Zone       string
	Scope      uint64         // identifies the rule in its zone; a reload keeps it
	Allow      []netip.Prefix // the addresses that may be probed for it
	Ports      []PortRange    // the ports of records that may be probed; nil: the check has its own
	History    bool           // remember the last probes
	Observe    bool           // the rule leaves its answers as they are
	GoesByLoad bool           // the rule goes by load reports, and the check may have them
	Changed    func()         // called when verdicts may have changed; must not block
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

// Refuse counts an address in an answer that no check of the rule may probe.
func (s *Subscription) Refuse() { s.scope.counters.outside.Inc() }

// Seen registers an endpoint in an answer for probing, and returns the verdict on it. The port is
// the one that the record names, or 0. The verdict is unknown if the rule may not have the endpoint
// probed. If the check goes by the ports of records and the port is 0, nothing is registered, and
// the address is down if all its known ports are.
func (s *Subscription) Seen(at netip.AddrPort) Verdict {
	t := s.targetOf(at)
	e := t.known
	switch {
	case !t.named:
	case e != nil && s.scope.has(e):
		if !s.gone.Load() {
			e.seen.Store(int64(s.pool.now()))
		}
	case !s.Allows(t.at):
		return Unknown
	case !s.gone.Load():
		s.register(t.at)
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
	t := s.targetOf(at)
	if !s.Allows(t.at) {
		return time.Time{}
	}
	e, now := t.known, time.Now()
	if e == nil {
		if !t.named || s.scope.isFull() {
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

// Peek returns what is known about an endpoint, with its last probes, without registering it. It
// reports false if the endpoint is not known or the rule may not have it probed.
func (s *Subscription) Peek(at netip.AddrPort) (Endpoint, bool) {
	t := s.targetOf(at)
	if t.known == nil || !s.Allows(t.at) {
		return Endpoint{}, false
	}
	return t.known.snapshotWithHistory(s.pool.check.HalfLife), true
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
