// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"slices"

	"github.com/seed-f1518d44/balance/internal/schedule"
)

// group is members of a plan that take turns among themselves: all of them, those in one CIDR of a
// prefer line, or those of one MX preference or SRV priority. Immutable.
type group struct {
	id       groupID
	members  []member
	weights  []uint16 // 1 to 65535 each
	policy   *policy
	schedule schedule.Schedule
}

// groupID tells the groups of an RRset apart, in every plan that it ever has.
type groupID struct {
	tier uint16
	rank int // which group of the tier answers first
}

// is reports whether both groups are answered alike, so that a turn means the same in both.
func (g *group) is(other *group) bool {
	return g.id == other.id && g.policy == other.policy && slices.Equal(g.weights, other.weights) &&
		slices.Equal(g.members, other.members)
}

// find returns the index of a member. If the group does not have it, it returns the index of the
// next one, the first being next to the last.
func (g *group) find(m *member) (at int, found bool) {
	at, found = slices.BinarySearchFunc(g.members, m, func(g member, m *member) int { return g.compare(m) })
	return at % len(g.members), found
}

// cost returns the memory that the group takes without its plan, in members.
func (g *group) cost() (members int64) {
	for i := range g.members {
		members += 1 + int64(len(g.members[i].host)/memberSize)
	}
	return members + 1 + g.scheduleCost()
}

func (g *group) scheduleCost() int64 {
	return int64(schedule.Size(g.schedule) / memberSize)
}
