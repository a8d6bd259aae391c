// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"math"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/names"
)

// maxRecords is the most records of a section that is balanced: four times what fits into the
// largest DNS message, and what an index of 16 bits can address.
const maxRecords = math.MaxUint16

// rrset is an RRset (RFC 2181, section 5) found in a section: records of class IN with the same
// owner and type. It is valid until the next scan. Records of other classes belong to no RRset and
// stay as they are.
type rrset struct {
	owner  string // as the first record spells it
	rrtype uint16
	size   int      // records
	slots  []uint16 // the positions that its records hold in the section, ascending
	ttl    uint32   // the lowest among its records, in seconds
	mixed  bool     // its records' TTLs differ
	alike  bool     // all its records spell the owner alike
	sealed bool     // an RRSIG covers it
	seal   int      // the last RRSIG that covers it: its index in scanner.seals plus 1; 0: none
}

// seal is an RRSIG that covers an RRset of its section.
type seal struct {
	slot   uint16 // its position
	before int    // the one before it of the same RRset, as in rrset.seal
}

// holdsAddresses reports whether the members are addresses rather than names.
func (s *rrset) holdsAddresses() bool { return s.rrtype == dns.TypeA || s.rrtype == dns.TypeAAAA }

// contiguous reports whether the slots follow each other without a gap.
func (s *rrset) contiguous() bool {
	return int(s.slots[len(s.slots)-1]-s.slots[0]) == len(s.slots)-1
}

// stretch is neighbouring records of one RRset.
type stretch struct {
	from, to int // positions: from <= i < to
	set      int // index of its RRset
}

// scanner finds the RRsets of a section. It is used for one section after another.
type scanner struct {
	stretches []stretch
	sets      []rrset
	slots     []uint16 // of all sets
	seals     []seal   // of all sets
	index     map[setKey]int

	carriesTargets bool // the section has records that lead to a name: MX, SRV, HTTPS or SVCB
	carriesHints   bool // it has HTTPS or SVCB records
	chainLate      bool // it has a CNAME or DNAME behind a member
}

type setKey struct {
	owner  string
	rrtype uint16
}

// scan finds the RRsets of A, AAAA, MX and SRV records in a section and leaves them in s.sets. It
// takes linear time, however the records are mixed.
func (s *scanner) scan(rrs []dns.RR) {
	s.reset()
	signed := false
	for i := 0; i < len(rrs); {
		if h := memberHeader(rrs[i]); h != nil {
			i = s.addStretch(rrs, i, h)
			continue
		}
		switch rr := rrs[i].(type) {
		case *dns.CNAME, *dns.DNAME:
			s.chainLate = s.chainLate || len(s.sets) > 0 && isIN(rr.Header())
		case *dns.RRSIG:
			signed = true
		case *dns.HTTPS, *dns.SVCB:
			in := isIN(rr.Header())
			s.carriesTargets, s.carriesHints = s.carriesTargets || in, s.carriesHints || in
		}
		i++
	}
	s.assignSlots()
	if signed {
		s.seal(rrs)
	}
	if len(s.index) > 0 {
		clear(s.index)
	}
}

// reset forgets the last section.
func (s *scanner) reset() {
	clear(s.sets)
	s.stretches, s.sets, s.seals = s.stretches[:0], s.sets[:0], s.seals[:0]
	s.carriesTargets, s.carriesHints, s.chainLate = false, false, false
}

// memberHeader returns the header of a record that can be a member, else nil. A type switch costs
// less than a call of Header for every record. An MX or SRV record without a target is no member.
func memberHeader(rr dns.RR) (h *dns.RR_Header) {
	switch rr := rr.(type) {
	case *dns.A:
		h = &rr.Hdr
	case *dns.AAAA:
		h = &rr.Hdr
	case *dns.MX:
		if rr.Mx == "" {
			return nil
		}
		h = &rr.Hdr
	case *dns.SRV:
		if rr.Target == "" {
			return nil
		}
		h = &rr.Hdr
	default:
		return nil
	}
	if !isIN(h) {
		return nil
	}
	return h
}

func isIN(h *dns.RR_Header) bool { return h.Class == dns.ClassINET }

// addStretch adds the records of one RRset that stand together from a position on, the first of
// which has the header h. It returns the position after the last of them.
func (s *scanner) addStretch(rrs []dns.RR, from int, h *dns.RR_Header) (to int) {
	at := s.find(h.Name, h.Rrtype)
	if at < 0 {
		at = s.newSet(h)
	}
	set := &s.sets[at]
	set.lower(h.Ttl)
	set.alike = set.alike && set.owner == h.Name
	for to = from + 1; to < len(rrs); to++ {
		next := memberHeader(rrs[to])
		if next == nil || next.Rrtype != h.Rrtype {
			break
		}
		if next.Name != set.owner {
			if !names.Same(next.Name, set.owner) {
				break
			}
			set.alike = false
		}
		if next.Ttl != set.ttl {
			set.lower(next.Ttl)
		}
	}
	set.size += to - from
	s.stretches = append(s.stretches, stretch{from, to, at})
	return to
}

// lower takes the TTL of one more record into account.
func (s *rrset) lower(ttl uint32) {
	if ttl != s.ttl {
		s.mixed = true
		s.ttl = min(s.ttl, ttl)
	}
}

// find returns the index of an RRset, -1 if it was not seen yet. Few RRsets are compared one by
// one, many are found by hash.
func (s *scanner) find(owner string, rrtype uint16) int {
	const few = 8
	if len(s.sets) <= few {
		for i := range s.sets {
			if s.sets[i].rrtype == rrtype && names.Same(s.sets[i].owner, owner) {
				return i
			}
		}
		return -1
	}
	for i := len(s.index); i < len(s.sets); i++ {
		s.index[setKey{strings.ToLower(s.sets[i].owner), s.sets[i].rrtype}] = i
	}
	if at, ok := s.index[setKey{strings.ToLower(owner), rrtype}]; ok {
		return at
	}
	return -1
}

func (s *scanner) newSet(h *dns.RR_Header) int {
	s.carriesTargets = s.carriesTargets || h.Rrtype == dns.TypeMX || h.Rrtype == dns.TypeSRV
	s.sets = append(s.sets, rrset{owner: h.Name, rrtype: h.Rrtype, ttl: h.Ttl, alike: true})
	return len(s.sets) - 1
}

// assignSlots gives every RRset its positions, all in one slice.
func (s *scanner) assignSlots() {
	s.slots = s.slots[:0]
	for i := range s.sets {
		set := &s.sets[i]
		from := len(s.slots)
		s.slots = slices.Grow(s.slots, set.size)[:from+set.size]
		set.slots = s.slots[from:from:len(s.slots)]
	}
	for _, r := range s.stretches {
		set := &s.sets[r.set]
		for i := r.from; i < r.to; i++ {
			set.slots = append(set.slots, uint16(i))
		}
	}
}

// seal marks the RRsets that an RRSIG of the section covers (RFC 4034, section 3.1.1).
func (s *scanner) seal(rrs []dns.RR) {
	for i, rr := range rrs {
		sig, ok := rr.(*dns.RRSIG)
		if !ok || !isIN(&sig.Hdr) {
			continue
		}
		if at := s.find(sig.Hdr.Name, sig.TypeCovered); at >= 0 {
			set := &s.sets[at]
			s.seals = append(s.seals, seal{uint16(i), set.seal})
			set.sealed, set.seal = true, len(s.seals)
			set.lower(sig.Hdr.Ttl)
		}
	}
}
