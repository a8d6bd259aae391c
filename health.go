// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-f1518d44/balance/internal/health"

	"github.com/prometheus/client_golang/prometheus"
)

// What a rule asks of internal/health.

// probing has the checks of the process.
var probing = health.NewRegistry(log)

func init() { prometheus.MustRegister(probing) }

// check is one health_check line. Immutable.
type check struct {
	health.Check
	allow []netip.Prefix
	watch []string // names, fully qualified
	agent bool     // it has no say on an endpoint whose agent cannot be reached
}

// subscription is a rule's part in the probes of a check.
type subscription interface {
	// Name returns the name of the check.
	Name() string
	// Allows reports whether the check may probe an address.
	Allows(addr netip.Addr) bool
	// Refuse counts an address that no check of the rule may probe.
	Refuse()
	// Seen returns the verdict on an endpoint that an answer holds, and registers it for probing.
	Seen(endpoint netip.AddrPort) health.Verdict
	// Awaited returns until when a first verdict on an endpoint is waited for, the zero time if none is.
	Awaited(endpoint netip.AddrPort) time.Time
	// Peek returns what is known of an endpoint, and leaves no trace.
	Peek(endpoint netip.AddrPort) (known health.Endpoint, ok bool)
	// Advice returns what an endpoint says about itself, and leaves no trace.
	Advice(endpoint netip.AddrPort) health.Advice
	// Endpoints returns what is known of the endpoints that the rule's answers hold.
	Endpoints() iter.Seq[health.Endpoint]
	// Leave ends the part that the rule takes.
	Leave()
}

var _ subscription = (*health.Subscription)(nil)

// subscribe has the endpoints of the rule's answers probed from now on.
func (z *zoneRule) subscribe() {
	for _, c := range z.checks {
		s := probing.Join(&c.Check, health.Subscriber{
			Zone: z.zone, Scope: z.scope, Allow: c.allow, History: z.shown(), Observe: z.observe,
			Changed: func() { z.epoch.Add(1) },
		})
		z.subscriptions = append(z.subscriptions, s)
		if c.agent {
			z.agents = append(z.agents, s)
		}
	}
}

// unsubscribe ends that. Queries that are still answered go by the last verdicts.
func (z *zoneRule) unsubscribe() {
	for _, s := range z.subscriptions {
		s.Leave()
	}
}

// endpointOf returns the endpoint of an address, at the port of the check.
func endpointOf(addr netip.Addr) netip.AddrPort { return netip.AddrPortFrom(addr, 0) }

// verdictOn returns the verdict on an address in an answer: what the checks that may probe it say
// together. It registers the address for probing.
func (z *zoneRule) verdictOn(addr netip.Addr) health.Verdict {
	if len(z.subscriptions) == 0 || !addr.IsValid() {
		return health.Unknown
	}
	all, checked := z.combine(addr, subscription.Seen)
	if !checked {
		z.noteUnchecked(addr)
	}
	return all
}

// lastVerdictOn is verdictOn, and leaves no trace.
func (z *zoneRule) lastVerdictOn(addr netip.Addr) health.Verdict {
	all, _ := z.combine(addr, func(s subscription, endpoint netip.AddrPort) health.Verdict {
		known, _ := s.Peek(endpoint)
		return known.Verdict
	})
	return all
}

// combine asks the checks that may probe an address for their verdict. The others have no say. An
// agent that cannot be understood has none either. It also reports whether any check may probe the
// address.
func (z *zoneRule) combine(addr netip.Addr, ask func(subscription, netip.AddrPort) health.Verdict) (all health.Verdict, checked bool) {
	var votes health.Votes
	for _, s := range z.subscriptions {
		if !s.Allows(addr) {
			continue
		}
		checked = true
		if v := ask(s, endpointOf(addr)); !z.isMute(s, addr) {
			votes.Add(v)
		}
	}
	return votes.Verdict(z.require), checked
}

// isMute reports whether a check is an agent that has no say on an address.
func (z *zoneRule) isMute(s subscription, addr netip.Addr) bool {
	return slices.Contains(z.agents, s) && s.Advice(endpointOf(addr)).NoSay
}

// agentDrains reports whether an agent that may probe an address wants it drained.
func (z *zoneRule) agentDrains(addr netip.Addr) bool {
	return slices.ContainsFunc(z.agents, func(s subscription) bool {
		return s.Allows(addr) && s.Advice(endpointOf(addr)).Drain
	})
}

// mayCheck reports whether a check may probe an address.
func (z *zoneRule) mayCheck(addr netip.Addr) bool {
	return slices.ContainsFunc(z.subscriptions, func(s subscription) bool { return s.Allows(addr) })
}

// noteUnchecked counts an address that no check may probe, and logs the first one: an allow line
// that misses the backends switches the checks off.
func (z *zoneRule) noteUnchecked(addr netip.Addr) {
	z.subscriptions[0].Refuse()
	if z.unchecked.Swap(true) {
		return
	}
	want := "add it to allow if it is a backend"
	if addr = addr.Unmap(); addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr.IsMulticast() || addr.IsUnspecified() {
		want = "if it is a backend, allow a CIDR inside its own special range"
	}
	log.Warningf("%s: no health_check allows %s, so it is answered unchecked: %s", z.zone, addr, want)
}

// awaitedOn returns until when a first verdict on an address is waited for, the zero time if none
// is.
func (z *zoneRule) awaitedOn(addr netip.Addr) (until time.Time) {
	for _, s := range z.subscriptions {
		if t := s.Awaited(endpointOf(addr)); t.After(until) {
			until = t
		}
	}
	return until
}
