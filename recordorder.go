// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"cmp"
	"encoding/binary"
	"net"
	"slices"

	"github.com/miekg/dns"
)

// recordOrder says which records of an RRset are which members. Records are counted within their
// RRset.
type recordOrder struct {
	first   []uint16 // of every member, its first record
	repeats []repeat // the other records, each of which repeats a member

	straight bool // first is 0, 1, 2, ...
}

// repeat is a record that repeats a member.
type repeat struct{ record, member uint16 }

// lineup is the members of an RRset, as its records have them. It is used for one RRset after
// another.
type lineup struct {
	members []member // in the order of the records
	sorted  []uint16 // their indexes, in the order of the members
	order   recordOrder
}

// sort reads the members of a set and puts them in order.
func (l *lineup) sort(rrs []dns.RR, set *rrset) {
	clear(l.members)
	l.members, l.sorted = l.members[:0], l.sorted[:0]
	for i, slot := range set.slots {
		l.members = append(l.members, memberOf(rrs[slot]))
		l.sorted = append(l.sorted, uint16(i))
	}
	slices.SortFunc(l.sorted, func(a, b uint16) int {
		return cmp.Or(l.members[a].compare(&l.members[b]), cmp.Compare(a, b))
	})
	l.group()
}

// group finds the records that repeat a member among those sorted.
func (l *lineup) group() {
	o := &l.order
	// Straight is not worth a look for one answer.
	o.first, o.repeats, o.straight = o.first[:0], o.repeats[:0], false
	for _, record := range l.sorted {
		if last := len(o.first) - 1; last >= 0 && l.members[o.first[last]].compare(&l.members[record]) == 0 {
			o.repeats = append(o.repeats, repeat{record, uint16(last)})
			continue
		}
		o.first = append(o.first, record)
	}
}

// member returns the nth of the distinct members.
func (l *lineup) member(n int) *member { return &l.members[l.order.first[n]] }

// remembered is the order in which an upstream last gave the members of a plan, so that one that
// keeps its order costs a comparison and no sorting. Immutable.
type remembered struct {
	members []uint16 // of every record, the index of its member
	order   recordOrder
	packed  []uint32 // the addresses of the records if all are IPv4: cheaper to compare
}

// remember returns the order to remember of the members that a plan has.
func remember(order *recordOrder, members []member) remembered {
	r := remembered{
		order:   recordOrder{slices.Clone(order.first), slices.Clone(order.repeats), inOrder(order.first)},
		members: make([]uint16, len(order.first)+len(order.repeats)),
	}
	for m, record := range order.first {
		r.members[record] = uint16(m)
	}
	for _, again := range order.repeats {
		r.members[again.record] = again.member
	}
	r.packed = pack(r.members, members)
	return r
}

// pack returns the addresses of some members, nil unless all are IPv4.
func pack(indexes []uint16, members []member) []uint32 {
	packed := make([]uint32, 0, len(indexes))
	for _, m := range indexes {
		if !members[m].addr.Is4() {
			return nil
		}
		ip := members[m].addr.As4()
		packed = append(packed, binary.BigEndian.Uint32(ip[:]))
	}
	return packed
}

// fits reports whether the records of a set are the members in the order remembered.
func (r *remembered) fits(members []member, rrs []dns.RR, set *rrset) bool {
	if len(set.slots) != len(r.members) {
		return false
	}
	if r.packed != nil {
		return r.fitsPacked(rrs, set)
	}
	for i, slot := range set.slots {
		if !members[r.members[i]].is(rrs[slot]) {
			return false
		}
	}
	return true
}

func (r *remembered) fitsPacked(rrs []dns.RR, set *rrset) bool {
	packed := r.packed[:len(set.slots)]
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

// packedIPv4 returns an IPv4 address, held in 4 or in 16 bytes. It is net.IP.To4, inlined.
func packedIPv4(ip net.IP) (packed uint32, ok bool) {
	if len(ip) == net.IPv6len && binary.BigEndian.Uint64(ip) == 0 && binary.BigEndian.Uint32(ip[8:]) == 0xffff {
		ip = ip[12:]
	}
	if len(ip) != net.IPv4len {
		return 0, false
	}
	return binary.BigEndian.Uint32(ip), true
}

// inOrder reports whether some indexes are 0, 1, 2, ...
func inOrder(indexes []uint16) bool {
	for i, index := range indexes {
		if int(index) != i {
			return false
		}
	}
	return true
}
