// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"slices"

	"github.com/seed-f1518d44/balance/internal/names"
)

// answerOf says what the next answer is made of. What all_down says is for addresses that were asked for.
func (r *rule) answerOf(p *plan, where section) string {
	switch {
	case !p.allDown:
		return "members"
	case r.allDown.mode == answerOpen || p.members[0].host != "" || where == inExtra:
		return "fail_open"
	}
	return allDownNames[r.allDown.mode]
}

// outlook is the plan that the next answer will follow, for what is known of the members has perhaps
// changed since the last one.
type outlook struct {
	*plan
	owner  string
	answer string    // what it is made of
	wants  []float64 // share of the leads, by member
	next   []int     // place in the next answer, 1 being the lead; 0 for none
	why    []string  // those aside do not answer; empty for others
}

// describe works out what the next answer for an RRset will be.
func (o *overview) describe(z *shownRule, n *listedName, s *state) outlook {
	p, t := s.plan, s.turns
	standings, owner := make([]standing, len(p.members)), names.Spell(n.entry.owner)
	for i := range p.members {
		standings[i] = o.standing(z, owner, p, i)
	}
	if !s.by(z.rule) || !slices.Equal(standings, p.standings) {
		fresh := &plan{rule: z.rule, line: p.line, members: p.members, standings: standings}
		fresh.divide(classify(standings, z.minHealthy))
		p, t = fresh, resumedTurns(fresh, p, t)
	}
	look := outlook{
		plan: p, owner: n.entry.owner, answer: z.answerOf(p, n.entry.key.where),
		wants: make([]float64, len(p.members)), next: make([]int, len(p.members)), why: make([]string, len(p.members)),
	}
	for _, a := range p.excluded {
		look.why[a.member] = reasonNames[a.why]
	}
	if look.answer == "members" || look.answer == "fail_open" {
		look.share()
		look.foresee(t)
	}
	return look
}

// standing returns what is known of a member now. Whether the target of an MX or SRV record is down only
// an answer shows: so it is as in the last one.
func (o *overview) standing(z *shownRule, owner string, p *plan, i int) standing {
	m := &p.members[i]
	if m.host != "" {
		return p.standings[i]
	}
	target := m.addr.Unmap()
	return standing{z.weightOf(owner, m.addr), z.tierOf(target), z.lastVerdictOn(target), z.overridesInForce().of(owner, target, o.now)}.ruled()
}

// share works out which share of the leads each member is to have: those of the first group lead.
func (l *outlook) share() {
	if len(l.groups) == 0 {
		return
	}
	first := &l.groups[0]
	sum := 0.0
	for i := range first.members {
		sum += l.weightIn(first, i)
	}
	for i := range first.members {
		l.wants[l.answering(i)] = l.weightIn(first, i) / sum
	}
}

func (l *outlook) weightIn(g *group, i int) float64 {
	if !l.rule.policy.weighs {
		return 1
	}
	return float64(g.weights[i])
}

// answering returns the member that is the nth in the groups, one after the other.
func (l *outlook) answering(n int) int {
	if l.ranked == nil {
		return n
	}
	return int(l.ranked[n])
}

// foresee works out the places in the next answer, unless they depend on the client.
func (l *outlook) foresee(t *turns) {
	if l.rule.policy.byClient {
		return
	}
	from := 0
	for i := range l.groups {
		g := &l.groups[i]
		to := min(from+len(g.members), l.wanted)
		if to <= from {
			return
		}
		picked := make([]uint16, to-from)
		g.schedule.Order(t.of(i).Load(), picked)
		for place, m := range picked {
			l.next[l.answering(from+int(m))] = from + place + 1
		}
		from += len(g.members)
	}
}

// state says whether the next answer holds a member and, where not, why.
func (l *outlook) state(m int) string {
	switch {
	case l.why[m] != "":
		return l.why[m]
	case l.next[m] > 0, l.rule.policy.byClient && l.answer == "members":
		return "answers"
	case l.allDown:
		return reasonNames[wasDown]
	}
	return reasonNames[limit]
}
