// SPDX-License-Identifier: Apache-2.0

package health

import (
	"iter"
	"math/bits"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Subscriber is a rule, in one of its zones, that has endpoints probed.
type Subscriber struct {
	Zone    string
	Scope   uint64         // identifies the rule in its zone: the same after a reload
	Allow   []netip.Prefix // the addresses that it may have probed
	History bool           // the last probes are to be remembered
	Observe bool           // the rule leaves its answers as they are
	Changed func()         // called when verdicts may have changed; must not block
}

// Subscription is a rule's part in the probes of a check. Safe for concurrent use.
type Subscription struct {
	Subscriber
	registry *Registry
	pool     *pool
	bit      uint64 // in endpoint.zones

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

func newSubscription(r *Registry, p *pool, sub Subscriber) *Subscription {
	name, zone := p.check.Name(), sub.Zone
	s := &Subscription{
		Subscriber: sub, registry: r, pool: p,
		faults:   probesTotal.WithLabelValues(zone, name, "error"),
		late:     probesLate.WithLabelValues(zone, name),
		duration: probeDuration.WithLabelValues(zone, name),
		full:     probesRefused.WithLabelValues(zone, "table_full"),
		outside:  probesRefused.WithLabelValues(zone, "not_allowed"),
		hints:    hintsTotal.WithLabelValues(zone), holdErrors: holdErrors.WithLabelValues(zone),
	}
	for i, result := range []string{"failure", "success"} {
		s.probes[i] = probesTotal.WithLabelValues(zone, name, result)
	}
	for v, to := range verdictNames {
		if Verdict(v) == Unknown { //nolint:gosec // an index
			continue // nothing becomes that
		}
		s.transitions[v] = transitions.WithLabelValues(zone, to)
	}
	return s
}

// Name returns the name of the check, for people.
func (s *Subscription) Name() string { return s.pool.check.Name() }

// Allows reports whether the rule may have an address probed.
func (s *Subscription) Allows(addr netip.Addr) bool { return MayProbe(s.Allow, addr) }

// Seen returns the verdict on an endpoint that an answer holds, and registers it for probing: unknown if it may
// not be probed.
func (s *Subscription) Seen(at netip.AddrPort) Verdict {
	at = unmapped(at)
	if !s.Allows(at.Addr()) {
		s.outside.Inc()
		return Unknown
	}
	if s.gone.Load() {
		return s.last(at)
	}
	return s.pool.look(at, s, s.pool.now())
}

// last returns the verdict on an endpoint that may be probed, and leaves no trace.
func (s *Subscription) last(at netip.AddrPort) Verdict {
	if e := s.pool.find(at); e != nil {
		return e.status.Load().verdict
	}
	return Unknown
}

// unmapped returns an endpoint with the IPv4 address as such if it is spelled as IPv6.
func unmapped(at netip.AddrPort) netip.AddrPort {
	if !at.Addr().Is4In6() {
		return at
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// Peek returns what is known of an endpoint, and leaves no trace. It reports false if the endpoint is not known,
// or may not be probed.
func (s *Subscription) Peek(at netip.AddrPort) (Endpoint, bool) {
	at = unmapped(at)
	e := s.pool.find(at)
	if e == nil || !s.Allows(at.Addr()) {
		return Endpoint{}, false
	}
	return e.snapshotWithHistory(), true
}

// Endpoints returns what is known of the endpoints that the rule's answers hold.
func (s *Subscription) Endpoints() iter.Seq[Endpoint] {
	return func(yield func(Endpoint) bool) {
		s.pool.byAddr.Range(func(_, found any) bool {
			e := found.(*endpoint)
			return e.zones.Load()&s.bit == 0 || yield(e.snapshot())
		})
	}
}

// Leave ends the subscription. The last one that leaves a check waits until no probe is in flight.
func (s *Subscription) Leave() { s.registry.leave(s) }

// count counts a probe.
func (s *Subscription) count(passed bool, took time.Duration) {
	i := 0
	if passed {
		i = 1
	}
	s.probes[i].Inc()
	s.duration.Observe(took.Seconds())
}

// subscribers are those of a pool. They change rarely and are read often. Safe for concurrent use,
// if one goroutine changes them.
type subscribers struct {
	lists atomic.Pointer[subscriberLists]
}

type subscriberLists struct {
	all     []*Subscription
	scopes  []*Subscription // one of each scope, of which there are two while a rule replaces itself
	history bool            // one wants it
}

func (s *subscribers) all() []*Subscription    { return s.load().all }
func (s *subscribers) scopes() []*Subscription { return s.load().scopes }

func (s *subscribers) load() subscriberLists {
	if lists := s.lists.Load(); lists != nil {
		return *lists
	}
	return subscriberLists{}
}

// set replaces the subscribers.
func (s *subscribers) set(all []*Subscription) {
	lists := &subscriberLists{all: all}
	seen := make(map[uint64]bool)
	for _, one := range all {
		lists.history = lists.history || one.History
		if !seen[one.Scope] {
			seen[one.Scope] = true
			lists.scopes = append(lists.scopes, one)
		}
	}
	s.lists.Store(lists)
}

// each calls f for the subscribers with one of some bits.
func (s *subscribers) each(zones uint64, f func(*Subscription)) {
	for _, one := range s.all() {
		if one.bit&zones != 0 {
			f(one)
		}
	}
}

// eachScope is each, but calls f once where a rule is about to replace itself.
func (s *subscribers) eachScope(zones uint64, f func(*Subscription)) {
	for _, one := range s.scopes() {
		if one.bit&zones != 0 {
			f(one)
		}
	}
}

// names returns the zones of the subscribers with one of some bits, for people.
func (s *subscribers) names(zones uint64) string {
	var names []string
	s.eachScope(zones, func(one *Subscription) { names = append(names, one.Zone) })
	return strings.Join(names, ", ")
}

// wouldNote says, for the log, what a verdict would mean to the answers of those rules that only
// observe; zones are the bits of those concerned. Empty if there are none, and if an endpoint
// was in the answers before and stays there.
func (s *subscribers) wouldNote(zones uint64, before, now Verdict) string {
	var names []string
	s.eachScope(zones, func(one *Subscription) {
		if one.Observe {
			names = append(names, one.Zone)
		}
	})
	switch {
	case len(names) == 0:
		return ""
	case now == Down:
		return "; observe: would leave the answers of " + strings.Join(names, ", ")
	case before == Down:
		return "; observe: would be back in the answers of " + strings.Join(names, ", ")
	}
	return ""
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

// bitOf returns the bit of a scope, 0 if it has none.
func (s *subscribers) bitOf(scope uint64) uint64 {
	for _, one := range s.all() {
		if one.Scope == scope {
			return one.bit
		}
	}
	return 0
}
