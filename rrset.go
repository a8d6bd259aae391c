// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/names"
)

// maxRecords is the most records that a section may hold to be balanced: four times what fits
// into the largest DNS message, and what an index of 16 bits can tell apart.
const maxRecords = math.MaxUint16

// rrset is an RRset (RFC 2181, section 5) found in a section: records of class IN with the same owner and
// type. It is valid until the section is scanned anew. A record of another class, which only an upstream that lies
// puts there, belongs to none and is nobody's business here.
type rrset struct {
	owner  string // as the first record spells it
	rrtype uint16
	size   int      // records
	slots  []uint16 // the positions that its records hold in the section, ascending
	ttl    uint32   // the lowest among its records, in seconds
	mixed  bool     // its records' TTLs differ
	alike  bool     // all its records spell the owner alike
	sealed bool     // an RRSIG covers it
	seal   int      // the last of these among the seals of the section, counted from 1
}

// seal is an RRSIG that covers an RRset of its section.
type seal struct {
	slot   uint16 // its position
	before int    // another one of the same RRset, as in rrset.seal; 0: none
}

// holdsAddresses tells whether the members are addresses rather than names.
func (s *rrset) holdsAddresses() bool { return s.rrtype == dns.TypeA || s.rrtype == dns.TypeAAAA }

// contiguous tells whether the slots follow each other without a gap.
func (s *rrset) contiguous() bool {
	return int(s.slots[len(s.slots)-1]-s.slots[0]) == len(s.slots)-1
}

// run is a stretch of neighbouring records of one RRset.
type run struct {
	from, to int // positions: from <= i < to
	set      int // index of its RRset
}

// scratch is the memory in which an answer is worked out. It is used for one answer at a time and
// then kept for another.
type scratch struct {
	place uint8 // where it counts: another one than that of most others

	runs  []run
	sets  []rrset
	slots []uint16 // of all sets
	seals []seal   // of all sets
	index map[setKey]int

	members   []member   // of one RRset, in the order of its records
	sorted    []uint16   // their indexes, in the order of the members
	lineup               // what was read from sorted
	standings []standing // of the members
	picked    []uint16   // the members, then the records, that go out
	goesOut   []bool     // of every member

	dead  map[string]bool // targets whose addresses are all down, in lower case
	plans []*plan         // of the sets of the section arranged last, nil for those left alone

	carriesTargets  bool // the section scanned last has records that lead to a name: MX, SRV, HTTPS or SVCB
	carriesHints    bool // it has HTTPS or SVCB records
	chainLate       bool // it has a CNAME or DNAME behind a member
	removedUnsigned bool // a record was removed from an RRset that no RRSIG covers
}

type setKey struct {
	owner  string
	rrtype uint16
}

var (
	scratches = sync.Pool{New: func() any {
		return &scratch{index: make(map[setKey]int), dead: make(map[string]bool), place: uint8(scratchCount.Add(1))}
	}} //nolint:gosec // wraps
	scratchCount atomic.Uint32
)

// release gives s back, without the names that it refers to.
func (s *scratch) release() {
	clear(s.sets)
	clear(s.members)
	clear(s.plans)
	if len(s.dead) > 0 {
		clear(s.dead)
	}
	s.sets, s.members, s.plans, s.removedUnsigned = s.sets[:0], s.members[:0], s.plans[:0], false
	scratches.Put(s)
}

// scan finds the RRsets of A, AAAA, MX and SRV records in a section and leaves them in s.sets. Its
// cost grows with the number of records, however they are mixed.
func (s *scratch) scan(rrs []dns.RR) {
	clear(s.sets)
	s.runs, s.sets, s.seals = s.runs[:0], s.sets[:0], s.seals[:0]
	s.carriesTargets, s.carriesHints, s.chainLate = false, false, false
	signed := false
	for i := 0; i < len(rrs); {
		h := memberHeader(rrs[i])
		if h != nil {
			i = s.addRun(rrs, i, h)
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

// memberHeader returns the header of a record that can be a member, else nil. It tells by the Go
// type, which costs less than asking every record for its header. An MX or SRV record without data
// leads nowhere.
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

// addRun takes the records from position from, whose header is h, to the last neighbour of the same
// RRset into that, and returns the position behind.
func (s *scratch) addRun(rrs []dns.RR, from int, h *dns.RR_Header) (to int) {
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
	s.runs = append(s.runs, run{from, to, at})
	return to
}

// lower takes the TTL of one more record into account.
func (s *rrset) lower(ttl uint32) {
	if ttl != s.ttl {
		s.mixed = true
		s.ttl = min(s.ttl, ttl)
	}
}

// find returns the index of an RRset, -1 where the section has had none yet. Few are searched one
// by one, many by hash.
func (s *scratch) find(owner string, rrtype uint16) int {
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

func (s *scratch) newSet(h *dns.RR_Header) int {
	s.carriesTargets = s.carriesTargets || h.Rrtype == dns.TypeMX || h.Rrtype == dns.TypeSRV
	s.sets = append(s.sets, rrset{owner: h.Name, rrtype: h.Rrtype, ttl: h.Ttl, alike: true})
	return len(s.sets) - 1
}

// assignSlots gives every RRset its positions, all cut from one piece of memory.
func (s *scratch) assignSlots() {
	s.slots = s.slots[:0]
	for i := range s.sets {
		set := &s.sets[i]
		from := len(s.slots)
		s.slots = slices.Grow(s.slots, set.size)[:from+set.size]
		set.slots = s.slots[from:from:len(s.slots)]
	}
	for _, r := range s.runs {
		set := &s.sets[r.set]
		for i := r.from; i < r.to; i++ {
			set.slots = append(set.slots, uint16(i)) //nolint:gosec // at most maxRecords
		}
	}
}

// seal marks the RRsets that an RRSIG of the section covers (RFC 4034, section 3.1.1).
func (s *scratch) seal(rrs []dns.RR) {
	for i, rr := range rrs {
		sig, ok := rr.(*dns.RRSIG)
		if !ok || !isIN(&sig.Hdr) {
			continue
		}
		if at := s.find(sig.Hdr.Name, sig.TypeCovered); at >= 0 {
			set := &s.sets[at]
			s.seals = append(s.seals, seal{uint16(i), set.seal}) //nolint:gosec // at most maxRecords
			set.sealed, set.seal = true, len(s.seals)
			set.lower(sig.Hdr.Ttl)
		}
	}
}
