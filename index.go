// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"math/bits"

	"github.com/miekg/dns"
)

// memberIndex finds a member of a plan by its hash, in an open-addressed table: a place holds the index of
// a member and 1, or 0 for none. It is for upstreams that give many members in an order of their own
// every time, which would cost sorting. Immutable.
type memberIndex []uint16

// worthIndexing is how many members a plan has at least that has an index: fewer are sorted as fast.
const worthIndexing = 8

// newMemberIndex returns the index of a plan's members, nil for few.
func newMemberIndex(members []member) memberIndex {
	if len(members) < worthIndexing {
		return nil
	}
	index := make(memberIndex, 1<<bits.Len(uint(2*len(members)))) //nolint:gosec // a length
	for i := range members {
		at := members[i].hash()
		for index[at&index.mask()] != 0 {
			at++
		}
		index[at&index.mask()] = uint16(i + 1) //nolint:gosec // at most maxRecords
	}
	return index
}

func (x memberIndex) mask() uint64 { return uint64(len(x) - 1) } //nolint:gosec // a length

// find returns the index of a member that is equal to the letter, -1 where there is none.
func (x memberIndex) find(members []member, m *member) int {
	for at := m.hash(); ; at++ {
		i := int(x[at&x.mask()]) - 1
		if i < 0 || members[i] == *m {
			return i
		}
	}
}

// lineUp finds the records of set among the plan's members and leaves in s.lineup where they are. It
// tells whether they are these members, each at least once.
func (p *plan) lineUp(rrs []dns.RR, set *rrset, s *scratch) bool {
	if p.index == nil || len(set.slots) < len(p.members) {
		return false
	}
	const none = maxRecords
	s.first, s.again, s.straight = s.first[:0], s.again[:0], false
	for range p.members {
		s.first = append(s.first, none)
	}
	for i, slot := range set.slots {
		m := memberOf(rrs[slot])
		at := p.index.find(p.members, &m)
		switch {
		case at < 0:
			return false
		case s.first[at] == none:
			s.first[at] = uint16(i) //nolint:gosec // at most maxRecords
		default:
			s.again = append(s.again, repeat{uint16(i), uint16(at)}) //nolint:gosec // at most maxRecords
		}
	}
	return len(set.slots)-len(s.again) == len(p.members)
}
