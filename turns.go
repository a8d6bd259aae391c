// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"

	"github.com/miekg/dns"
)

// state is a plan and where its groups stand. Immutable but for the turns and the ledger.
type state struct {
	plan   *plan
	turns  *turns
	ledger *ledger // nil without the option status
	cost   int64   // members that are held in memory for this state alone, beside the plan's
}

// turns counts the answers given for an RRset, for each group of its plan. Safe for concurrent
// use.
type turns struct {
	first atomic.Uint64
	more  []atomic.Uint64

	parked []parked
}

// next returns the turn of a group and moves on.
func (t *turns) next(group int) uint64 { return t.of(group).Add(1) - 1 }

func (t *turns) of(group int) *atomic.Uint64 {
	if group == 0 {
		return &t.first
	}
	return &t.more[group-1]
}

// parked is a group that answers no more, such as those of a tier that failed, and where it stood: it
// goes on from there should it answer again. Immutable.
type parked struct {
	group *group
	turn  uint64
}

// maxParked is the most groups of an RRset that are kept so.
const maxParked = 16

// newState returns a state. Its cost is that of the groups that are parked with its turns.
func newState(p *plan, t *turns) *state {
	s := &state{plan: p, turns: t}
	for i := range t.parked {
		s.cost += t.parked[i].group.cost()
	}
	return s
}

// turns returns the plan for the records of set with its turns, and where the message has the records.
func (z *zoneRule) turns(s *scratch, key turnKey, set *rrset, rrs []dns.RR) (*state, *lineup) {
	e := allTurns.entry(z.scope, key, set.owner)
	epoch := z.epoch.Load() // before what it stands for
	now := e.state.Load()
	if now.by(z.rule) && now.plan.fits(rrs, set) {
		if now := z.refresh(e, now, epoch, s); now != nil {
			return now, &now.plan.lineup
		}
	}
	if now.by(z.rule) && now.plan.lineUp(rrs, set, s) {
		if now := z.refresh(e, now, epoch, s); now != nil {
			e.rememberOrder(now, s)
			return now, &s.lineup
		}
	}
	s.lineUp(rrs, set)
	for {
		if now.by(z.rule) && now.plan.holds(s) {
			if now := z.refresh(e, now, epoch, s); now != nil {
				e.rememberOrder(now, s)
				return now, &s.lineup
			}
		}
		next := z.renew(e, now, epoch, s)
		if e.state.CompareAndSwap(now, next) {
			allTurns.account(now, next)
			return next, &s.lineup
		}
		now = e.state.Load()
	}
}

// by tells whether a rule made the plan.
func (s *state) by(r *rule) bool { return s != nil && s.plan.rule == r }

// refresh returns the state that now is at an epoch, where nothing changed that concerns its
// members, else nil.
func (z *zoneRule) refresh(e *entry, now *state, epoch uint64, s *scratch) *state {
	if now.plan.stands(epoch, s) {
		return now
	}
	z.assess(e.owner, len(now.plan.members), func(i int) *member { return &now.plan.members[i] }, s)
	switch {
	case !slices.Equal(s.standings, now.plan.standings):
		return nil
	case now.plan.epoch == epoch:
		return now
	}
	next := &state{now.plan.at(epoch), now.turns, now.ledger, now.cost}
	e.state.CompareAndSwap(now, next)
	return next
}

// rememberOrder takes the order in s into the plan when it comes for the second time running, as
// it does where a cache below keeps one of a shuffling upstream's answers for a while. An upstream
// that shuffles every time is not worth remembering.
func (e *entry) rememberOrder(now *state, s *scratch) {
	h := uint64(len(s.first))
	for _, record := range s.first {
		h = splitMix(h ^ uint64(record))
	}
	if e.odd.Swap(h) == h {
		next := newState(now.plan.remembering(s), now.turns)
		next.ledger = now.ledger
		next.cost += int64(len(now.plan.members)) // what it remembers is not shared
		if e.state.CompareAndSwap(now, next) {
			allTurns.account(now, next)
		}
	}
}

// renew returns the state that follows now for the members lined up in s: with a plan for them,
// and with the turns where now left them.
func (z *zoneRule) renew(e *entry, now *state, epoch uint64, s *scratch) *state {
	z.assess(e.owner, len(s.first), func(i int) *member { return &s.members[s.first[i]] }, s)
	p := z.sharedPlan(epoch, e.key.line, s)
	next := newState(p, turnsAfter(now, p))
	if z.shown() {
		next.ledger = newLedger(e, p, now)
	}
	return next
}

// turnsAfter returns the turns of p where those of now left them, if there is one.
func turnsAfter(now *state, p *plan) *turns {
	if now == nil {
		return newTurns(p)
	}
	return resumedTurns(p, now.plan, now.turns)
}

// sharedPlan returns a plan for the members lined up in s and what is known of them.
// RRsets of the same members, as all names that a wildcard answers have, share one where they come
// close together.
func (z *zoneRule) sharedPlan(epoch uint64, line int8, s *scratch) *plan {
	h := splitMix(uint64(len(s.first))) ^ uint64(uint8(line)) //nolint:gosec // bits
	for i, record := range s.first {
		h = splitMix(h ^ s.members[record].hash() ^ s.standings[i].hash())
	}
	place := &z.plans[h%uint64(len(z.plans))]
	if p := place.Load(); p != nil && p.epoch == epoch && p.line == line && p.holds(s) && slices.Equal(p.standings, s.standings) {
		p.memory.shared.Store(true)
		return p
	}
	p := newPlan(z.rule, epoch, line, s)
	place.Store(p)
	return p
}

// newTurns returns the turns of p where an RRset was never answered before: they start anywhere,
// so that a restart favours nobody.
func newTurns(p *plan) *turns {
	t := &turns{}
	if len(p.groups) > 1 {
		t.more = make([]atomic.Uint64, len(p.groups)-1)
	}
	for i := range p.groups {
		t.of(i).Store(rand.Uint64() >> 1) //nolint:gosec // a place to start, no secret; far from overflow
	}
	return t
}

// resumedTurns returns the turns of p where the RRset was answered by another plan before: those
// of its groups go on, and are the very same where no group changed.
func resumedTurns(p, before *plan, old *turns) *turns {
	if slices.EqualFunc(p.groups, before.groups, func(a, b group) bool { return a.is(&b) }) {
		return old
	}
	t := newTurns(p)
	known := make(map[groupID]parked, len(old.parked)+len(before.groups))
	for _, prior := range old.parked {
		known[prior.group.id] = prior
	}
	for j := range before.groups {
		known[before.groups[j].id] = parked{&before.groups[j], old.of(j).Load()}
	}
	for i := range p.groups {
		now := &p.groups[i]
		if prior, ok := known[now.id]; ok {
			t.of(i).Store(resume(now, prior.group, prior.turn))
			delete(known, now.id)
		}
	}
	t.park(old, before, known)
	return t
}

// park keeps the groups left of those that were known: as many as may be, those that answered last.
func (t *turns) park(old *turns, before *plan, left map[groupID]parked) {
	for i := len(before.groups) - 1; i >= 0 && len(t.parked) < maxParked; i-- {
		if prior, ok := left[before.groups[i].id]; ok {
			alone := *prior.group // does not keep the other groups of its plan
			t.parked = append(t.parked, parked{&alone, prior.turn})
		}
	}
	for _, prior := range slices.Backward(old.parked) {
		if _, ok := left[prior.group.id]; ok && len(t.parked) < maxParked {
			t.parked = append(t.parked, prior)
		}
	}
	slices.Reverse(t.parked)
}

// resume returns the turn at which now continues for before, which was at a turn.
func resume(now, before *group, turn uint64) uint64 {
	if now.is(before) {
		return turn
	}
	return now.schedule.Resume(before.schedule, turn, func(i int) (int, bool) { return now.find(&before.members[i]) })
}

// find returns the index of a member. If the group does not have it, it returns the index of the
// next one, the first being next to the last.
func (g *group) find(m *member) (at int, found bool) {
	at, found = slices.BinarySearchFunc(g.members, m, func(g member, m *member) int { return g.compare(m) })
	return at % len(g.members), found
}
