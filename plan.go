// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"cmp"
	"encoding/binary"
	"net"
	"slices"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/schedule"
)

// plan says how one set of members is answered under one rule. All that can be worked out before
// an answer is in it: it is made when the members, the rule or what is known of them changes, and
// read for every answer. It also remembers the order in which an upstream last gave the members, so
// that an upstream that keeps its order costs a comparison and no sorting. Immutable, safe for
// concurrent use.
type plan struct {
	rule      *rule
	epoch     uint64   // of the rule, when this was made
	line      int8     // of prefer
	members   []member // without duplicates, sorted
	standings []standing

	groups []group  // members that are ordered among themselves, first group first
	ranked []uint16 // the members that answer, group by group; nil where one group has them all
	aside  []aside  // those that do not, and go last where none may be removed
	wanted int      // how many answer at most; fewer than there are only with the option answers

	degraded bool // a member that would answer is down
	allDown  bool // so is every member

	index      memberIndex
	remembered []uint16 // of every record in the upstream's order, the index of its member
	lineup     lineup   // the same the other way round
	packed     []uint32 // the same records' addresses, where all are IPv4: cheaper to compare

	memory *memory // of all but what it remembers
}

// group is a part of a plan's members that take turns among themselves: all of them, those that a
// CIDR of prefer holds, or those of one MX preference or SRV priority.
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

// is tells whether both groups are answered alike, so that a turn means the same in both.
func (g *group) is(other *group) bool {
	return g.id == other.id && g.policy == other.policy && slices.Equal(g.weights, other.weights) &&
		slices.Equal(g.members, other.members)
}

// lineup tells where a message has the records of a plan's members. Records are counted within
// their RRset.
type lineup struct {
	first []uint16 // of every member, its first record
	again []repeat // the other records, that repeat a member

	straight bool // the records are in the members' order already, first is 0, 1, 2, ...
}

// repeat is a record that repeats a member.
type repeat struct{ record, member uint16 }

// fits tells whether the records of set are the plan's members in the order remembered.
func (p *plan) fits(rrs []dns.RR, set *rrset) bool {
	if len(set.slots) != len(p.remembered) {
		return false
	}
	if p.packed != nil {
		return p.fitsPacked(rrs, set)
	}
	for i, slot := range set.slots {
		if !p.members[p.remembered[i]].is(rrs[slot]) {
			return false
		}
	}
	return true
}

func (p *plan) fitsPacked(rrs []dns.RR, set *rrset) bool {
	packed := p.packed[:len(set.slots)]
	for i, slot := range set.slots {
		rr, ok := rrs[slot].(*dns.A)
		if !ok {
			return false
		}
		if ip, ok := packedIPv4(rr.A); !ok || ip != packed[i] {
			return false
		}
	}
	return true
}

// packedIPv4 returns an IPv4 address, whether it is held in 4 or in 16 bytes. It does what net.IP.To4 does, inlined.
func packedIPv4(ip net.IP) (packed uint32, ok bool) {
	if len(ip) == net.IPv6len && binary.BigEndian.Uint64(ip) == 0 && binary.BigEndian.Uint32(ip[8:]) == 0xffff {
		ip = ip[12:]
	}
	if len(ip) != net.IPv4len {
		return 0, false
	}
	return binary.BigEndian.Uint32(ip), true
}

// pack returns the addresses of the remembered records where all are IPv4, else nil.
func (p *plan) pack() []uint32 {
	packed := make([]uint32, 0, len(p.remembered))
	for _, m := range p.remembered {
		if !p.members[m].addr.Is4() {
			return nil
		}
		ip := p.members[m].addr.As4()
		packed = append(packed, binary.BigEndian.Uint32(ip[:]))
	}
	return packed
}

// lineUp sorts the records of set into s.members, s.sorted and s.lineup.
func (s *scratch) lineUp(rrs []dns.RR, set *rrset) {
	clear(s.members)
	s.members, s.sorted = s.members[:0], s.sorted[:0]
	for i, slot := range set.slots {
		s.members = append(s.members, memberOf(rrs[slot]))
		s.sorted = append(s.sorted, uint16(i)) //nolint:gosec // at most maxRecords
	}
	slices.SortFunc(s.sorted, func(a, b uint16) int {
		return cmp.Or(s.members[a].compare(&s.members[b]), cmp.Compare(a, b))
	})
	s.first, s.again = s.first[:0], s.again[:0]
	for _, record := range s.sorted {
		if last := len(s.first) - 1; last >= 0 && s.members[s.first[last]].compare(&s.members[record]) == 0 {
			s.again = append(s.again, repeat{record, uint16(last)}) //nolint:gosec // at most maxRecords
			continue
		}
		s.first = append(s.first, record)
	}
	s.straight = false // not worth knowing for one answer
}

// holds tells whether the records lined up in s are the plan's members, in whatever order.
func (p *plan) holds(s *scratch) bool {
	if len(s.first) != len(p.members) {
		return false
	}
	for i, record := range s.first {
		if p.members[i].compare(&s.members[record]) != 0 {
			return false
		}
	}
	return true
}

// newPlan makes a plan of the records lined up in s and what is known of them.
func newPlan(r *rule, epoch uint64, line int8, s *scratch) *plan {
	p := &plan{rule: r, epoch: epoch, line: line, members: make([]member, len(s.first)), standings: slices.Clone(s.standings)}
	for i, record := range s.first {
		p.members[i] = s.members[record].owned()
	}
	p.index = newMemberIndex(p.members)
	p.remember(s)
	p.divide(classify(p.standings, r.minHealthy))
	p.memory = &memory{cost: p.cost()}
	return p
}

// cost returns the memory that the plan takes, in members. The groups have the members' names in common with it.
func (p *plan) cost() (members int64) {
	for i := range p.members {
		members += 1 + int64(len(p.members[i].host)/memberSize)
	}
	if p.rule.ttl.limited {
		members += int64(len(p.members)) // for their records with another TTL
	}
	for i := range p.groups {
		members += 1 + p.groups[i].scheduleCost()
	}
	return members
}

// cost returns the memory that a group takes without its plan, in members.
func (g *group) cost() (members int64) {
	for i := range g.members {
		members += 1 + int64(len(g.members[i].host)/memberSize)
	}
	return members + 1 + g.scheduleCost()
}

func (g *group) scheduleCost() int64 {
	return int64(schedule.Size(g.schedule) / memberSize)
}

// at returns p as a plan of another epoch, at which nothing of it has changed.
func (p *plan) at(epoch uint64) *plan {
	other := *p
	other.epoch = epoch
	return &other
}

// stands tells whether what was known when the plan was made is still so, at an epoch and with the
// targets that an answer shows to be dead.
func (p *plan) stands(epoch uint64, s *scratch) bool {
	return p.epoch == epoch && (p.members[0].host == "" || !p.degraded && len(s.dead) == 0)
}

// remembering returns a plan that differs from p in the order that it remembers: the one in s.
func (p *plan) remembering(s *scratch) *plan {
	other := *p
	other.remember(s)
	return &other
}

func (p *plan) remember(s *scratch) {
	p.lineup = lineup{slices.Clone(s.first), slices.Clone(s.again), inOrder(s.first)}
	p.remembered = make([]uint16, len(s.first)+len(s.again))
	for m, record := range p.lineup.first {
		p.remembered[record] = uint16(m) //nolint:gosec // at most maxRecords
	}
	for _, r := range p.lineup.again {
		p.remembered[r.record] = r.member
	}
	p.packed = p.pack()
}

// divide splits the members that answer into groups and prepares the order of each.
func (p *plan) divide(c classification) {
	p.aside, p.degraded, p.allDown = c.aside, c.degraded, c.allDown
	p.wanted = min(len(c.answering), p.rule.limitOf(&p.members[0]))
	groupOf := func(m uint16) groupID {
		return groupID{p.standings[m].tier, p.rule.groupOf(p.line, &p.members[m])}
	}
	slices.SortStableFunc(c.answering, func(a, b uint16) int { return cmp.Compare(groupOf(a).rank, groupOf(b).rank) })
	for from := 0; from < len(c.answering); {
		id, to := groupOf(c.answering[from]), from+1
		for to < len(c.answering) && groupOf(c.answering[to]) == id {
			to++
		}
		p.groups = append(p.groups, p.group(id, c.answering[from:to], p.wanted-from))
		from = to
	}
	if len(p.groups) > 1 || !inOrder(c.answering) {
		p.ranked = c.answering
	}
}

// why returns the reason for which a member does not go out.
func (p *plan) why(member uint16) reason {
	if i := slices.IndexFunc(p.aside, func(a aside) bool { return a.member == member }); i >= 0 {
		return p.aside[i].why
	}
	return limit
}

// group makes a group of some members, of which answers usually hold at most wanted.
func (p *plan) group(id groupID, indexes []uint16, wanted int) group {
	g := group{id: id, policy: p.rule.policy, weights: make([]uint16, len(indexes))}
	for at, i := range indexes {
		g.weights[at] = p.standings[i].share()
	}
	if len(indexes) == len(p.members) && inOrder(indexes) {
		g.members = p.members
	} else {
		g.members = make([]member, len(indexes))
		for at, i := range indexes {
			g.members[at] = p.members[i]
		}
	}
	g.schedule = g.policy.schedule(contest{g.members, g.weights, min(max(wanted, 1), len(g.members))})
	return g
}
