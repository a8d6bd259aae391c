// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/failback"
	"github.com/seed-f1518d44/balance/internal/inforce"
	"github.com/seed-f1518d44/balance/internal/load"
	"github.com/seed-f1518d44/balance/internal/names"
	"github.com/seed-f1518d44/balance/internal/overrides"
	"github.com/seed-f1518d44/balance/internal/schedule"
)

// applied is the rules that apply to an RRset. The question's rule decides. If a CNAME led to an
// owner that another rule of the server block holds, a member is also down if that rule says so.
type applied struct {
	question   *zoneRule
	owner      *zoneRule // nil if it is the question's
	ordersOnly bool      // no member is judged, none is left out, and TTLs stay
}

// appliedTo returns the rules that apply to the RRsets of an owner, if the question is for the
// rule.
func (z *zoneRule) appliedTo(owner string) applied {
	if z.block == nil {
		return applied{question: z}
	}
	return applied{question: z, owner: z.otherHolding(owner)}
}

// otherHolding returns the rule of the server block that holds an owner, nil if that is this one.
func (z *zoneRule) otherHolding(owner string) *zoneRule {
	if !z.divided && names.InZone(owner, z.zone) {
		return nil
	}
	if other, _ := longestZone(z.block, owner); other != z {
		return other
	}
	return nil
}

// judges reports whether members can be down.
func (r *applied) judges() bool {
	return !r.ordersOnly && (r.question.judges() || r.owner != nil && r.owner.judges())
}

// limits returns the lower of the rules' limits of the TTL.
func (r *applied) limits() ttlLimits {
	switch {
	case r.ordersOnly:
		return ttlLimits{}
	case r.owner != nil:
		return r.question.ttl.and(r.owner.ttl)
	}
	return r.question.ttl
}

// epoch returns a number that changes if an input of either rule's plans does: neither rule's epoch
// ever goes back, so the sum stays only if both do.
func (r *applied) epoch() uint64 {
	epoch := r.question.epoch.Load()
	if r.owner != nil {
		epoch += r.owner.epoch.Load()
	}
	return epoch
}

// basis returns what a plan for a key is made from, apart from its members.
func (r *applied) basis(key turnKey, epoch uint64, kept keptTier) basis {
	b := basis{rule: r.question.rule, epoch: epoch, prefer: key.prefer, most: key.most, kept: kept, ordersOnly: r.ordersOnly}
	if r.owner != nil {
		b.owner = r.owner.rule
	}
	return b
}

// made reports whether a state has a plan of these rules. The state may be nil.
func (r *applied) made(s *state) bool {
	if s == nil || s.plan.basis.rule != r.question.rule {
		return false
	}
	if r.owner == nil {
		return s.plan.basis.owner == nil
	}
	return s.plan.basis.owner == r.owner.rule
}

// assess leaves in b.standings what is known of n members of an owner's RRset, for a choice. It
// registers their addresses for probing.
func (r *applied) assess(owner string, prefer choice, n int, memberAt func(i int) *member, b *buffers) {
	b.standings, b.awaited, b.next = b.standings[:0], time.Time{}, time.Time{}
	owner = names.Spell(owner) // a zone file's names come as it spells them
	for i := range n {
		m := memberAt(i)
		switch {
		case r.ordersOnly:
			weight, _ := r.question.weightOf(owner, m.addr)
			b.standings = append(b.standings, standing{weight: weight, place: r.question.localities.of(m.addr.Unmap())})
		case m.host == "":
			b.standings = append(b.standings, r.standingOf(owner, withoutPort(m.addr), b))
		default:
			b.standings = append(b.standings, r.standingOfTarget(owner, prefer, m, b))
		}
	}
	if n > 1 && !b.leavesNoTrace {
		r.question.warnUnweighed(owner, n, memberAt)
	}
	b.kept = keptTier{}
	if b.past != nil {
		b.changesAt(r.question.handover.nextLook(time.Now()))
		d := r.failback(owner, b.past, b.standings, memberAt, !b.awaited.IsZero())
		b.kept = b.past.follow(d)
		b.changesAt(d.Again)
	}
}

// pastWith returns what is remembered of an RRset, with the members that it has now. It is nil if
// that does not count. The state may be nil.
func (r *applied) pastWith(key turnKey, owner string, now *state, n int, memberAt func(i int) *member) *past {
	z := r.question
	if !z.remembers() || r.ordersOnly || memberAt(0).host != "" {
		return nil
	}
	next := new(past)
	if e := allTurns.known(z.scope, pastKey(key), owner); e != nil && e.past.Load() != nil {
		*next = *e.past.Load()
	} else if now != nil && now.past != nil { // it was evicted
		*next = *now.past
	}
	next.renumber(z.tiers)
	if told := z.handover.of(z.identity, owner, key.rrtype); told != nil && !next.failback.Serves() && z.failback.Mode != failback.AtOnce {
		next.failback, next.replica, next.handed = told.state, told.replica, told
	}
	if z.slowStart > 0 {
		next.joins = next.joins.After(z.joinable(owner, n, memberAt), time.Now(), z.slowStart)
	}
	return next
}

// joinable returns the numbers of n members of an owner's RRset, without those that an operator
// took down: when they are back, they join it.
func (z *zoneRule) joinable(owner string, n int, memberAt func(i int) *member) (numbers []uint64) {
	owner = names.Spell(owner)
	set, now := z.overridesInForce(), z.timeOfDay()
	for i := range n {
		addr := memberAt(i).addr.Unmap()
		if line := set.Find(owner, addr, now); line == nil || line.Override != overrides.Down {
			numbers = append(numbers, numberOf(addr))
		}
	}
	return numbers
}

// pastKey returns the key of the entry for the past of an RRset, whatever its answers depend on.
func pastKey(key turnKey) turnKey {
	return turnKey{where: inPast, rrtype: key.rrtype, prefer: choice{line: noPreference}}
}

// remember keeps the past of an entry's RRset for the next plan.
func (r *applied) remember(e *entry, b *buffers) {
	if b.past == nil {
		return
	}
	if handed := b.past.handed; handed != nil {
		handed.used.Store(true)
		b.past.handed = nil
	}
	allTurns.entry(r.question.scope, pastKey(e.key), e.owner).past.Store(b.past)
	ramps := slices.ContainsFunc(b.standings, func(s standing) bool { return s.factors.Ramp > 0 })
	r.question.changing.note(e, ramps || b.kept.number > 0)
}

// forget drops the past of an entry's RRset if the rule has no option any more that goes by it. If
// the option comes back with another reload, the tier that served long ago is not to serve again.
func (r *applied) forget(e *entry, before, now *state) {
	if now.past == nil && before != nil && before.past != nil {
		allTurns.entry(r.question.scope, pastKey(e.key), e.owner).past.Store(nil)
	}
}

// failback decides which tier of an RRset serves, given what is remembered of it.
func (r *applied) failback(owner string, before *past, standings []standing, memberAt func(i int) *member, awaited bool) failback.Decision {
	z := r.question
	if z.failback.Mode == failback.AtOnce {
		return failback.Decision{}
	}
	look := failback.Look{Now: time.Now(), Awaited: awaited || z.handover.awaited(), Asked: z.overridesInForce().Failback(owner, z.timeOfDay())}
	for _, t := range tiersOf(standings, z.minHealthy) {
		var back []time.Time
		for _, m := range t.eligible() {
			back = append(back, z.recordOf(withoutPort(memberAt(int(m)).addr)).Back())
		}
		seen := failback.Tier{Number: t.number, Healthy: t.hasQuorum(z.minHealthy)}
		if seen.Healthy {
			slices.SortFunc(back, time.Time.Compare)
			seen.Since = back[z.minHealthy.of(t.size())-1]
		}
		look.Tiers = append(look.Tiers, seen)
	}
	return z.failback.Decide(before.failback, look)
}

// weigh scales the weights in b.standings by what n members say of their load. It returns the state
// of the controller that follows from the one before, which may be nil, and notes when to look
// again.
func (r *applied) weigh(before *load.State, n int, memberAt func(i int) *member, b *buffers) *load.State {
	z := r.question
	if !z.loads.given() || r.ordersOnly || memberAt(0).host != "" {
		return nil
	}
	now := time.Now()
	members := make([]load.Member, n)
	for i := range members {
		addr, s := memberAt(i).addr, &b.standings[i]
		said := z.loadOf(addr)
		members[i] = load.Member{Addr: addr, Group: s.tier, Weight: s.traffic(), Report: said.Report, Age: now.Sub(said.At)}
	}
	if z.slowStart > 0 {
		setRamps(members, b.standings)
	}
	next := before.Next(now, members, z.loads.limits())
	for i := range b.standings {
		if percent := next.Percent(members[i].Addr); percent < 100 {
			b.standings[i].factors.Load = inforce.Percent(percent)
		}
	}
	b.changesAt(z.loads.nextLook(now))
	return next
}

// standingOf returns what is known of an address, and the port that its record names or 0.
func (r *applied) standingOf(owner string, at netip.AddrPort, b *buffers) standing {
	s := r.question.judge(owner, at, b)
	if r.owner != nil {
		s = s.and(r.owner.judge(owner, at, b))
	}
	return s
}

// stateOf returns the plan and turns for the records of a set, and which records are which members.
func (r *applied) stateOf(b *buffers, key turnKey, set *rrset, rrs []dns.RR) (*state, *recordOrder) {
	e := allTurns.entry(r.question.scope, key, set.owner)
	epoch := r.epoch() // before all that it covers
	now := e.state.Load()
	if !r.made(now) {
		return r.renew(e, now, epoch, b, set, rrs)
	}
	order := &now.plan.last.order
	if !now.plan.last.fits(now.plan.members, rrs, set) {
		if order = now.match(b, set, rrs); order == nil {
			return r.renew(e, now, epoch, b, set, rrs)
		}
	}
	fresh := now
	if now.plan.basis.epoch != epoch || !now.plan.settled && r.mustLook(now.plan) {
		if fresh = r.refresh(e, now, epoch, b); fresh == nil {
			return r.renew(e, now, epoch, b, set, rrs)
		}
	}
	if order == &now.plan.last.order {
		return fresh, &fresh.plan.last.order
	}
	e.rememberOrder(fresh, order)
	return fresh, order
}

// refresh looks again at what is known of the members. It returns the state at an epoch if nothing
// of that has changed, else nil.
func (r *applied) refresh(e *entry, now *state, epoch uint64, b *buffers) *state {
	p := now.plan
	memberAt := func(i int) *member { return &p.members[i] }
	b.past = r.pastWith(e.key, e.owner, now, len(p.members), memberAt)
	r.assess(e.owner, e.key.prefer, len(p.members), memberAt, b)
	loads := r.weigh(now.loads, len(p.members), memberAt, b)
	if !slices.Equal(b.standings, p.standings) || b.kept != p.basis.kept {
		return nil
	}
	r.remember(e, b)
	switch {
	case p.basis.epoch == epoch && p.awaited.Equal(b.awaited) && p.next.Equal(b.next):
		return now
	}
	next := &state{p.at(epoch, b.awaited, b.next), now.turns, now.leads, b.past, loads, now.cost}
	e.state.CompareAndSwap(now, next)
	return next
}

// mustLook reports whether more can have changed than an epoch tells: the addresses of targets, and
// what changes at a time.
func (r *applied) mustLook(p *plan) bool {
	goesByTargets := r.judges() || r.question.policy.weighs || p.basis.prefer.line != noPreference
	return p.members[0].host != "" && goesByTargets || isPast(p.awaited) || isPast(p.next)
}

// isPast reports whether a time has come. The zero time never does.
func isPast(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

// renew puts a state with a new plan in the place of now, which may be nil. The turns go on.
func (r *applied) renew(e *entry, now *state, epoch uint64, b *buffers, set *rrset, rrs []dns.RR) (*state, *recordOrder) {
	b.lineup.sort(rrs, set)
	for {
		next := r.successor(e, now, epoch, b)
		if e.state.CompareAndSwap(now, next) {
			allTurns.account(now, next)
			r.announce(e, now, next.plan)
			r.teach(e, next)
			r.remember(e, b)
			r.forget(e, now, next)
			return next, &b.lineup.order
		}
		now = e.state.Load() // of another query that was faster
		if r.made(now) && now.plan.holds(&b.lineup) {
			if fresh := r.refresh(e, now, epoch, b); fresh != nil {
				return fresh, &b.lineup.order
			}
		}
	}
}

// teach also keeps the members of an address RRset under the key by which records that lead to its
// owner look them up. The entry itself has another key if it is only for some clients.
func (r *applied) teach(e *entry, now *state) {
	key := turnKey{where: inWatch, rrtype: e.key.rrtype, prefer: choice{line: noPreference}}
	if e.key.where == inAnswer && now.plan.members[0].host == "" && e.key.prefer.line != noPreference && r.judges() {
		allTurns.entry(r.question.scope, key, e.owner).state.Store(&state{plan: now.plan, turns: now.turns})
	}
}

// successor returns the state that follows now for the members lined up: with a plan for them, and
// with the turns of now.
func (r *applied) successor(e *entry, now *state, epoch uint64, b *buffers) *state {
	b.past = r.pastWith(e.key, e.owner, now, len(b.lineup.order.first), b.lineup.member)
	r.assess(e.owner, e.key.prefer, len(b.lineup.order.first), b.lineup.member, b)
	loads := r.weigh(now.loadsBefore(), len(b.lineup.order.first), b.lineup.member, b)
	p := r.planFor(r.basis(e.key, epoch, b.kept), b)
	next := newState(p, turnsAfter(now, p)).with(loads)
	next.past = b.past
	if r.question.shown() {
		next.leads = newLeadCounts(e, p, now)
	}
	return next
}

// planFor returns a plan for the members lined up and what is known of them. RRsets of the same
// members, such as all names that a wildcard answers, share one if they come close together.
func (r *applied) planFor(from basis, b *buffers) *plan {
	h := schedule.Mix(uint64(len(b.standings))) ^ from.prefer.hash()
	for i := range b.standings {
		h = schedule.Mix(h ^ b.lineup.member(i).hash() ^ b.standings[i].hash())
	}
	recent := &r.question.plans[h%uint64(len(r.question.plans))]
	if p := recent.Load(); p != nil && p.basis == from && p.awaited.Equal(b.awaited) && p.next.Equal(b.next) && p.holds(&b.lineup) && slices.Equal(p.standings, b.standings) {
		p.shared.footprint.several.Store(true)
		return p
	}
	p := newPlan(from, r.limits(), b)
	recent.Store(p)
	return p
}
