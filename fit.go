// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"slices"

	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// The option "answers fit": an answer over UDP holds as many members as the client's size allows.

// parseAnswers reads "N | fit". It returns 0 for fit.
func parseAnswers(args []string) (int, error) {
	if len(args) == 1 && args[0] == "fit" {
		return 0, nil
	}
	n, err := parseCount(maxRecords)(args)
	if len(args) == 1 && err != nil {
		return 0, fmt.Errorf("%w, or fit", err)
	}
	return n, err
}

// longestHostname is what nsid adds to a reply at most, if it is not given another text.
const longestHostname = 64

// sizeFor returns the size of the reply that a client takes, without what is added to it above. It
// is 0 for a client that does not ask over UDP.
func sizeFor(w dns.ResponseWriter, query *dns.Msg) uint16 {
	state := request.Request{W: w, Req: query}
	if state.Proto() != "udp" {
		return 0
	}
	size := state.Size()
	if opt := query.IsEdns0(); opt != nil {
		size -= dns.Len(opt) // the reply has one of at most that size, and what nsid adds
		if slices.ContainsFunc(opt.Option, func(o dns.EDNS0) bool { return o.Option() == dns.EDNS0NSID }) {
			size -= longestHostname
		}
	}
	if tsig := query.IsTsig(); tsig != nil {
		size -= dns.Len(tsig)
	}
	return uint16(max(size, 1))
}

// mostThatFit returns how many members of each unsigned RRset of addresses fit a size, beside all
// else in the reply: at least 1, and 0 if all fit. It scans both sections.
func (s *scanner) mostThatFit(res *dns.Msg, size int) uint16 {
	few := *res // the same with one record of each of these RRsets
	few.Compress = true
	answer, perMember, largest := s.firstOfEach(res.Answer)
	extra, more, other := s.firstOfEach(withoutOPT(res.Extra))
	few.Answer, few.Extra = answer, extra
	perMember, largest = perMember+more, max(largest, other)
	if largest < 2 {
		return 0
	}
	most := 1 + max(0, size-few.Len())/perMember
	if most >= largest {
		return 0
	}
	return uint16(most)
}

// firstOfEach returns a section with the first record alone of each RRset that may be cut. One more
// record of each takes so many bytes, and the largest has so many records.
func (s *scanner) firstOfEach(rrs []dns.RR) (few []dns.RR, perMember, largest int) {
	s.scan(rrs)
	drop := make([]bool, len(rrs))
	for i := range s.sets {
		set := &s.sets[i]
		if !set.holdsAddresses() || set.sealed || len(set.slots) < 2 {
			continue
		}
		largest = max(largest, len(set.slots))
		perMember += sizeOfMember(set.rrtype)
		for _, slot := range set.slots[1:] {
			drop[slot] = true
		}
	}
	for i, rr := range rrs {
		if !drop[i] {
			few = append(few, rr)
		}
	}
	return few, perMember, largest
}

// sizeOfMember returns the bytes of an address record whose owner is compressed to a pointer.
func sizeOfMember(rrtype uint16) int {
	const fixed = 2 + 2 + 2 + 4 + 2 // owner, type, class, TTL, length
	if rrtype == dns.TypeA {
		return fixed + 4
	}
	return fixed + 16
}

// withoutOPT returns a section without its OPT record, which is counted apart.
func withoutOPT(rrs []dns.RR) (rest []dns.RR) {
	for _, rr := range rrs {
		if rr.Header().Rrtype != dns.TypeOPT {
			rest = append(rest, rr)
		}
	}
	return rest
}
