// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"slices"

	"github.com/miekg/dns"
)

// arrangement is a section of an answer on its way out. The records that came up stay as they are:
// the first that moves has the section copied. Owned by one answer.
type arrangement struct {
	answer *answer
	buf    *buffers
	in     []dns.RR
	stays  bool // the section goes out as it came, and only what would happen to it counts

	out      []dns.RR    // nil while nothing has moved; a nil record was removed
	insert   []insertion // in the place of records that were removed
	removed  removals
	outcome  outcome
	degraded bool // a member that would answer is down

	removedUnsigned bool        // a record was removed from an RRset that no RRSIG covers
	denial          allDownMode // what the whole reply becomes, unless answerOpen
	denied          string      // the owner of the records that this replaces
}

// arrange arranges the RRsets that a scan found. The key says where they are.
func (a *arrangement) arrange(key turnKey) {
	b := a.buf
	b.plans = b.plans[:0]
	for i := range b.scan.sets {
		b.plans = append(b.plans, a.arrangeSet(&b.scan.sets[i], key))
	}
}

// arrangeSet arranges an RRset and returns its plan, nil if the RRset is left alone.
func (a *arrangement) arrangeSet(set *rrset, key turnKey) *plan {
	rules := a.answer.query.rule.appliedTo(set.owner)
	rules.ordersOnly = key.where == inGlue
	alone := len(set.slots) < 2
	if alone && !rules.judges() && !rules.question.seeksTargets.Load() {
		return nil
	}
	key.rrtype, key.prefer = set.rrtype, choice{line: noPreference}
	if a.answer.client != nil || a.answer.most > 0 {
		a.answer.specify(&key, set)
	}
	now, order := a.stateOf(&rules, key, set)
	if a.stays {
		a.countAsItCame(now, order)
	}
	allDown := &rules.question.allDown
	switch {
	case now.plan.allDown && key.where != inExtra && !set.sealed && allDown.replaces(set.holdsAddresses()):
		a.replace(set, now)
	case alone && allDown.mode == answerOpen: // a single record is left alone, with its TTL
		a.leave(now)
	case a.answer.nested:
		a.filter(set, now, order)
	default:
		a.place(set, now, order)
	}
	if x := a.answer.explanation(); x != nil {
		x.note(a, key, set, now)
	}
	return now.plan
}

// place puts the records of an RRset into its slots: in the order of their turn, as many as the
// rule allows, with the TTL that it allows.
func (a *arrangement) place(set *rrset, now *state, order *recordOrder) {
	p := now.plan
	a.outcome = max(a.outcome, p.outcome())
	a.degraded = a.degraded || p.lowTTL
	if p.wanted == len(p.members) {
		a.pick(now, p.wanted)
	} else {
		a.choose(set, now)
	}
	if a.answer.client != nil || now.leads != nil {
		a.countLead(set, now)
	}
	if !order.straight || len(order.repeats) > 0 {
		a.toRecords(p, order)
	}
	a.put(set, p, order)
}

// put puts the picked records into the slots of their RRset, with the TTL that the plan allows.
func (a *arrangement) put(set *rrset, p *plan, order *recordOrder) {
	ttl := p.limits.of(set, p.lowTTL || a.answer.query.degraded.Load())
	if len(a.buf.picked) == len(set.slots) && inOrder(a.buf.picked) && ttl == set.ttl && !set.mixed {
		return
	}
	a.fill(set)
	if ttl != set.ttl || set.mixed {
		a.setTTL(set, p, order, ttl)
	}
}

// countLead counts the member that leads an RRset, which goes out as picked.
func (a *arrangement) countLead(set *rrset, now *state) {
	lead, rule := a.buf.picked[0], a.answer.query.rule
	if x := a.answer.explanation(); x != nil {
		x.picked = slices.Clone(a.buf.picked)
		return
	}
	if l := a.leadsOf(now); l != nil {
		l.count(lead)
	}
	if rule.nearFirst && set.holdsAddresses() && !a.stays {
		rule.led.count(rule.zone, localityPair{a.answer.client.place, now.plan.standings[lead].place})
	}
}

// choose leaves in the buffers the members that go out, in their order, if not all of them do.
func (a *arrangement) choose(set *rrset, now *state) {
	p := now.plan
	if !set.sealed {
		a.outcome = max(a.outcome, filtered)
		a.pick(now, p.wanted)
		a.countRemoved(p)
		return
	}
	a.outcome = max(a.outcome, sealed) // the signature verifies only with all of them
	a.pick(now, len(p.members)-len(p.excluded))
	for _, last := range p.excluded {
		a.buf.picked = append(a.buf.picked, last.member)
	}
}

// leave leaves a single record as it is.
func (a *arrangement) leave(now *state) {
	if now.plan.allDown {
		a.outcome = failOpen
	}
	if l := a.leadsOf(now); l != nil {
		l.count(0)
	}
	if x := a.answer.explanation(); x != nil {
		x.picked, x.left = []uint16{0}, true
	}
}

// leadsOf returns the counts to add the lead to, nil if it is not counted.
func (a *arrangement) leadsOf(now *state) *leadCounts {
	if a.stays || a.answer.explanation() != nil {
		return nil
	}
	return now.leads
}

// countAsItCame counts the member that leads a section that goes out as it came.
func (a *arrangement) countAsItCame(now *state, order *recordOrder) {
	if now.leads != nil && a.answer.explanation() == nil {
		now.leads.count(uint16(slices.Index(order.first, 0)))
	}
}

// pick leaves in the buffers the first members in the order of their turn. A group without a picked
// member keeps its turn.
func (a *arrangement) pick(now *state, wanted int) {
	p, b := now.plan, a.buf
	b.picked = slices.Grow(b.picked[:0], wanted)[:wanted]
	for i, from := 0, 0; from < wanted; i++ {
		g := &p.groups[i]
		to := min(from+len(g.members), wanted)
		picked := b.picked[from:to]
		g.schedule.Order(a.turn(now.turns, i), picked)
		if p.ranked != nil {
			ranked := p.ranked[from:]
			for j, m := range picked {
				picked[j] = ranked[m]
			}
		}
		from += len(g.members)
	}
}

// turn returns the turn of a group and increments it. Policies that go by the client have its key.
func (a *arrangement) turn(t *turns, group int) uint64 {
	if rule := a.answer.query.rule; rule.policy.byClient {
		return a.answer.client.key(rule.rule)
	}
	return t.next(group)
}

// toRecords replaces the picked members by their records, and adds those that repeat one.
func (a *arrangement) toRecords(p *plan, order *recordOrder) {
	if len(order.repeats) > 0 {
		a.addRepeats(p, order)
		return
	}
	picked := a.buf.picked
	for i, m := range picked {
		picked[i] = order.first[m]
	}
}

// addRepeats is toRecords for an RRset with repeated records.
func (a *arrangement) addRepeats(p *plan, order *recordOrder) {
	b := a.buf
	b.fates = slices.Grow(b.fates[:0], len(p.members))[:len(p.members)]
	for m := range b.fates {
		b.fates[m] = fate{why: limit}
	}
	for _, x := range p.excluded {
		b.fates[x.member].why = x.why
	}
	for i, m := range b.picked {
		b.fates[m].goesOut = true
		b.picked[i] = order.first[m]
	}
	for _, r := range order.repeats {
		if f := b.fates[r.member]; f.goesOut {
			b.picked = append(b.picked, r.record)
		} else {
			a.removed[f.why]++
		}
	}
}

// fate is what becomes of a member: it goes out, or why it does not.
type fate struct {
	goesOut bool
	why     reason
}

// fill puts the picked records into the first slots of their RRset and empties the others.
func (a *arrangement) fill(set *rrset) {
	if len(set.slots) == len(a.in) && a.out == nil {
		a.out = a.answer.room(len(a.in)) // all of it is about to be filled
	}
	a.own()
	a.move(set)
	for _, slot := range set.slots[len(a.buf.picked):] {
		a.out[slot] = nil
	}
	if len(a.buf.picked) < len(set.slots) {
		a.removedUnsigned = a.removedUnsigned || !set.sealed
	}
}

// own copies the section, unless it was copied before.
func (a *arrangement) own() {
	if a.out == nil {
		a.out = a.answer.room(len(a.in))
		copy(a.out, a.in)
	}
}

// countRemoved counts the members that do not go out, by reason.
func (a *arrangement) countRemoved(p *plan) {
	a.removed[limit] += uint16(len(p.members) - len(p.excluded) - p.wanted)
	for _, m := range p.excluded {
		a.removed[m.why]++
	}
}

// move copies the picked records into the first slots. Neighbours that stay together are copied at
// once: a rotation has two such stretches.
func (a *arrangement) move(set *rrset) {
	slots, picked := set.slots, a.buf.picked
	neighbours := set.contiguous()
	for i := 0; i < len(picked); {
		to := i + 1
		for neighbours && to < len(picked) && picked[to] == picked[to-1]+1 {
			to++
		}
		from := int(slots[picked[i]])
		copy(a.out[slots[i]:int(slots[i])+to-i], a.in[from:from+to-i])
		i = to
	}
}

// setTTL gives one TTL to the records of an RRset, which are in a.out, and to their RRSIGs. They
// are copied, unless the plan has them already.
func (a *arrangement) setTTL(set *rrset, p *plan, order *recordOrder, ttl uint32) {
	if order == &p.last.order {
		if known := p.lowered(set, a.in, ttl); known != nil {
			for i, record := range a.buf.picked {
				a.out[set.slots[i]] = known[p.last.members[record]]
			}
			return
		}
	}
	switch set.rrtype {
	case dns.TypeA:
		copyWithTTL[dns.A](a.out, set.slots, ttl)
	case dns.TypeAAAA:
		copyWithTTL[dns.AAAA](a.out, set.slots, ttl)
	case dns.TypeMX:
		copyWithTTL[dns.MX](a.out, set.slots, ttl)
	case dns.TypeSRV:
		copyWithTTL[dns.SRV](a.out, set.slots, ttl)
	}
	a.setSealTTL(set, ttl)
}

// setSealTTL gives the RRSIGs of an RRset a TTL.
func (a *arrangement) setSealTTL(set *rrset, ttl uint32) {
	seals := a.buf.scan.seals
	for at := set.seal; at > 0; at = seals[at-1].before {
		slot := seals[at-1].slot
		if sig, ok := a.out[slot].(*dns.RRSIG); ok {
			lowered := *sig
			lowered.Hdr.Ttl = ttl
			a.out[slot] = &lowered
		}
	}
}

// copyWithTTL replaces the records of type T in some slots by copies with another TTL. The copies
// share the data of the records, which nothing writes to.
func copyWithTTL[T any, P interface {
	*T
	dns.RR
}](rrs []dns.RR, slots []uint16, ttl uint32) {
	copies := make([]T, len(slots))
	for i, slot := range slots {
		rr, ok := rrs[slot].(P)
		if !ok {
			continue // removed
		}
		copies[i] = *rr
		lowered := P(&copies[i])
		lowered.Header().Ttl = ttl
		rrs[slot] = lowered
	}
}

// sectionNow returns the section as it is so far. Removed records are nil.
func (a *arrangement) sectionNow() []dns.RR {
	if a.out == nil {
		return a.in
	}
	return a.out
}

// came reports whether the section, if nothing moved, is rrs.
func (a *arrangement) came(rrs []dns.RR) bool { return len(rrs) == 0 || &a.in[0] == &rrs[0] }

// records returns the section as it goes out.
func (a *arrangement) records() []dns.RR {
	if a.out == nil {
		return a.in
	}
	if a.removed == (removals{}) {
		return a.out
	}
	for _, i := range slices.Backward(a.insert) {
		a.out = slices.Insert(a.out, i.slot, i.records...)
	}
	return slices.DeleteFunc(a.out, func(rr dns.RR) bool { return rr == nil })
}
