// SPDX-License-Identifier: Apache-2.0

package health

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/seed-f1518d44/balance/internal/fleet"
)

// Registry starts and stops pools. A pool runs as long as a server uses its check. A new server
// joins before the old one leaves, so a reload keeps verdicts, streaks and phases, and causes no
// probe. It is a prometheus.Collector. Safe for concurrent use.
type Registry struct {
	log Logger

	mu      sync.Mutex
	running map[poolKey]*pool
}

// NewRegistry returns a registry without pools.
func NewRegistry(log Logger) *Registry {
	return &Registry{log: log, running: make(map[poolKey]*pool)}
}

// poolKey identifies a pool: checks with equal keys share one. The addresses that a rule allows are
// not part of it.
type poolKey struct {
	check        string
	timing       Timing
	halfLife     time.Duration
	fleet        *fleet.Fleet
	maxEndpoints int
	maxInFlight  int
	hold         bool
}

func keyOf(c *Check) poolKey {
	return poolKey{c.Key(), c.Timing, c.HalfLife, c.Fleet, c.MaxEndpoints, c.MaxInFlight, c.holds()}
}

// Join subscribes a rule, in one of its zones, to a check. It takes over what pools of the same
// check with other timing know about the rule's endpoints, so that a reload that changes an
// interval keeps the verdicts.
func (r *Registry) Join(c *Check, sub Subscriber) *Subscription {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.running[keyOf(c)]
	if p == nil {
		p = startPool(c, r.log)
		r.running[keyOf(c)] = p
	}
	s := &Subscription{sub: sub, registry: r, pool: p}
	known := r.knownElsewhere(p, sub.Scope)
	guests := r.knownElsewhere(p, guestScope)
	p.do(func() {
		p.subscribe(s)
		p.adopt(known, s)
		p.adoptGuests(guests)
	})
	return s
}

// knownElsewhere returns what other pools of the same check know about the endpoints of a scope.
func (r *Registry) knownElsewhere(own *pool, scope uint64) (known []knowledge) {
	for key, other := range r.running {
		if other == own || key.check != own.check.Key() {
			continue
		}
		other.do(func() { known = append(known, other.knowledgeOf(scope)...) })
	}
	return known
}

// leave ends a subscription. If it was the last one of its pool, leave stops the pool and waits
// until no probe is in flight.
func (r *Registry) leave(s *Subscription) {
	r.mu.Lock()
	defer r.mu.Unlock()
	empty := false
	s.pool.do(func() { empty = s.pool.unsubscribe(s) })
	if empty {
		delete(r.running, keyOf(s.pool.check))
		s.pool.stop()
	}
}

// each calls f for all subscriptions. None leaves meanwhile.
func (r *Registry) each(f func(*Subscription)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.running {
		var all []*Subscription
		p.do(func() {
			for _, s := range p.scopes {
				all = append(all, s.subscriptions...)
			}
		})
		for _, s := range all {
			f(s)
		}
	}
}

// knowledge is what one pool tells another about an endpoint.
type knowledge struct {
	at       netip.AddrPort
	tracker  tracker
	speed    speed
	status   *status // with its penalty
	failing  bool
	history  *history
	seen     time.Duration // how long ago
	nextFrom time.Duration // how long until the next probe
}

// knowledgeOf returns what the pool knows about the endpoints of a scope. The result of a probe
// that is in flight will reach only this pool, so the other pool probes that endpoint at once.
func (p *pool) knowledgeOf(id uint64) (known []knowledge) {
	s := p.scopes.of(id)
	if s == nil {
		return nil
	}
	now := p.now()
	for n := range s.members.all() {
		e := p.table.numbered(n)
		known = append(known, knowledge{
			at: e.at, tracker: e.tracker, speed: e.speed, status: e.status.Load(), failing: e.failing.Load(),
			history: e.history.Load(), seen: now - time.Duration(e.seen.Load()), nextFrom: e.next - now,
		})
	}
	return known
}

// adopt takes over, for a subscription, what another pool knew about its endpoints.
func (p *pool) adopt(known []knowledge, s *Subscription) {
	for i := range known {
		if k := &known[i]; s.Allows(k.at) && !s.scope.isFull() {
			e := p.table.find(k.at)
			if e == nil {
				e = p.restore(k)
			}
			p.house(e, s.scope)
			p.shareRestored(e)
		}
	}
}

// restore makes an endpoint from what another pool knew about it.
func (p *pool) restore(k *knowledge) *endpoint {
	now := p.now()
	e := newEndpoint(k.at)
	e.tracker, e.speed = k.tracker, k.speed
	e.status.Store(k.status)
	e.failing.Store(k.failing)
	e.history.Store(k.history)
	e.seen.Store(int64(now - k.seen))
	e.next = now + k.nextFrom
	if longest := k.tracker.pause(&p.check.Timing); k.nextFrom > longest {
		e.next = now + align(now, e.phase(longest), longest)
	}
	p.table.add(e)
	if p.share == nil {
		p.timers.add(e)
	}
	return e
}

// subscribe adds a subscription.
func (p *pool) subscribe(s *Subscription) {
	s.scope = p.scopes.of(s.sub.Scope)
	if s.scope == nil {
		s.scope = &scope{
			id: s.sub.Scope, zone: s.sub.Zone, limit: int32(p.check.MaxEndpoints),
			counters: countersOf(s.sub.Zone, p.check.Name()),
		}
		p.scopes = append(p.scopes, s.scope)
	}
	s.scope.set(append(s.scope.subscriptions, s))
	p.noteHistory()
	p.reconsider()
}

// unsubscribe removes a subscription and the endpoints that the remaining rules do not allow. It
// reports whether it was the last one.
func (p *pool) unsubscribe(s *Subscription) (empty bool) {
	s.gone.Store(true)
	scope := s.scope
	scope.set(without(scope.subscriptions, s))
	if len(scope.subscriptions) == 0 {
		p.scopes = without(p.scopes, scope)
	}
	p.noteHistory()
	if len(p.scopes) == 0 || len(p.scopes) == 1 && p.scopes[0].id == guestScope {
		return true
	}
	if !slices.ContainsFunc(scope.subscriptions, s.allowsAsMuch) {
		p.trim(scope)
		p.trimGuests()
	}
	return false
}

// allowsAsMuch reports whether another subscription allows the same addresses and ports.
func (s *Subscription) allowsAsMuch(other *Subscription) bool {
	return slices.Equal(other.sub.Allow, s.sub.Allow) && slices.Equal(other.sub.Ports, s.sub.Ports)
}

// trim removes from a scope the endpoints that none of its rules allows.
func (p *pool) trim(s *scope) {
	for n := range s.members.all() {
		if e := p.table.numbered(n); !s.allows(e.at) {
			s.remove(e)
			p.requeue(e)
			if e.scopes == 0 {
				p.letGo(e)
			}
		}
	}
}

// noteHistory notes whether a subscriber wants the last probes to be remembered.
func (p *pool) noteHistory() {
	p.history = slices.ContainsFunc(p.scopes, func(s *scope) bool {
		return slices.ContainsFunc(s.subscriptions, func(one *Subscription) bool { return one.sub.History })
	})
}

// without returns a copy of a list without one of its elements.
func without[T comparable](all []T, one T) []T {
	return slices.DeleteFunc(slices.Clone(all), func(other T) bool { return other == one })
}
