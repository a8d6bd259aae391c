// SPDX-License-Identifier: Apache-2.0

package balance

import "slices"

// A query that follows a CNAME into another server block passes through the rule of that block too.
// It filters there, and the rule of the client's query orders what is left.

// filter removes the members that do not answer. The others keep their order, and take no turn.
func (a *arrangement) filter(set *rrset, now *state, order *recordOrder) {
	p := now.plan
	if how := p.outcome(); how > ordered {
		a.outcome = max(a.outcome, how)
	}
	a.degraded = a.degraded || p.lowTTL
	switch b := a.buf; {
	case len(p.excluded) == 0:
		b.picked = everyIndex(b.picked, len(set.slots))
	case set.sealed: // the signature verifies only with all of them
		a.outcome = max(a.outcome, sealed)
		b.picked = everyIndex(b.picked, len(set.slots))
	default:
		a.outcome = max(a.outcome, filtered)
		a.pickEligible(p, order)
	}
	a.put(set, p, order)
}

// pickEligible leaves in the buffers the records of the members that answer, as they came.
func (a *arrangement) pickEligible(p *plan, order *recordOrder) {
	b := a.buf
	b.fates = slices.Grow(b.fates[:0], len(p.members))[:len(p.members)]
	for m := range b.fates {
		b.fates[m] = fate{goesOut: true}
	}
	for _, x := range p.excluded {
		b.fates[x.member] = fate{why: x.why}
	}
	b.picked = b.picked[:0]
	for m, record := range order.first {
		a.pickIf(b.fates[m], record)
	}
	for _, again := range order.repeats {
		a.pickIf(b.fates[again.member], again.record)
	}
	slices.Sort(b.picked)
}

// pickIf picks a record of a member that goes out, and counts one of a member that does not.
func (a *arrangement) pickIf(f fate, record uint16) {
	if f.goesOut {
		a.buf.picked = append(a.buf.picked, record)
	} else {
		a.removed[f.why]++
	}
}

// everyIndex returns 0, 1, 2, ... n-1, in the memory of a slice.
func everyIndex(in []uint16, n int) []uint16 {
	in = in[:0]
	for i := range n {
		in = append(in, uint16(i))
	}
	return in
}
