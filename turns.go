// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/load"
	"github.com/seed-f1518d44/balance/internal/schedule"
)

// state is a plan and how often its groups have answered. Immutable except for the turns and the
// lead counts.
type state struct {
	plan  *plan
	turns *turns
	leads *leadCounts // nil without the option status
	past  *past       // as of when it was made; nil unless it counts
	loads *load.State // nil without the option load_weights
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

// savedTurn is the turn of a group that no longer answers, for instance because its tier failed.
// The group resumes there if it answers again. Immutable.
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

// with returns a state, which was just made, with what is known of the loads of its members.
func (s *state) with(loads *load.State) *state {
	s.loads = loads
	s.cost += int64(loads.Len()) // as large as members
	return s
}

// loadsBefore returns what was known of the loads of an RRset's members, nil if nothing was. The
// state may be nil.
func (s *state) loadsBefore() *load.State {
	if s == nil {
		return nil
	}
	return s.loads
}

// match returns which records of a set are which members of the plan, nil if they are others. The
// order is not the one that the plan remembers.
func (s *state) match(b *buffers, set *rrset, rrs []dns.RR) *recordOrder {
	p := s.plan
	if p.index.lineUp(&b.lineup.order, p.members, rrs, set) {
		return &b.lineup.order
	}
	b.lineup.sort(rrs, set)
	if p.holds(&b.lineup) {
		return &b.lineup.order
	}
	return nil
}

// rememberOrder has the plan remember an order that comes twice in a row, as it does if a cache
// below keeps an answer of a shuffling upstream for a while. An order that comes once is not worth
// it.
func (e *entry) rememberOrder(now *state, order *recordOrder) {
	h := uint64(len(order.first))
	for _, record := range order.first {
		h = schedule.Mix(h ^ uint64(record))
	}
	if e.odd.Swap(h) != h {
		return
	}
	next := newState(now.plan.remembering(order), now.turns).with(now.loads)
	next.leads, next.past = now.leads, now.past
	next.cost += int64(len(now.plan.members)) // what it remembers is not shared
	if e.state.CompareAndSwap(now, next) {
		allTurns.account(now, next)
	}
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

// save keeps the turns of the groups that no longer answer: the maxSaved that answered last.
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
