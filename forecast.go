// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"net/netip"
	"slices"
	"time"

	"github.com/seed-f1518d44/balance/internal/names"
)

// forecast is the plan that the next answers for an RRset will follow, and what they are made of.
// It may differ from the last plan, because more is known of the members since. Immutable.
type forecast struct {
	plan   *plan
	owner  string
	answer string // "members", "fail_open" or what all_down says instead
}

// forecastOf returns the forecast for an entry. It registers nothing for probing.
func (z *zoneRule) forecastOf(e *entry, s *state, now time.Time) forecast {
	p, owner, rules := s.plan, names.Spell(e.owner), z.appliedTo(e.owner)
	if rules.ordersOnly = e.key.where == inGlue; rules.ordersOnly {
		return forecast{p, e.owner, "members"}
	}
	memberAt := func(i int) *member { return &p.members[i] }
	past, standings := rules.pastWith(e.key, e.owner, s, len(p.members), memberAt), make([]standing, len(p.members))
	for i := range p.members {
		if m := &p.members[i]; m.host != "" {
			standings[i] = p.standings[i] // only an answer shows whether a target is down
		} else {
			standings[i] = rules.peek(owner, withoutPort(m.addr), past, now)
			standings[i].factors.Load = p.standings[i].factors.Load // of the last look
		}
	}
	var kept keptTier
	if past != nil {
		kept = past.follow(rules.failback(owner, past, standings, memberAt, !p.awaited.IsZero()))
	}
	if !rules.made(s) || !slices.Equal(standings, p.standings) || kept != p.basis.kept {
		p = &plan{basis: rules.basis(e.key, rules.epoch(), kept), members: p.members, standings: standings}
		p.divide()
	}
	return forecast{p, e.owner, z.answerOf(p, e.key.where)}
}

// peek is standingOf, and registers nothing for probing.
func (r *applied) peek(owner string, at netip.AddrPort, past *past, now time.Time) standing {
	s := r.question.peek(owner, at, past, now)
	if r.owner != nil {
		s = s.and(r.owner.peek(owner, at, past, now))
	}
	return s
}

// peek is judge, and registers nothing for probing.
func (z *zoneRule) peek(owner string, at netip.AddrPort, past *past, now time.Time) standing {
	s, _ := z.aged(z.standingOf(owner, at, z.lastVerdictOn(at), now), at, past)
	return s
}

// answerOf returns what answers are made of. The option all_down is for records that were asked
// for.
func (r *rule) answerOf(p *plan, where section) string {
	switch {
	case !p.allDown:
		return "members"
	case where != inExtra && r.allDown.replaces(p.members[0].host == ""):
		return allDownNames[r.allDown.mode]
	}
	return "fail_open"
}

// holdsMembers reports whether answers hold members rather than what all_down puts in their place.
func (f *forecast) holdsMembers() bool { return f.answer == "members" || f.answer == "fail_open" }

// wanted returns the share of the leads that each member is to have. The first group leads.
func (f *forecast) wanted() []float64 {
	shares := make([]float64, len(f.plan.members))
	if !f.holdsMembers() || len(f.plan.groups) == 0 {
		return shares
	}
	first := &f.plan.groups[0]
	sum := 0.0
	for _, w := range first.weights {
		sum += float64(w)
	}
	for i, w := range first.weights {
		shares[f.plan.answering(i)] = float64(w) / sum
	}
	return shares
}

// states returns for each member "answers", or the reason why it does not.
func (f *forecast) states() []string {
	states := make([]string, len(f.plan.members))
	from := 0
	for i := range f.plan.groups {
		state := "answers" // all members of a group have their turn
		if !f.holdsMembers() {
			state = reasonNames[wasDown]
		} else if from >= f.plan.wanted {
			state = reasonNames[limit]
		}
		for range f.plan.groups[i].members {
			states[f.plan.answering(from)] = state
			from++
		}
	}
	for _, x := range f.plan.excluded {
		states[x.member] = reasonNames[x.why]
	}
	return states
}
