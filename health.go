// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-f1518d44/balance/internal/fleet"
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
	ports []health.PortRange // that records may name; nil: the check has its own
	watch []string           // names, fully qualified
	agent bool               // it has no say on an endpoint whose agent cannot be reached
	loads bool               // it may learn how busy an endpoint is
	at    position           // its first line
}

// subscription is a rule's part in the probes of a check. It is asked about an address in an answer
// and the port that an SRV record names with it, 0 if none does. Only a check that goes by the
// ports of records looks at that port. About an address alone it says what it says of its best
// port.
type subscription interface {
	// Name returns the name of the check.
	Name() string
	// FollowsPorts reports whether the check goes by the ports of records.
	FollowsPorts() bool
	// Allows reports whether the check may probe an address at a port.
	Allows(at netip.AddrPort) bool
	// Refuse counts an address that no check of the rule may probe.
	Refuse()
	// Seen returns the verdict, and registers the endpoint for probing.
	Seen(at netip.AddrPort) health.Verdict
	// Awaited returns until when a first verdict is waited for, the zero time if none is.
	Awaited(at netip.AddrPort) time.Time
	// Peek returns what is known of the endpoint, and leaves no trace.
	Peek(at netip.AddrPort) (known health.Endpoint, ok bool)
	// Advice returns what the endpoint says about itself, and leaves no trace.
	Advice(at netip.AddrPort) health.Advice
	// Record returns how the endpoint came to its verdict, and leaves no trace.
	Record(at netip.AddrPort) health.Record
	// Load returns what an endpoint says of its load, and leaves no trace.
	Load(endpoint netip.AddrPort) health.Load
	// Endpoints returns what is known of the endpoints that the rule's answers hold.
	Endpoints() iter.Seq[health.Endpoint]
	// Tally returns how the votes on the endpoint stand, false without a fleet.
	Tally(at netip.AddrPort) (votes fleet.Summary, ok bool)
	// Voters returns what each replica of the fleet says about the endpoint, nil without a fleet.
	// It takes a moment.
	Voters(at netip.AddrPort) []fleet.Voter
	// Leave ends the part that the rule takes.
	Leave()
}

var _ subscription = (*health.Subscription)(nil)

// subscribe has the endpoints of the rule's answers probed from now on.
func (z *zoneRule) subscribe() {
	for _, c := range z.checks {
		shared := c.Check
		shared.Fleet = z.hub
		s := probing.Join(&shared, health.Subscriber{
			Zone: z.zone, Scope: z.scope, Allow: c.allow, Ports: c.ports, History: z.shown(), Observe: z.observe,
			GoesByLoad: z.loads.given() && c.loads,
			Changed:    func() { z.epoch.Add(1) },
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

// withoutPort returns an address as an A or AAAA record names it.
func withoutPort(addr netip.Addr) netip.AddrPort { return netip.AddrPortFrom(addr.Unmap(), 0) }

// verdictOn returns the verdict of all checks together that may probe an address in an answer, and
// the port that its record names, or 0. It registers the address for probing.
func (z *zoneRule) verdictOn(at netip.AddrPort) health.Verdict {
	if len(z.subscriptions) == 0 || !at.Addr().IsValid() {
		return health.Unknown
	}
	all, checked := z.combine(at, subscription.Seen)
	if !checked {
		z.noteUnchecked(at)
	}
	return all
}

// lastVerdictOn is verdictOn, and leaves no trace.
func (z *zoneRule) lastVerdictOn(at netip.AddrPort) health.Verdict {
	all, _ := z.combine(at, func(s subscription, at netip.AddrPort) health.Verdict {
		known, _ := s.Peek(at)
		return known.Verdict
	})
	return all
}

// combine asks the checks that may probe an address, and have a say on it, for their verdict. It
// also reports whether any check may probe the address.
func (z *zoneRule) combine(at netip.AddrPort, ask func(subscription, netip.AddrPort) health.Verdict) (all health.Verdict, checked bool) {
	var votes health.Votes
	for _, s := range z.subscriptions {
		if !s.Allows(at) {
			continue
		}
		checked = true
		if v := ask(s, at); z.hasSay(s, at) {
			votes.Add(v)
		}
	}
	return votes.Verdict(z.require), checked
}

// loadOf returns what an address says of its load: to the first check that has a valid report or, if
// none has, to the first that has heard something.
func (z *zoneRule) loadOf(addr netip.Addr) (said health.Load) {
	at, now := withoutPort(addr), time.Now()
	for _, s := range z.subscriptions {
		if !s.Allows(at) {
			continue
		}
		heard := s.Load(at)
		if z.loads.isValid(heard, now) {
			return heard
		}
		if said == (health.Load{}) {
			said = heard
		}
	}
	return said
}

// hasSay reports whether a check that may probe an address has a say on it. An agent that cannot be
// understood has none, nor has a check that goes by the ports of records while none is known.
func (z *zoneRule) hasSay(s subscription, at netip.AddrPort) bool {
	if at.Port() == 0 && s.FollowsPorts() {
		if _, known := s.Peek(at); !known {
			return false
		}
	}
	return !slices.Contains(z.agents, s) || !s.Advice(at).NoSay
}

// agentDrains reports whether an agent that may probe an address wants it drained.
func (z *zoneRule) agentDrains(at netip.AddrPort) bool {
	return slices.ContainsFunc(z.agents, func(s subscription) bool { return s.Allows(at) && s.Advice(at).Drain })
}

// followsPorts reports whether a check goes by the ports of records.
func (z *zoneRule) followsPorts() bool {
	return slices.ContainsFunc(z.subscriptions, subscription.FollowsPorts)
}

// recordOf returns how an address that is up came up, by all checks together. It leaves no trace.
func (z *zoneRule) recordOf(at netip.AddrPort) health.Record {
	var records []health.Record
	for _, s := range z.subscriptions {
		if s.Allows(at) && z.hasSay(s, at) {
			records = append(records, s.Record(at))
		}
	}
	return health.Together(records, z.require)
}

// mayCheck reports whether a check may probe an address.
func (z *zoneRule) mayCheck(at netip.AddrPort) bool {
	return slices.ContainsFunc(z.subscriptions, func(s subscription) bool { return s.Allows(at) })
}

// noteUnchecked counts an address that no check may probe, and logs the first one, and the first
// that is refused for its port: an allow or ports line that misses the backends switches the checks
// off.
func (z *zoneRule) noteUnchecked(at netip.AddrPort) {
	z.subscriptions[0].Refuse()
	addr := at.Addr().Unmap()
	if at.Port() != 0 && z.mayCheck(withoutPort(addr)) {
		if !z.uncheckedPort.Swap(true) {
			log.Warningf("%s: no health_check has port %d of %s in ports, so its record is answered unchecked: add it if it is a backend's",
				z.zone, at.Port(), addr)
		}
		return
	}
	if z.unchecked.Swap(true) {
		return
	}
	want := "add it to allow if it is a backend"
	if addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr.IsMulticast() || addr.IsUnspecified() {
		want = "if it is a backend, allow a CIDR inside its own special range"
	}
	log.Warningf("%s: no health_check allows %s, so it is answered unchecked: %s", z.zone, addr, want)
}

// awaitedOn returns until when a first verdict on an address is waited for, the zero time if none
// is.
func (z *zoneRule) awaitedOn(at netip.AddrPort) (until time.Time) {
	for _, s := range z.subscriptions {
		if t := s.Awaited(at); t.After(until) {
			until = t
		}
	}
	return until
}

// outsideOf returns the option of a check that an endpoint lies outside of, "" if there is none.
func outsideOf(s subscription, at netip.AddrPort) string {
	switch {
	case s.Allows(at):
		return ""
	case s.Allows(withoutPort(at.Addr())):
		return "ports"
	}
	return "allow"
}
