// SPDX-License-Identifier: Apache-2.0

package health

import (
	"math"
	"net/netip"
	"slices"
	"time"
)

// Guests are the endpoints that only other replicas have seen in answers. This replica probes them
// for the fleet, if one of its rules allows that.

// never is the time at which an endpoint was last seen if no answer here has held it.
const never = math.MinInt64 / 4

// Admit implements fleet.Host. What another replica names is probed only if a rule here allows it.
func (h fleetHost) Admit(at netip.AddrPort) (uint32, bool) {
	if !h.admits(at) {
		return 0, false
	}
	guests := h.guests()
	if guests.isFull() {
		guests.counters.full.Inc()
		h.logGuestsFull(guests)
		h.crowded = true
		return 0, false
	}
	e := newEndpoint(at)
	e.seen.Store(never)
	h.table.add(e)
	guests.add(e)
	return e.number, true
}

// admits reports whether a rule may probe an endpoint that another replica names. If the rule goes
// by the ports of records, the endpoint must have a port of its own; otherwise it must have none.
func (s *scope) admits(at netip.AddrPort) bool {
	return slices.ContainsFunc(s.subscriptions, func(one *Subscription) bool {
		return one.FollowsPorts() == (at.Port() != 0) && one.Allows(at)
	})
}

// guestScope is the id of the scope of the guests. Those of rules are hashes.
const guestScope = math.MaxUint64

// guests returns the scope of the endpoints that only other replicas have seen. Its probes count
// for the zone of the first rule. It has room for as many as the rules' own scopes together.
func (p *pool) guests() *scope {
	s := p.scopes.of(guestScope)
	if s == nil {
		zone := p.scopes[0].zone
		s = &scope{id: guestScope, zone: zone, counters: countersOf(zone, p.check.Name())}
		p.scopes = append(p.scopes, s)
	}
	s.limit = int32(min(int64(p.check.MaxEndpoints)*int64(len(p.scopes)-1), math.MaxInt32))
	return s
}

// logGuestsFull logs that there is no room for endpoints that other replicas have seen: once, and
// again only after there was some.
func (p *pool) logGuestsFull(guests *scope) {
	if !guests.full.Swap(true) {
		p.log.Warningf("%s: health_check %s: max_endpoints %d reached for each of %d rules by endpoints of other replicas: this replica does not take part in the verdicts on further ones",
			guests.zone, p.check.Name(), p.check.MaxEndpoints, len(p.scopes)-1)
	}
}

// reviewGuests asks for endpoints that found no room among the guests, once there is some, at most
// once a minute.
func (p *pool) reviewGuests(now time.Duration) {
	guests := p.scopes.of(guestScope)
	if guests == nil || !p.crowded || p.guests().isFull() || now < p.askAgainAt {
		return
	}
	if guests.hasRoom() {
		guests.full.Store(false)
	}
	p.crowded, p.askAgainAt = false, now+time.Minute
	p.reconsider()
}

// reconsider asks the other replicas for endpoints that were refused: a rule may allow them now.
func (p *pool) reconsider() {
	if p.share != nil {
		p.share.Reconsider()
	}
}

// house makes an endpoint a member of a rule's scope. It is no guest any more.
func (p *pool) house(e *endpoint, s *scope) {
	s.add(e)
	if guests := p.scopes.of(guestScope); guests != nil && guests.has(e) {
		guests.remove(e)
	}
}

// adoptGuests takes over the guests of another pool of the same check.
func (p *pool) adoptGuests(known []knowledge) {
	if p.share == nil {
		return
	}
	for i := range known {
		at := known[i].at
		if p.table.find(at) == nil && !p.guests().isFull() && p.admits(at) {
			e := p.restore(&known[i])
			p.guests().add(e)
			p.shareRestored(e)
		}
	}
}

// admits reports whether a rule may probe what another replica names.
func (p *pool) admits(at netip.AddrPort) bool {
	return slices.ContainsFunc(p.scopes, func(s *scope) bool { return s.admits(at) })
}

// trimGuests forgets the guests that no rule allows any more.
func (p *pool) trimGuests() {
	guests := p.scopes.of(guestScope)
	if guests == nil {
		return
	}
	for n := range guests.members.all() {
		e := p.table.numbered(n)
		if !p.admits(e.at) {
			guests.remove(e)
			p.requeue(e)
			p.letGo(e)
		}
	}
}
