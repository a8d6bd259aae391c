// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/schedule"
)

// state is a plan and how often its groups have answered. Immutable except for the turns and the
// lead counts.
type state struct {
	plan  *plan
	turns *turns
	leads *leadCounts // nil without the option status
	cost  int64       // members held in memory for this state alone, without the plan's
}

// turns counts the answers given for an RRset, for each group of its plan. Safe for concurrent use.
type turns struct {
	first atomic.Uint64
	more  []atomic.Uint64

	saved []savedTurn
}

// next returns the turn of a group and increments it.
func (t *turns) next(group int) uint64 { return t.of(group).Add(1) - 1 }

func (t *turns) of(group int) *atomic.Uint64 {
	if group == 0 {
		return &t.first
	}
	return &t.more[group-1]
}

// savedTurn is the turn of a group that answers no more, for instance because its tier failed. The
// group resumes there if it answers again. Immutable.
type savedTurn struct {
	group *group
	turn  uint64
}

// maxSaved is the most saved turns of an RRset.
const maxSaved = 16

// newState returns a state. Its cost is that of the groups that have a saved turn.
func newState(p *plan, t *turns) *state {
	s := &state{plan: p, turns: t}
	for i := range t.saved {
		s.cost += t.saved[i].group.cost()
	}
	return s
}

// by reports whether a rule made the plan.
func (s *state) by(r *rule) bool { return s != nil && s.plan.rule == r }

// stateOf returns the plan and turns for the records of a set, and which records are which members.
func (z *zoneRule) stateOf(b *buffers, key turnKey, set *rrset, rrs []dns.RR) (*state, *recordOrder) {
	e := allTurns.entry(z.scope, key, set.owner)
	epoch := z.epoch.Load() // before all that it covers
	now := e.state.Load()
	if !now.by(z.rule) {
		return z.renew(e, now, epoch, b, set, rrs)
	}
	order := now.match(b, set, rrs)
	if order == nil {
		return z.renew(e, now, epoch, b, set, rrs)
	}
	fresh := z.refresh(e, now, epoch, b)
	if fresh == nil {
		return z.renew(e, now, epoch, b, set, rrs)
	}
	if order == &now.plan.last.order {
		return fresh, &fresh.plan.last.order
	}
	e.rememberOrder(fresh, order)
	return fresh, order
}

// match returns which records of a set are which members of the plan, nil if they are others.
func (s *state) match(b *buffers, set *rrset, rrs []dns.RR) *recordOrder {
	p := s.plan
	if p.last.fits(p.members, rrs, set) {
		return &p.last.order
	}
	if p.index.lineUp(&b.lineup.order, p.members, rrs, set) {
		return &b.lineup.order
	}
	b.lineup.sort(rrs, set)
	if p.holds(&b.lineup) {
		return &b.lineup.order
	}
	return nil
}

// refresh returns the state at an epoch if nothing has changed that concerns its members, else nil.
func (z *zoneRule) refresh(e *entry, now *state, epoch uint64, b *buffers) *state {
	p := now.plan
	if p.isCurrent(epoch, &b.targets) {
		return now
	}
	z.assess(e.owner, len(p.members), func(i int) *member { return &p.members[i] }, b)
	switch {
	case !slices.Equal(b.standings, p.standings):
		return nil
	case p.epoch == epoch:
		return now
	}
	next := &state{p.at(epoch), now.turns, now.leads, now.cost}
	e.state.CompareAndSwap(now, next)
	return next
}

// rememberOrder has the plan remember an order that comes twice in a row, as it does if a cache below
// keeps an answer of a shuffling upstream for a while. An order that comes once is not worth it.
func (e *entry) rememberOrder(now *state, order *recordOrder) {
	h := uint64(len(order.first))
	for _, record := range order.first {
		h = schedule.Mix(h ^ uint64(record))
	}
	if e.odd.Swap(h) != h {
		return
	}
	next := newState(now.plan.remembering(order), now.turns)
	next.leads = now.leads
	next.cost += int64(len(now.plan.members)) // what it remembers is not shared
	if e.state.CompareAndSwap(now, next) {
		allTurns.account(now, next)
	}
}

// renew puts a state with a new plan in the place of now, which may be nil. The turns go on.
func (z *zoneRule) renew(e *entry, now *state, epoch uint64, b *buffers, set *rrset, rrs []dns.RR) (*state, *recordOrder) {
	b.lineup.sort(rrs, set)
	for {
		next := z.successor(e, now, epoch, b)
		if e.state.CompareAndSwap(now, next) {
			allTurns.account(now, next)
			z.announce(e, now, next.plan)
			return next, &b.lineup.order
		}
		now = e.state.Load() // of another query that was faster
		if now.by(z.rule) && now.plan.holds(&b.lineup) {
			if fresh := z.refresh(e, now, epoch, b); fresh != nil {
				return fresh, &b.lineup.order
			}
		}
	}
}

// successor returns the state that follows now for the members lined up: with a plan for them, and
// with the turns of now.
func (z *zoneRule) successor(e *entry, now *state, epoch uint64, b *buffers) *state {
	z.assess(e.owner, len(b.lineup.order.first), b.lineup.member, b)
	p := z.planFor(epoch, e.key.prefer, b)
	next := newState(p, turnsAfter(now, p))
	if z.shown() {
		next.leads = newLeadCounts(e, p, now)
	}
	return next
}

// planFor returns a plan for the members lined up and what is known of them. RRsets of the same
// members, such as all names that a wildcard answers, share one if they come close together.
func (z *zoneRule) planFor(epoch uint64, prefer choice, b *buffers) *plan {
	h := schedule.Mix(uint64(len(b.standings))) ^ prefer.hash()
	for i := range b.standings {
		h = schedule.Mix(h ^ b.lineup.member(i).hash() ^ b.standings[i].hash())
	}
	recent := &z.plans[h%uint64(len(z.plans))]
	if p := recent.Load(); p != nil && p.epoch == epoch && p.prefer == prefer && p.holds(&b.lineup) && slices.Equal(p.standings, b.standings) {
		p.shared.footprint.several.Store(true)
		return p
	}
	p := newPlan(z.rule, epoch, prefer, b)
	recent.Store(p)
	return p
}

// turnsAfter returns the turns of p, which go on from now's if there is one.
func turnsAfter(now *state, p *plan) *turns {
	if now == nil {
		return newTurns(p)
	}
	return resumedTurns(p, now.plan, now.turns)
}

// newTurns returns the turns of an RRset that was never answered before. They start at random, so
// that a restart favours nobody.
func newTurns(p *plan) *turns {
	t := &turns{}
	if len(p.groups) > 1 {
		t.more = make([]atomic.Uint64, len(p.groups)-1)
	}
	for i := range p.groups {
		t.of(i).Store(rand.Uint64() >> 1) //nolint:gosec // no secret; far from overflow
	}
	return t
}

// resumedTurns returns the turns of p for an RRset that another plan answered before. They are the
// old ones if no group changed.
func resumedTurns(p, before *plan, old *turns) *turns {
	if slices.EqualFunc(p.groups, before.groups, func(a, b group) bool { return a.is(&b) }) {
		return old
	}
	t := newTurns(p)
	known := make(map[groupID]savedTurn, len(old.saved)+len(before.groups))
	for _, prior := range old.saved {
		known[prior.group.id] = prior
	}
	for j := range before.groups {
		known[before.groups[j].id] = savedTurn{&before.groups[j], old.of(j).Load()}
	}
	for i := range p.groups {
		now := &p.groups[i]
		if prior, ok := known[now.id]; ok {
			t.of(i).Store(resume(now, prior.group, prior.turn))
			delete(known, now.id)
		}
	}
	t.save(old, before, known)
	return t
}

// save keeps the turns of the groups that are left of those known, at most maxSaved of those that
// answered last.
func (t *turns) save(old *turns, before *plan, left map[groupID]savedTurn) {
	for i := len(before.groups) - 1; i >= 0 && len(t.saved) < maxSaved; i-- {
		if prior, ok := left[before.groups[i].id]; ok {
			alone := *prior.group // does not keep the other groups of its plan
			t.saved = append(t.saved, savedTurn{&alone, prior.turn})
		}
	}
	for _, prior := range slices.Backward(old.saved) {
		if _, ok := left[prior.group.id]; ok && len(t.saved) < maxSaved {
			t.saved = append(t.saved, prior)
		}
	}
	slices.Reverse(t.saved)
}

// resume returns the turn at which now continues for before, which was at a turn.
func resume(now, before *group, turn uint64) uint64 {
	if now.is(before) {
		return turn
	}
	return now.schedule.Resume(before.schedule, turn, func(i int) (int, bool) { return now.find(&before.members[i]) })
}
