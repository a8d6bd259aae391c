// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"slices"

	"github.com/miekg/dns"
)

// arrangement is a section on its way out. The records that came up stay as they are: a copy of
// the section is made when the first of its records moves.
type arrangement struct {
	*scratch
	*answer
	in []dns.RR

	out      []dns.RR    // nil while nothing moved; a removed record leaves nil behind
	insert   []insertion // instead of records that were removed
	denied   string      // the owner of these, where nothing takes their place
	removed  removals
	outcome  outcome
	denial   allDownMode // what the whole reply becomes, where not answerOpen
	degraded bool        // a member that would answer is down
	stays    bool        // only what would become of it is asked: it goes out as it came up
}

// place puts the records of an RRset into its slots: in the order of their turn, as many as the
// rule lets through, with the TTL that it allows.
func (a *arrangement) place(set *rrset, now *state, where *lineup) {
	p, t := now.plan, now.turns
	a.outcome = max(a.outcome, ordered)
	a.degraded = a.degraded || p.degraded
	if p.allDown {
		a.outcome = failOpen
	}
	switch {
	case p.wanted == len(p.members):
		a.pick(p, t, p.wanted)
	case set.sealed: // its signature would not verify without all of them
		a.outcome = max(a.outcome, sealed)
		a.pick(p, t, len(p.members)-len(p.aside))
		for _, last := range p.aside {
			a.picked = append(a.picked, last.member)
		}
	default:
		a.outcome = max(a.outcome, filtered)
		a.pick(p, t, p.wanted)
		a.countRemoved(p)
	}
	if l := a.ledgerOf(now); l != nil {
		l.count(a.picked[0])
	}
	a.toRecords(p, where)
	ttl := a.rule.ttl.of(set, p.degraded)
	if len(a.picked) == len(set.slots) && inOrder(a.picked) && ttl == set.ttl && !set.mixed {
		return
	}
	a.fill(set)
	if ttl != set.ttl || set.mixed {
		a.setTTL(set, p, where, ttl)
	}
}

// leave leaves an only record as it is.
func (a *arrangement) leave(now *state) {
	if now.plan.allDown {
		a.outcome = failOpen
	}
	if l := a.ledgerOf(now); l != nil {
		l.count(0)
	}
}

// ledgerOf returns where the answer is counted, nil for nowhere.
func (a *arrangement) ledgerOf(now *state) *ledger {
	if a.stays {
		return nil
	}
	return now.ledger
}

// countAsItCame counts the member that leads where the section stays as it came up.
func (a *arrangement) countAsItCame(now *state, where *lineup) {
	if a.stays && now.ledger != nil {
		now.ledger.count(uint16(slices.Index(where.first, 0))) //nolint:gosec // the first record is some member's
	}
}

// pick leaves in a.picked the first wanted members in the order of their turn. Groups that have no
// place among them keep their turn.
func (a *arrangement) pick(p *plan, t *turns, wanted int) {
	a.picked = slices.Grow(a.picked[:0], wanted)[:wanted]
	for i, from := 0, 0; from < wanted; i++ {
		g := &p.groups[i]
		to := min(from+len(g.members), wanted)
		picked := a.picked[from:to]
		g.schedule.Order(a.turn(t, i), picked)
		if p.ranked != nil {
			ranked := p.ranked[from:]
			for j, m := range picked {
				picked[j] = ranked[m]
			}
		}
		from += len(g.members)
	}
}

// turn returns the turn of a group, and moves on: it is the client's key where the policy goes by that.
func (a *arrangement) turn(t *turns, group int) uint64 {
	if a.rule.policy.byClient {
		return a.client.key(a.rule.rule)
	}
	return t.next(group)
}

// toRecords replaces the members in a.picked by their records, and adds those that repeat one.
func (a *arrangement) toRecords(p *plan, where *lineup) {
	if len(where.again) > 0 {
		a.addRepeats(p, where)
		return
	}
	if where.straight {
		return
	}
	for i, m := range a.picked {
		a.picked[i] = where.first[m]
	}
}

func (a *arrangement) addRepeats(p *plan, where *lineup) {
	members := a.picked
	a.goesOut = slices.Grow(a.goesOut[:0], len(where.first))[:len(where.first)]
	clear(a.goesOut)
	for i, m := range members {
		a.goesOut[m] = true
		members[i] = where.first[m]
	}
	for _, r := range where.again {
		if a.goesOut[r.member] {
			a.picked = append(a.picked, r.record)
		} else {
			a.removed[p.why(r.member)]++
		}
	}
}

// fill puts the picked records into the first slots of their RRset and empties the others.
func (a *arrangement) fill(set *rrset) {
	if len(set.slots) == len(a.in) && a.out == nil {
		a.out = a.room(len(a.in)) // all of it is about to be filled
	}
	a.own()
	a.move(set)
	for _, slot := range set.slots[len(a.picked):] {
		a.out[slot] = nil
	}
	if len(a.picked) < len(set.slots) {
		a.removedUnsigned = a.removedUnsigned || !set.sealed
	}
}

// own makes a.out a copy of the section.
func (a *arrangement) own() {
	if a.out == nil {
		a.out = a.room(len(a.in))
		copy(a.out, a.in)
	}
}

// countRemoved counts the members that do not go out, and why.
func (a *arrangement) countRemoved(p *plan) {
	a.removed[limit] += uint16(len(p.members) - len(p.aside) - p.wanted) //nolint:gosec // at most maxRecords
	for _, m := range p.aside {
		a.removed[m.why]++
	}
}

// inOrder tells whether picked is 0, 1, 2, ...
func inOrder(picked []uint16) bool {
	for i, record := range picked {
		if int(record) != i {
			return false
		}
	}
	return true
}

// move copies the picked records into the first slots. Stretches that stay together, of which a
// rotation has two, are copied as one.
func (a *arrangement) move(set *rrset) {
	slots, picked := set.slots, a.picked
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

// setTTL gives the records of an RRset, which stand in a.out, and their RRSIGs one TTL. They are
// copied, a whole RRset at a time, where the plan does not have them already.
func (a *arrangement) setTTL(set *rrset, p *plan, where *lineup, ttl uint32) {
	if where == &p.lineup {
		if known := p.relived(set, a.in, ttl); known != nil {
			for i, record := range a.picked {
				a.out[set.slots[i]] = known[p.remembered[record]]
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
	for at := set.seal; at > 0; at = a.seals[at-1].before {
		slot := a.seals[at-1].slot
		if sig, ok := a.out[slot].(*dns.RRSIG); ok {
			lowered := *sig
			lowered.Hdr.Ttl = ttl
			a.out[slot] = &lowered
		}
	}
}

// copyWithTTL replaces the records of type T in some slots by copies with another TTL. The copies
// share the records' data, which nobody writes to.
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

// sectionNow returns the section as it is by now, removed records being nil.
func (a *arrangement) sectionNow() []dns.RR {
	if a.out == nil {
		return a.in
	}
	return a.out
}

// same tells whether the section, if nothing moved, is rrs.
func (a *arrangement) same(rrs []dns.RR) bool { return len(rrs) == 0 || &a.in[0] == &rrs[0] }

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
