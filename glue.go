// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"math/rand/v2"
	"slices"

	"github.com/miekg/dns"
)

// arrangeGlue orders addresses that no record of the answer leads to, such as those of name
// servers.
func (a *arrangement) arrangeGlue() {
	a.buf.scan.scan(a.in)
	if len(a.buf.scan.sets) == 0 {
		return
	}
	a.arrange(turnKey{where: inGlue})
	for _, rrtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		a.rotateSets(rrtype)
	}
}

// rotateSets has another RRset of a type lead the section, at random. They keep the slots that they
// hold together.
func (a *arrangement) rotateSets(rrtype uint16) {
	var slots []uint16
	var sets [][]dns.RR
	for i := range a.buf.scan.sets {
		if set := &a.buf.scan.sets[i]; set.rrtype == rrtype {
			slots = append(slots, set.slots...)
			sets = append(sets, a.recordsOf(set))
		}
	}
	if len(sets) < 2 {
		return
	}
	slices.Sort(slots)
	a.own()
	a.outcome = max(a.outcome, ordered)
	first, next := rand.IntN(len(sets)), 0 //nolint:gosec // no secret
	for i := range sets {
		for _, rr := range sets[(first+i)%len(sets)] {
			a.out[slots[next]] = rr
			next++
		}
	}
}

// recordsOf returns the records of an RRset, as they are so far.
func (a *arrangement) recordsOf(set *rrset) []dns.RR {
	rrs := make([]dns.RR, 0, len(set.slots))
	for _, slot := range set.slots {
		rrs = append(rrs, a.sectionNow()[slot])
	}
	return rrs
}
