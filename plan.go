// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/seed-f1518d44/balance/internal/failback"
	"github.com/seed-f1518d44/balance/internal/inforce"
)

// plan says how one set of members is answered under one rule. It holds all that can be worked out
// before an answer: a new one is made when the members, the rule or what is known of them changes.
// Immutable, safe for concurrent use.
type plan struct {
	basis     basis
	limits    ttlLimits // of all rules that apply
	members   []member  // sorted, without duplicates
	standings []standing
	awaited   time.Time // when waiting for a first verdict on a member ends; zero: none is awaited
	next      time.Time // when what is known of a member next changes by itself; zero: never

	groups   []group     // members that are ordered among themselves, the first group first
	ranked   []uint16    // the members that answer, group by group; nil if one group has them all
	excluded []exclusion // the other members; they go last if none may be removed
	wanted   int         // the most members that answer; the option answers makes it less than all

	degraded   bool // a member that would answer is down, or another tier answers than the first
	failedOver bool // another tier answers than the first
	allDown    bool // every member is down

	lowTTL  bool // answers get the lower TTL
	settled bool // nothing but an epoch outdates the plan: no target, and no time

	weights []localWeight // of the members that can answer; only if the plan's choice spills

	index memberIndex
	last  remembered

	shared *sharedPlan // one for all copies of the plan
}

// basis is what a plan is made from, apart from its members and what is known of them.
type basis struct {
	rule       *rule  // of the question
	owner      *rule  // that holds the owner, if it is another one of the server block
	epoch      uint64 // of these rules when the plan was made
	prefer     choice
	most       uint16 // the most members that fit the client's size; 0: all
	kept       keptTier
	ordersOnly bool
}

// criteria returns what the members are classified by.
func (b *basis) criteria() criteria {
	return criteria{b.rule.minHealthy, b.kept, b.rule.failback.Mode == failback.Manual}
}

// sharedPlan is what the copies of a plan, and the states that use them, have in common. Safe for
// concurrent use.
type sharedPlan struct {
	footprint footprint
	lowered   loweredCache
}

// newPlan makes a plan of the members lined up and what is known of them.
func newPlan(from basis, limits ttlLimits, b *buffers) *plan {
	l := &b.lineup
	p := &plan{basis: from, limits: limits, members: make([]member, len(l.order.first)), standings: slices.Clone(b.standings)}
	for i := range p.members {
		p.members[i] = l.member(i).owned()
	}
	p.index = newMemberIndex(p.members)
	p.last = remember(&l.order, p.members)
	p.divide()
	p.setTimes(b.awaited, b.next)
	p.shared = &sharedPlan{footprint: footprint{cost: p.cost()}}
	return p
}

// divide classifies the members, splits those that answer into groups and prepares the order of
// each.
func (p *plan) divide() {
	r, by := p.basis.rule, p.basis.criteria()
	c := classify(p.standings, by)
	if r.spillsFor(p.basis.prefer) {
		p.weights = weightsByPlace(p.standings, c.answering)
	}
	prefer := p.basis.prefer
	if p.members[0].host == "" {
		prefer = r.narrow(prefer, p.standings, &c, by)
	}
	p.excluded, p.degraded, p.failedOver, p.allDown = c.excluded, c.degraded, c.failedOver, c.allDown
	p.wanted = min(len(c.answering), p.basis.limitOf(&p.members[0]))
	groupOf := func(m uint16) groupID {
		return groupID{p.standings[m].tier, r.groupOf(prefer, &p.members[m], &p.standings[m])}
	}
	slices.SortStableFunc(c.answering, func(a, b uint16) int { return cmp.Compare(groupOf(a).rank, groupOf(b).rank) })
	for from := 0; from < len(c.answering); {
		id, to := groupOf(c.answering[from]), from+1
		for to < len(c.answering) && groupOf(c.answering[to]) == id {
			to++
		}
		p.groups = append(p.groups, p.group(id, c.answering[from:to], p.wanted-from))
		from = to
	}
	if len(p.groups) > 1 || !inOrder(c.answering) {
		p.ranked = c.answering
	}
}

// group makes a group of some members. Most answers hold at most wanted of them.
func (p *plan) group(id groupID, indexes []uint16, wanted int) group {
	g := group{id: id, policy: p.basis.rule.policy, weights: inforce.Turns(p.weightsOf(indexes))}
	if len(indexes) == len(p.members) && inOrder(indexes) {
		g.members = p.members
	} else {
		g.members = make([]member, len(indexes))
		for at, i := range indexes {
			g.members[at] = p.members[i]
		}
	}
	g.schedule = g.policy.schedule(contest{g.members, g.weights, min(max(wanted, 1), len(g.members))})
	return g
}

// weightsOf returns the weights of some members, with their factors.
func (p *plan) weightsOf(indexes []uint16) []inforce.Weight {
	all := make([]inforce.Weight, len(indexes))
	for at, i := range indexes {
		s := &p.standings[i]
		all[at] = inforce.Weight{Static: s.share(), Factors: s.factors}
	}
	return all
}

// weightInForce returns the weight in force of a member, 0 if it does not answer.
func (p *plan) weightInForce(member int) float64 {
	from := 0
	for i := range p.groups {
		indexes := make([]uint16, len(p.groups[i].members))
		for at := range indexes {
			indexes[at] = uint16(p.answering(from + at))
		}
		if at := slices.Index(indexes, uint16(member)); at >= 0 {
			return float64(inforce.Weights(p.weightsOf(indexes))[at]) / inforce.Whole
		}
		from += len(indexes)
	}
	return 0
}

// outcome returns what becomes of an answer that no records are removed from.
func (p *plan) outcome() outcome {
	switch {
	case p.allDown:
		return failOpen
	case p.failedOver:
		return failedOver
	}
	return ordered
}

// keptText says why a later tier goes on serving, "" if none does.
func (p *plan) keptText() string {
	kept, from := p.basis.kept, ""
	if kept.replica != "" {
		from = "; it was serving at replica " + kept.replica + ", from which this one took it over"
	}
	switch {
	case kept.number == 0:
		return ""
	case kept.until == 0:
		return fmt.Sprintf("tier %d goes on serving although an earlier one could: failback manual waits for an operator%s", kept.number+1, from)
	}
	return fmt.Sprintf("tier %d goes on serving although an earlier one could, until %s, as failback says%s",
		kept.number+1, time.Unix(kept.until, 0).UTC().Format(time.RFC3339), from)
}

// excludes reports whether a member does not answer.
func (p *plan) excludes(member int) bool {
	return slices.ContainsFunc(p.excluded, func(x exclusion) bool { return int(x.member) == member })
}

// tier returns the tier that answers.
func (p *plan) tier() uint16 { return p.standings[p.answering(0)].tier }

// answering returns the nth of the members that answer, group by group.
func (p *plan) answering(n int) int {
	if p.ranked == nil {
		return n
	}
	return int(p.ranked[n])
}

// cost returns the memory that the plan takes, in members. Its groups share the members' names.
func (p *plan) cost() (members int64) {
	for i := range p.members {
		members += 1 + int64(len(p.members[i].host)/memberSize)
	}
	if p.limits.limited {
		members += int64(len(p.members)) // their records with a lowered TTL
	}
	for i := range p.groups {
		members += 1 + p.groups[i].scheduleCost()
	}
	return members
}

// holds reports whether the members lined up are the plan's.
func (p *plan) holds(l *lineup) bool {
	if len(l.order.first) != len(p.members) {
		return false
	}
	for i := range p.members {
		if p.members[i].compare(l.member(i)) != 0 {
			return false
		}
	}
	return true
}

// at returns the plan for another epoch, in which nothing else has changed.
func (p *plan) at(epoch uint64, awaited, next time.Time) *plan {
	other := *p
	other.basis.epoch = epoch
	other.setTimes(awaited, next)
	return &other
}

// setTimes sets until when a first verdict is waited for, and when what is known next changes by
// itself.
func (p *plan) setTimes(awaited, next time.Time) {
	p.awaited, p.next = awaited, next
	p.lowTTL = p.degraded || !awaited.IsZero()
	p.settled = awaited.IsZero() && next.IsZero() && p.members[0].host == ""
}

// limitOf returns the most members like m that an answer may hold.
func (b *basis) limitOf(m *member) int {
	most := maxRecords
	if b.ordersOnly || m.host != "" {
		return most
	}
	if b.most > 0 {
		most = int(b.most)
	}
	if b.rule.answers > 0 {
		most = min(most, b.rule.answers)
	}
	return most
}

// remembering returns the plan with another order to remember.
func (p *plan) remembering(order *recordOrder) *plan {
	other := *p
	other.last = remember(order, p.members)
	return &other
}
