// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/fleet"
	"github.com/seed-f1518d44/balance/internal/health"
	"github.com/seed-f1518d44/balance/internal/inforce"
	"github.com/seed-f1518d44/balance/internal/names"
	"github.com/seed-f1518d44/balance/internal/overrides"
	"github.com/seed-f1518d44/balance/internal/statuspage"
	"github.com/seed-f1518d44/balance/internal/text"
)

// explanation collects what is decided about an answer, for somebody who asks why. Owned by one
// answer.
type explanation struct {
	now    time.Time
	result outcome
	picked []uint16 // the members of the RRset at hand that go out
	left   bool     // the RRset at hand is a single record that is left as it is
	sets   []statuspage.WhyRRset
}

// explanationKey is where the context of a query has the explanation that is asked for.
type explanationKey struct{}

// explainedBy has a pass of a query through another block add to the explanation that is asked for,
// if one is.
func (a *answer) explainedBy(ctx context.Context) {
	if x, ok := ctx.Value(explanationKey{}).(*explanation); ok {
		a.client, a.counters = &client{explanation: x}, new(counters)
	}
}

// copyOf returns the state that the next answer for a set would be made with. It is a copy, so that
// the turn stays, and a look at what is known registers nothing.
func (r *applied) copyOf(b *buffers, key turnKey, set *rrset, rrs []dns.RR) (*state, *recordOrder) {
	b.lineup.sort(rrs, set)
	b.leavesNoTrace = true
	defer func() { b.leavesNoTrace = false }()
	var last *state
	if e := allTurns.known(r.question.scope, key, set.owner); e != nil {
		last = e.state.Load()
	}
	b.past = r.pastWith(key, set.owner, last, len(b.lineup.order.first), b.lineup.member)
	r.assess(set.owner, key.prefer, len(b.lineup.order.first), b.lineup.member, b)
	loads := r.weigh(last.loadsBefore(), len(b.lineup.order.first), b.lineup.member, b)
	p := newPlan(r.basis(key, r.epoch(), b.kept), r.limits(), b)
	return newState(p, turnsAfter(last, p).clone(p)).with(loads), &b.lineup.order
}

// clone returns a copy for a plan, which has as many groups.
func (t *turns) clone(p *plan) *turns {
	c := newTurns(p)
	for i := range p.groups {
		c.of(i).Store(t.of(i).Load())
	}
	return c
}

// note adds what became of a set.
func (x *explanation) note(a *arrangement, key turnKey, set *rrset, now *state) {
	picked, left := x.picked, x.left
	x.picked, x.left = nil, false
	z, p := a.answer.query.rule.zoneRule, now.plan
	owner := names.Spell(set.owner)
	shown := statuspage.WhyRRset{
		Name: strings.ToLower(set.owner), Type: dns.TypeToString[set.rrtype], Section: sectionNames[key.where],
		Members: []statuspage.WhyMember{},
	}
	if shown.Steps = z.stepsFor(p, key, set, a.answer); left {
		shown.Steps = append(shown.Steps, fmt.Sprintf("a single record is left as it is: TTL %d", set.ttl))
	} else {
		shown.Steps = append(shown.Steps, z.lastSteps(p, set, a.answer, len(picked))...)
	}
	place := make([]int, len(p.members))
	for i, m := range picked {
		place[m] = i + 1
	}
	if a.answer.nested {
		step := fmt.Sprintf("on the way, the rule %s (%s) filters this RRset; it takes no turn", z.zone, z.heading)
		shown.Steps = slices.Insert(shown.Steps, 0, step)
	}
	for i := range p.members {
		shown.Members = append(shown.Members, statuspage.WhyMember{
			Member: p.members[i].String(), Place: place[i], State: p.stateOf(i, place[i], a.answer.nested), Reasons: z.reasonsFor(owner, p, i, a.buf, x.now),
		})
	}
	slices.SortStableFunc(shown.Members, func(a, b statuspage.WhyMember) int {
		return cmp.Compare(uint(a.Place-1), uint(b.Place-1)) // 0 comes last
	})
	x.sets = append(x.sets, shown)
}

// stateOf says whether an answer holds a member and, if not, why.
func (p *plan) stateOf(i, place int, nested bool) string {
	if place > 0 {
		return "answers"
	}
	for _, x := range p.excluded {
		if int(x.member) == i {
			return reasonNames[x.why]
		}
	}
	switch {
	case nested:
		return "answers"
	case p.allDown:
		return reasonNames[wasDown]
	}
	return reasonNames[limit]
}

// stepsFor returns what was decided about an RRset, step by step, up to who may answer.
func (z *zoneRule) stepsFor(p *plan, key turnKey, set *rrset, a *answer) (steps []string) {
	step := func(format string, values ...any) { steps = append(steps, fmt.Sprintf(format, values...)) }
	total, serving := len(p.members), len(p.members)-len(p.excluded)
	switch {
	case p.allDown && z.replaces(set, key):
		step("%s: %s", allAreDown(total), z.at("all_down "+allDownNames[z.allDown.mode], "all_down"))
	case p.allDown:
		step("%s: the answer fails open, as if all were up%s", allAreDown(total), z.openAt(key))
	case z.judges() || len(z.tiers) > 0:
		step("%d of %s can answer%s", serving, text.Count(total, "member"), z.tierStep(p, set))
	}
	if kept := p.keptText(); kept != "" {
		step("%s (%s)", kept, z.options["failback"])
	}
	if set.sealed && len(p.excluded) > 0 {
		step("an RRSIG covers the RRset: the others stay and go last")
	}
	if key.prefer.line != noPreference {
		step("the client %s comes under prefer%s, %s", a.client.addr(), key.prefer.inPlace(), z.prefer[key.prefer.line].at)
	}
	if led := p.basis.prefer.place; led != key.prefer.place {
		step("spill: members in %s lead this answer", placeName(led))
	}
	return steps
}

func allAreDown(members int) string {
	if members == 1 {
		return "the only member is down"
	}
	return fmt.Sprintf("all %d members are down", members)
}

// lastSteps returns how the members that may answer, so many of which go out, were put in order.
func (z *zoneRule) lastSteps(p *plan, set *rrset, a *answer, out int) (steps []string) {
	if out > 0 && !a.nested {
		steps = append(steps, "order: "+z.orderStep(a))
	}
	if serving := len(p.members) - len(p.excluded); p.wanted < serving && !set.sealed {
		limit := z.at(fmt.Sprintf("answers %d", z.answers), "answers")
		steps = append(steps, fmt.Sprintf("%s: %d of %d members", limit, p.wanted, serving))
	}
	return append(steps, z.ttlStep(p, set))
}

// openAt says what lets an answer fail open.
func (z *zoneRule) openAt(key turnKey) string {
	if key.where == inExtra {
		return ", as the additional section always does"
	}
	if at, ok := z.options["all_down"]; ok {
		return fmt.Sprintf(" (%s)", at)
	}
	return " (the default of all_down)"
}

// replaces reports whether all_down replaces an RRset of which all members are down.
func (z *zoneRule) replaces(set *rrset, key turnKey) bool {
	return key.where != inExtra && !set.sealed && z.allDown.replaces(set.holdsAddresses())
}

// tierStep says which tier serves, if there are several.
func (z *zoneRule) tierStep(p *plan, set *rrset) string {
	if len(z.tiers) == 0 || len(p.groups) == 0 || !set.holdsAddresses() {
		return ""
	}
	return fmt.Sprintf(": tier %d serves", p.groups[0].id.tier+1)
}

// orderStep says what the order comes from.
func (z *zoneRule) orderStep(a *answer) string {
	how := z.at("policy "+z.policy.name, "policy")
	if z.policy.byClient {
		return fmt.Sprintf("%s, by the prefix and the name that the client %s asks for", how, a.client.addr())
	}
	return how + ", at the next turn of this replica"
}

// ttlStep says what the TTL comes from.
func (z *zoneRule) ttlStep(p *plan, set *rrset) string {
	ttl := p.limits.of(set, p.lowTTL)
	switch {
	case ttl == set.ttl:
		return fmt.Sprintf("TTL %d, as it came", ttl)
	case !p.awaited.IsZero() && !p.degraded:
		return fmt.Sprintf("TTL %d instead of %d, until the first verdicts are there: %s", ttl, set.ttl, z.at("ttl", "ttl"))
	case p.lowTTL:
		return fmt.Sprintf("TTL %d instead of %d, because the answer is degraded: %s", ttl, set.ttl, z.at("ttl", "ttl"))
	}
	return fmt.Sprintf("TTL %d instead of %d: %s", ttl, set.ttl, z.at("ttl", "ttl"))
}

// at returns a text about an option with the line that gives it.
func (r *rule) at(text, option string) string {
	if at, ok := r.options[option]; ok {
		return fmt.Sprintf("%s (%s)", text, at)
	}
	return text + " (the default)"
}

// reasonsFor returns what is known of a member: the override, the verdicts, the tier and the
// weight.
func (z *zoneRule) reasonsFor(owner string, p *plan, i int, b *buffers, now time.Time) []string {
	m, at := &p.members[i], &p.standings[i]
	if m.host != "" {
		reasons := z.reasonsForTarget(owner, m, at, b, now)
		if at.factors.Ramp > 0 && !p.excludes(i) {
			reasons = append(reasons, p.factorsReason(i))
		}
		return reasons
	}
	reasons := z.reasonsForAddress(owner, withoutPort(m.addr), now)
	if len(z.tiers) > 0 {
		reasons = append(reasons, fmt.Sprintf("tier %d", at.tier+1))
	}
	if z.policy.weighs {
		reasons = append(reasons, fmt.Sprintf("weight %d (%s)", at.weight, z.weightSource(owner, m.addr.Unmap())))
	}
	if at.factors != (inforce.Factors{}) && !p.excludes(i) {
		reasons = append(reasons, p.factorsReason(i))
	}
	if z.loads.given() {
		if silence := z.loads.silence(z.loadOf(m.addr), now); silence != "" {
			reasons = append(reasons, silence)
		}
	}
	return reasons
}

// factorsReason says how much of a member's weight is in force, and why.
func (p *plan) factorsReason(i int) string {
	var why []string
	at := &p.standings[i]
	add := func(option string, part inforce.Percent) {
		if part > 0 {
			why = append(why, p.basis.rule.at(fmt.Sprintf("%s %d%%", option, part), option))
		}
	}
	add("slow_start", at.factors.Ramp)
	add("load_weights", at.factors.Load)
	return fmt.Sprintf("weight in force %.3g of %d: %s", p.weightInForce(i), at.share(), strings.Join(why, ", "))
}

// reasonsForAddress returns the override of an address and the verdicts on it, at the port that its
// record names or 0.
func (z *zoneRule) reasonsForAddress(owner string, at netip.AddrPort, now time.Time) []string {
	reasons := []string{}
	if line := z.overridesInForce().Find(owner, at.Addr(), now); line != nil {
		reasons = append(reasons, overrideReason(line, z.overrides.Name()))
	}
	for _, s := range z.subscriptions {
		reasons = append(reasons, verdictReason(s, at, now))
	}
	return reasons
}

// reasonsForTarget returns what is known of an MX or SRV record, by the addresses of its target.
func (z *zoneRule) reasonsForTarget(owner string, m *member, at *standing, b *buffers, now time.Time) []string {
	reasons := []string{}
	switch {
	case at.verdict == health.Down:
		reasons = append(reasons, "down: all addresses of its target are down"+z.atPort(m))
	case at.override == overrides.Drain:
		reasons = append(reasons, "drain: all addresses of its target drain or are down")
	case at.reuse > 0:
		reasons = append(reasons, fmt.Sprintf("damped: all addresses of its target that are not down are, the first until %s",
			time.Unix(int64(at.reuse), 0).UTC().Format(time.RFC3339)))
	}
	target, host, shown := z.appliedTo(m.host), names.Spell(m.host), 0
	for addr := range target.addressesOf(m.host, b) {
		if shown++; shown > maxShownAddresses {
			break
		}
		for _, reason := range z.reasonsForAddress(host, netip.AddrPortFrom(addr, m.port), now) {
			reasons = append(reasons, fmt.Sprintf("%s %s", addr, reason))
		}
	}
	if m.isSRV() && z.policy.weighs {
		reasons = append(reasons, z.weightReason(owner, at, target.addressesOf(m.host, b)))
	}
	return reasons
}

// atPort names the port of a record, if a check goes by it.
func (z *zoneRule) atPort(m *member) string {
	if m.port == 0 || !z.followsPorts() {
		return ""
	}
	return fmt.Sprintf(" at port %d", m.port)
}

// weightReason says where the weight of an SRV record comes from.
func (z *zoneRule) weightReason(owner string, at *standing, addrs iter.Seq[netip.Addr]) string {
	if at.behind {
		return "behind the others of its priority: the record has weight 0"
	}
	for addr := range addrs {
		if _, ok := z.weightOf(owner, addr); ok {
			return fmt.Sprintf("weight %d (%s, for %s)", at.weight, z.weightSource(owner, addr), addr)
		}
	}
	return fmt.Sprintf("weight %d (the record)", at.weight)
}

// overrideReason describes an override of a file.
func overrideReason(l *overrides.Line, path string) string {
	reason := fmt.Sprintf("override %s (%s:%d)", l.Override, path, l.Number)
	if !l.Until.IsZero() {
		reason += " until " + l.Until.Format(time.RFC3339)
	}
	if l.Why != "" {
		reason += ": " + text.OneLine(l.Why)
	}
	return reason
}

// verdictReason describes what a check knows of an endpoint.
func verdictReason(s subscription, endpoint netip.AddrPort, now time.Time) string {
	known, ok := s.Peek(endpoint)
	switch {
	case !s.Allows(endpoint):
		return fmt.Sprintf("unknown: outside %s of %s", outsideOf(s, endpoint), s.Name())
	case !ok:
		return fmt.Sprintf("unknown: %s has not probed it", s.Name())
	case known.Since.IsZero():
		return fmt.Sprintf("%s: %s has no result yet", known.Verdict, s.Name())
	}
	reason := fmt.Sprintf("%s for %s: %s", known.Verdict, now.Sub(known.Since).Round(time.Second), s.Name())
	if known.At.Port() != 0 {
		reason += fmt.Sprintf(" at port %d", known.At.Port())
	}
	// Not of a failure long past.
	if known.Problem != "" && (known.Failing || known.Verdict != health.Up) {
		reason += ": " + text.OneLine(known.Problem)
	}
	said := []string{reason, votesReason(s, endpoint), adviceText(known.Advice), loadText(known.Load, now), dampText(known)}
	return strings.Join(slices.DeleteFunc(said, func(s string) bool { return s == "" }), "; ")
}

// dampText describes what damping has against an endpoint, "" if that is nothing.
func dampText(known health.Endpoint) string {
	switch {
	case !known.Reuse.IsZero():
		return fmt.Sprintf("it flaps: to stay out until %s (penalty %.0f)", known.Reuse.UTC().Format(time.RFC3339), known.Penalty)
	case known.Penalty >= 1:
		return fmt.Sprintf("penalty %.0f", known.Penalty)
	}
	return ""
}

// adviceText describes what an endpoint says about itself but of its load, "" if that is nothing.
func adviceText(a health.Advice) string {
	if a.NoSay {
		return "the check has no say on it"
	}
	var said []string
	if a.Drain {
		said = append(said, "drain")
	}
	if a.Reason != "" {
		said = append(said, a.Reason)
	}
	if len(said) == 0 {
		return ""
	}
	return "the agent says " + strings.Join(said, ", ")
}

// maxShownAddresses is the most addresses of a target that are shown.
const maxShownAddresses = 8

// votesReason describes what replicas of the fleet say about an endpoint, "" without a fleet.
func votesReason(s subscription, at netip.AddrPort) string {
	tally, ok := s.Tally(at)
	if !ok {
		return ""
	}
	up, down := tally.Votes()
	reason := votesText(up, down, s.Voters(at))
	if !tally.Probing() {
		reason += ", not probed by this replica"
	}
	return reason
}

// votesText describes the valid votes on an endpoint, and who voted.
func votesText(up, down int, voters []fleet.Voter) string {
	var said []string
	for _, v := range voters {
		who := v.Replica
		if v.Locality != "" {
			who += " in " + v.Locality
		}
		said = append(said, who+" "+voteText(v))
	}
	votes := fmt.Sprintf("votes: %d up, %d down", up, down)
	if len(said) > 0 {
		votes += " (" + text.Few(said) + ")"
	}
	return votes
}

// voteText describes a replica's vote in a few words.
func voteText(v fleet.Voter) string {
	var b strings.Builder
	if v.Opinion.Verdict == fleet.None {
		b.WriteString("has not voted")
	} else {
		b.WriteString(v.Opinion.Verdict.String())
	}
	switch {
	case !v.Counts:
		b.WriteString(", which does not count")
	case !v.Assigned:
		b.WriteString(", not assigned")
	}
	return b.String()
}
