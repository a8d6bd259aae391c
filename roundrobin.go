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

func (roundRobin) schedule([]member) schedule { return rotation{} }

// resume goes on with the member that was due or, where that has gone, with the one after it. So
// members that come and go neither skip another nor let one lead twice.
func (roundRobin) resume(now, before *group, turn uint64) uint64 {
	due := before.leader(turn)
	at := sort.Search(len(now.members), func(i int) bool { return now.members[i].compare(&due) >= 0 })
	return uint64(at % len(now.members)) //nolint:gosec // an index
}

// rotation is the schedule of roundRobin: the turn tells all.
type rotation struct{}

func (rotation) order(turn uint64, idx []uint16) {
	size := uint64(len(idx))
	at := turn % size
	for i := range idx {
		idx[i] = uint16(at) //nolint:gosec // below maxRecords
		if at++; at == size {
			at = 0
		}
	}
}
