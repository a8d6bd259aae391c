// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"iter"
	"net/netip"

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
}

// subscription is a rule's part in the probes of a check.
type subscription interface {
	// Name returns the name of the check.
	Name() string
	// Allows reports whether the check may probe an address.
	Allows(addr netip.Addr) bool
	// Seen returns the verdict on an endpoint that an answer holds, and registers it for probing.
	Seen(endpoint netip.AddrPort) health.Verdict
	// Peek returns what is known of an endpoint, and leaves no trace.
	Peek(endpoint netip.AddrPort) (known health.Endpoint, ok bool)
	// Endpoints returns what is known of the endpoints that the rule's answers hold.
	Endpoints() iter.Seq[health.Endpoint]
	// Leave ends the part that the rule takes.
	Leave()
}

var _ subscription = (*health.Subscription)(nil)

// subscribe has the endpoints of the rule's answers probed from now on.
func (z *zoneRule) subscribe() {
	for _, c := range z.checks {
		z.subscriptions = append(z.subscriptions, probing.Join(&c.Check, health.Subscriber{
			Zone: z.zone, Scope: z.scope, Allow: c.allow, History: z.shown(), Observe: z.observe,
			Changed: func() { z.epoch.Add(1) },
		}))
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

// verdictOn returns the verdict on an address in an answer: what all checks say together. It registers the address
// for probing.
func (z *zoneRule) verdictOn(addr netip.Addr) health.Verdict {
	if len(z.subscriptions) == 0 || !addr.IsValid() {
		return health.Unknown
	}
	all := health.Up
	for _, s := range z.subscriptions {
		all = all.And(s.Seen(endpointOf(addr)))
	}
	return all
}

// lastVerdictOn is verdictOn, and leaves no trace.
func (z *zoneRule) lastVerdictOn(addr netip.Addr) health.Verdict {
	if len(z.subscriptions) == 0 || !addr.IsValid() {
		return health.Unknown
	}
	all := health.Up
	for _, s := range z.subscriptions {
		known, _ := s.Peek(endpointOf(addr))
		all = all.And(known.Verdict)
	}
	return all
}
