// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// pools holds the pools of the process, each for as long as a server has its check. A new server
// takes part before the old one leaves, so that a reload keeps verdicts, streaks and phases, and
// sends no probe more.
var pools = registry{running: make(map[poolKey]*runningPool)}

// registry starts and stops pools. Safe for concurrent use.
type registry struct {
	sync.Mutex
	running map[poolKey]*runningPool
}

// poolKey is all that makes two checks one.
type poolKey struct {
	check        string
	timing       timing
	maxEndpoints int
	maxInFlight  int
}

type runningPool struct {
	*pool
	cancel context.CancelFunc
	done   chan struct{}
}

func keyOf(c *check) poolKey {
	return poolKey{c.Key(), c.timing, c.maxEndpoints, c.maxInFlight}
}

// join makes a rule, in one of its zones, take part in the pool of a check, and starts the pool
// where it is the first. What another pool knows that asks the same at other times, as it does
// before a Corefile with other intervals is loaded, is taken over.
func (r *registry) join(c *check, z *zoneRule) *subscriber {
	r.Lock()
	defer r.Unlock()
	running := r.running[keyOf(c)]
	if running == nil {
		running = startPool(c)
		r.running[keyOf(c)] = running
	}
	s := newSubscriber(running.pool, c, z)
	known := r.knownElsewhere(running, s)
	running.do(func() {
		running.subscribe(s)
		running.adopt(known, s)
	})
	return s
}

func startPool(c *check) *runningPool {
	ctx, cancel := context.WithCancel(context.Background())
	running := &runningPool{pool: newPool(c), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(running.done)
		running.run(ctx)
	}()
	return running
}

// knownElsewhere returns what other pools with the same question know of the endpoints of a
// subscriber's scope.
func (r *registry) knownElsewhere(own *runningPool, s *subscriber) (known []knowledge) {
	for key, other := range r.running {
		if other == own || key.check != s.pool.check.Key() {
			continue
		}
		other.do(func() { known = append(known, other.knowledgeOf(s.scope)...) })
	}
	return known
}

// leave ends the part that a subscriber takes, and the pool where it was the last; then it waits
// until no probe is in flight.
func (r *registry) leave(s *subscriber) {
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

// subscribers returns those of all pools.
func (r *registry) subscribers() (all []*subscriber) {
	r.Lock()
	defer r.Unlock()
	for _, running := range r.running {
		all = append(all, running.pool.subscribers.all()...)
	}
	return all
}

// do has the pool carry out a call, and waits for it.
func (p *runningPool) do(call func()) {
	finished := make(chan struct{})
	p.calls <- func() { call(); close(finished) }
	<-finished
}

// knowledge is an endpoint on its way to another pool.
type knowledge struct {
	addr     netip.Addr
	tracker  tracker
	status   *status
	failing  bool
	seen     time.Duration // how long ago
	nextFrom time.Duration // how long until the next probe
}

// knowledgeOf returns what the pool knows of the endpoints of a scope.
func (p *pool) knowledgeOf(scope uint64) (known []knowledge) {
	bit := p.subscribers.bitOf(scope)
	now := p.now()
	p.each(func(e *endpoint) {
		if e.zones.Load()&bit != 0 {
			known = append(known, knowledge{e.addr, e.tracker, e.status.Load(), e.failing.Load(), now - time.Duration(e.seen.Load()), e.next - now})
		}
	})
	return known
}

// adopt takes over what another pool knew, for a subscriber.
func (p *pool) adopt(known []knowledge, s *subscriber) {
	now := p.now()
	for _, k := range known {
		if !mayProbe(s.allow, k.addr) || p.known() >= p.table.limit {
			continue
		}
		if found, ok := p.byAddr.Load(k.addr); ok {
			found.(*endpoint).zones.Or(s.bit)
			continue
		}
		e := &endpoint{addr: k.addr, tracker: k.tracker}
		e.status.Store(k.status)
		e.failing.Store(k.failing)
		e.seen.Store(int64(now - k.seen))
		e.zones.Store(s.bit)
		e.next = now + k.nextFrom
		if longest := k.tracker.pause(&p.check.timing); k.nextFrom > longest {
			e.next = now + align(now, e.phase(longest), longest)
		}
		p.table.add(e)
		p.queue.add(e)
		p.note(e, 1)
	}
}

// subscriber is a rule, in one of its zones, that has a check. Immutable but for what counts.
type subscriber struct {
	pool  *pool
	rule  *rule
	zone  string
	scope uint64
	bit   uint64 // in endpoint.zones
	allow []netip.Prefix

	probes      [2]prometheus.Counter // failed, passed
	faults      prometheus.Counter
	duration    prometheus.Observer
	transitions [len(verdictNames)]prometheus.Counter
	full        prometheus.Counter // addresses that found no place in the table
	outside     prometheus.Counter // addresses outside allow
}

func newSubscriber(p *pool, c *check, z *zoneRule) *subscriber {
	name := c.Name()
	s := &subscriber{
		pool: p, rule: z.rule, zone: z.zone, scope: z.scope, allow: c.allow,
		faults:   probesTotal.WithLabelValues(z.zone, name, "error"),
		duration: probeDuration.WithLabelValues(z.zone, name),
		full:     probesRefused.WithLabelValues(z.zone, "table_full"),
		outside:  probesRefused.WithLabelValues(z.zone, "not_allowed"),
	}
	for i, result := range []string{"failure", "success"} {
		s.probes[i] = probesTotal.WithLabelValues(z.zone, name, result)
	}
	for v, to := range verdictNames {
		s.transitions[v] = transitionsTotal.WithLabelValues(z.zone, to)
	}
	return s
}

// count counts a probe.
func (s *subscriber) count(passed bool, took time.Duration) {
	i := 0
	if passed {
		i = 1
	}
	s.probes[i].Inc()
	s.duration.Observe(took.Seconds())
}

// verdict returns the verdict on an address in an answer, unknown for one that may not be probed.
func (s *subscriber) verdict(addr netip.Addr) verdict {
	addr = addr.Unmap()
	if !mayProbe(s.allow, addr) {
		s.outside.Inc()
		return unknown
	}
	return s.pool.look(addr, s, s.pool.now())
}

// subscribers are those of a pool. They change rarely and are read often. Safe for concurrent use,
// if one goroutine changes them.
type subscribers struct{ list atomic.Pointer[[]*subscriber] }

func (s *subscribers) all() []*subscriber {
	if list := s.list.Load(); list != nil {
		return *list
	}
	return nil
}

// each calls f for the subscribers with one of some bits.
func (s *subscribers) each(zones uint64, f func(*subscriber)) {
	for _, one := range s.all() {
		if one.bit&zones != 0 {
			f(one)
		}
	}
}

// eachScope is each, but calls f once where a rule is about to replace itself.
func (s *subscribers) eachScope(zones uint64, f func(*subscriber)) {
	all := s.all()
	for i, one := range all {
		again := slices.ContainsFunc(all[:i], func(earlier *subscriber) bool { return earlier.scope == one.scope })
		if one.bit&zones != 0 && !again {
			f(one)
		}
	}
}

// names returns the zones of the subscribers with one of some bits, for people.
func (s *subscribers) names(zones uint64) string {
	var names []string
	s.eachScope(zones, func(one *subscriber) { names = append(names, one.zone) })
	return strings.Join(names, ", ")
}

// freeBit returns the bit of a scope: the one it has, one that is free or, beyond 63 scopes, the last,
// whose subscribers then share their endpoints in the metrics.
func (s *subscribers) freeBit(scope uint64) uint64 {
	taken := uint64(0)
	if bit := s.bitOf(scope); bit != 0 {
		return bit
	}
	for _, one := range s.all() {
		taken |= one.bit
	}
	return 1 << min(bits.TrailingZeros64(^taken), 63)
}

// bitOf returns the bit of a scope, 0 where it has none.
func (s *subscribers) bitOf(scope uint64) uint64 {
	for _, one := range s.all() {
		if one.scope == scope {
			return one.bit
		}
	}
	return 0
}

// subscribe adds a subscriber.
func (p *pool) subscribe(s *subscriber) {
	s.bit = p.subscribers.freeBit(s.scope)
	all := append(slices.Clone(p.subscribers.all()), s)
	p.subscribers.list.Store(&all)
	p.trim()
}

// unsubscribe removes a subscriber.
func (p *pool) unsubscribe(s *subscriber) {
	left := slices.DeleteFunc(slices.Clone(p.subscribers.all()), func(one *subscriber) bool { return one == s })
	p.subscribers.list.Store(&left)
	p.trim()
}

// trim takes from every endpoint the bits of those who are gone, or may not have it probed any more.
func (p *pool) trim() {
	p.each(func(e *endpoint) {
		keep := uint64(0)
		for _, s := range p.subscribers.all() {
			if mayProbe(s.allow, e.addr) {
				keep |= s.bit
			}
		}
		e.zones.And(keep)
	})
}
