// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Registry starts and stops pools, each for as long as a server has its check. A new server takes part before the
// old one leaves, so that a reload keeps verdicts, streaks and phases, and sends no probe more. It is a
// prometheus.Collector. Safe for concurrent use.
type Registry struct {
	log Logger

	sync.Mutex
	running map[poolKey]*runningPool
}

// NewRegistry returns a registry without pools.
func NewRegistry(log Logger) *Registry {
	return &Registry{log: log, running: make(map[poolKey]*runningPool)}
}

// poolKey is all that makes two checks one. Which addresses a rule may have probed, and what it watches, is its own.
type poolKey struct {
	check        string
	Timing       Timing
	MaxEndpoints int
	MaxInFlight  int
	hold         bool
}

type runningPool struct {
	*pool
	cancel context.CancelFunc
	done   chan struct{}
}

func keyOf(c *Check) poolKey {
	return poolKey{c.Key(), c.Timing, c.MaxEndpoints, c.MaxInFlight, c.holds()}
}

// Join makes a rule, in one of its zones, take part in the probes of a check, and starts the pool if it is the
// first. What another pool knows that asks the same at other times, as it does before a Corefile with other
// intervals is loaded, is taken over.
func (r *Registry) Join(c *Check, sub Subscriber) *Subscription {
	r.Lock()
	defer r.Unlock()
	running := r.running[keyOf(c)]
	if running == nil {
		running = startPool(c, r.log)
		r.running[keyOf(c)] = running
	}
	s := newSubscription(r, running.pool, sub)
	known := r.knownElsewhere(running, s)
	running.do(func() {
		running.subscribe(s)
		running.adopt(known, s)
	})
	return s
}

func startPool(c *Check, log Logger) *runningPool {
	ctx, cancel := context.WithCancel(context.Background())
	running := &runningPool{pool: newPool(c, log), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(running.done)
		running.run(ctx)
	}()
	return running
}

// knownElsewhere returns what other pools with the same question know of the endpoints of a
// subscriber's scope.
func (r *Registry) knownElsewhere(own *runningPool, s *Subscription) (known []knowledge) {
	for key, other := range r.running {
		if other == own || key.check != s.pool.check.Key() {
			continue
		}
		other.do(func() { known = append(known, other.knowledgeOf(s.Scope)...) })
	}
	return known
}

// leave ends the part that a subscriber takes, and the pool where it was the last; then it waits
// until no probe is in flight.
func (r *Registry) leave(s *Subscription) {
	r.Lock()
	defer r.Unlock()
	key := keyOf(s.pool.check)
	running := r.running[key]
	running.do(func() { running.unsubscribe(s) })
	if len(running.subscribers.all()) > 0 {
		return
	}
	delete(r.running, key)
	running.cancel()
	<-running.done
}

// each calls f for the subscribers of all pools, of which none leaves meanwhile.
func (r *Registry) each(f func(*Subscription)) {
	r.Lock()
	defer r.Unlock()
	for _, running := range r.running {
		for _, s := range running.subscribers.all() {
			f(s)
		}
	}
}

// do has the pool carry out a call, and waits for it.
func (p *runningPool) do(call func()) {
	finished := make(chan struct{})
	p.calls <- func() { call(); close(finished) }
	<-finished
}

// knowledge is an endpoint on its way to another pool.
type knowledge struct {
	at       netip.AddrPort
	tracker  tracker
	status   *status
	failing  bool
	history  *history
	seen     time.Duration // how long ago
	nextFrom time.Duration // how long until the next probe
}

// knowledgeOf returns what the pool knows of the endpoints of a scope. One with a probe in flight is long due, so
// that the other pool asks it at once: the result, if it comes, is for this pool only.
func (p *pool) knowledgeOf(scope uint64) (known []knowledge) {
	bit := p.subscribers.bitOf(scope)
	now := p.now()
	p.each(func(e *endpoint) {
		if e.zones.Load()&bit != 0 {
			known = append(known, knowledge{e.at, e.tracker, e.status.Load(), e.failing.Load(), e.history.Load(), now - time.Duration(e.seen.Load()), e.next - now})
		}
	})
	return known
}

// adopt takes over what another pool knew, for a subscriber.
func (p *pool) adopt(known []knowledge, s *Subscription) {
	now := p.now()
	for _, k := range known {
		if !s.Allows(k.at.Addr()) || p.known() >= p.limit {
			continue
		}
		if known := p.find(k.at); known != nil {
			known.zones.Or(s.bit)
			continue
		}
		e := &endpoint{at: k.at, tracker: k.tracker}
		e.status.Store(k.status)
		e.failing.Store(k.failing)
		e.history.Store(k.history)
		e.seen.Store(int64(now - k.seen))
		e.zones.Store(s.bit)
		e.next = now + k.nextFrom
		if longest := k.tracker.pause(&p.check.Timing); k.nextFrom > longest {
			e.next = now + align(now, e.phase(longest), longest)
		}
		p.add(e)
		p.queue.add(e)
	}
}

// subscribe adds a subscriber.
func (p *pool) subscribe(s *Subscription) {
	s.bit = p.subscribers.freeBit(s.Scope)
	for _, earlier := range p.subscribers.all() {
		s.suspect = s.suspect || earlier.Scope == s.Scope && earlier.suspect
	}
	p.subscribers.set(append(slices.Clone(p.subscribers.all()), s))
	p.trim()
}

// unsubscribe removes a subscriber.
func (p *pool) unsubscribe(s *Subscription) {
	s.gone.Store(true)
	left := slices.DeleteFunc(slices.Clone(p.subscribers.all()), func(one *Subscription) bool { return one == s })
	p.subscribers.set(left)
	p.trim()
}

// trim takes from every endpoint the bits of those who are gone, or may not have it probed any more.
func (p *pool) trim() {
	p.each(func(e *endpoint) {
		keep := uint64(0)
		for _, s := range p.subscribers.all() {
			if s.Allows(e.at.Addr()) {
				keep |= s.bit
			}
		}
		if e.zones.And(keep)&keep == 0 {
			p.letGo(e)
		}
	})
}
