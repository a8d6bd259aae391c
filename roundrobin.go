// SPDX-License-Identifier: Apache-2.0

package balance

import "sort"

// roundRobin is strict: every answer is led by the member after the one that led the answer
// before, and the rest follows in rotation: [a b c], [b c a], [c a b].
type roundRobin struct{}

var (
	_ policy   = roundRobin{}
	_ schedule = rotation{}
)

func (roundRobin) schedule(c contest) schedule { return rotation{uint64(len(c.members))} }

// resume goes on with the member that was due or, where that has gone or was the only one, with the one
// after the last that led. So members that come and go neither skip another nor let one lead twice.
func (roundRobin) resume(now, before *group, turn uint64) uint64 {
	due := before.leader(turn)
	at := now.at(&due)
	was, ok := before.schedule.(cyclic)
	if !ok || len(before.members) > 1 && now.members[at].compare(&due) == 0 {
		return uint64(at) //nolint:gosec // an index
	}
	last := before.leader(turn + was.length() - 1)
	if at = now.at(&last); now.members[at].compare(&last) == 0 {
		at = (at + 1) % len(now.members)
	}
	return uint64(at) //nolint:gosec // an index
}

// at returns the index of a member or, where the group has it not, of the one after it, the first
// coming after the last.
func (g *group) at(m *member) int {
	i := sort.Search(len(g.members), func(i int) bool { return g.members[i].compare(m) >= 0 })
	return i % len(g.members)
}

// rotation is the schedule of roundRobin, for a set of a size: the turn tells all.
type rotation struct{ size uint64 }

func (r rotation) order(turn uint64, idx []uint16) { r.from(turn%r.size, idx) }

// from fills idx with the members from index first on, in rotation.
func (r rotation) from(first uint64, idx []uint16) {
	before := min(r.size-first, uint64(len(idx))) // that the last member is reached
	for i := range idx[:before] {
		idx[i] = uint16(first) + uint16(i) //nolint:gosec // below maxRecords
	}
	for i := range idx[before:] {
		idx[int(before)+i] = uint16(i) //nolint:gosec // below maxRecords
	}
}
