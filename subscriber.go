// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"math/bits"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// subscriber is a rule, in one of its zones, that has a check. Immutable but for what counts, and its end.
type subscriber struct {
	pool  *pool
	rule  *rule
	zone  string
	scope uint64
	bit   uint64 // in endpoint.zones
	allow []netip.Prefix

	probes      [2]prometheus.Counter // failed, passed
	faults      prometheus.Counter
	late        prometheus.Counter // probes that began late
	duration    prometheus.Observer
	transitions [len(verdictNames)]prometheus.Counter
	full        prometheus.Counter // addresses that found no place in the table
	outside     prometheus.Counter // addresses outside allow
	hints       prometheus.Counter // connections held that their peers ended
	holdErrors  prometheus.Counter // connections to hold that could not be opened

	suspect bool        // all its endpoints fail; owned by the pool
	gone    atomic.Bool // it takes no part any more: what is answered late has nothing probed
}

func newSubscriber(p *pool, c *check, z *zoneRule) *subscriber {
	name := c.Name()
	s := &subscriber{
		pool: p, rule: z.rule, zone: z.zone, scope: z.scope, allow: c.allow,
		faults:   probesTotal.WithLabelValues(z.zone, name, "error"),
		late:     probesLate.WithLabelValues(z.zone, name),
		duration: probeDuration.WithLabelValues(z.zone, name),
		full:     probesRefused.WithLabelValues(z.zone, "table_full"),
		outside:  probesRefused.WithLabelValues(z.zone, "not_allowed"),
		hints:    hintsTotal.WithLabelValues(z.zone), holdErrors: holdErrorsTotal.WithLabelValues(z.zone),
	}
	for i, result := range []string{"failure", "success"} {
		s.probes[i] = probesTotal.WithLabelValues(z.zone, name, result)
	}
	for v, to := range verdictNames {
		if verdict(v) == unknown { //nolint:gosec // an index
			continue // nothing becomes that
		}
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
	if s.gone.Load() {
		return s.peek(addr)
	}
	return s.pool.look(addr, s, s.pool.now())
}

// subscribers are those of a pool. They change rarely and are read often. Safe for concurrent use,
// if one goroutine changes them.
type subscribers struct {
	lists atomic.Pointer[subscriberLists]
}

type subscriberLists struct {
	all    []*subscriber
	scopes []*subscriber // one of each scope, of which there are two while a rule replaces itself
	shown  bool          // one has the option status
}

func (s *subscribers) all() []*subscriber    { return s.load().all }
func (s *subscribers) scopes() []*subscriber { return s.load().scopes }

func (s *subscribers) load() subscriberLists {
	if lists := s.lists.Load(); lists != nil {
		return *lists
	}
	return subscriberLists{}
}

// set replaces the subscribers.
func (s *subscribers) set(all []*subscriber) {
	lists := &subscriberLists{all: all}
	seen := make(map[uint64]bool)
	for _, one := range all {
		lists.shown = lists.shown || one.rule.shown()
		if !seen[one.scope] {
			seen[one.scope] = true
			lists.scopes = append(lists.scopes, one)
		}
	}
	s.lists.Store(lists)
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
	for _, one := range s.scopes() {
		if one.bit&zones != 0 {
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
