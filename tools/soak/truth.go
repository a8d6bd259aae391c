// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// rrset is the truth about an RRset: what answers may hold.
type rrset struct {
	name    string // lower case
	qtype   uint16
	members []netip.Addr // sorted
	ttl     uint32       // that answers have at most, seconds
	lacking uint32       // the same if a member is missing; 0: ttl
	exact   bool         // answers have that TTL, and are what the zone has: the rule only observes
	targets []target     // MX, SRV: what the members lead to
	glueTTL uint32       // of a target's only address, seconds
	key     *dns.DNSKEY  // that answers are signed with; nil: they are not

	forwarded bool // comes from the upstream
	cached    bool // and is cached
	health    map[netip.Addr]*timeline[health]
	// Of its health check; nil: that of most.
	timing *checkTiming
	// By overrides; nil: none.
	excluded func(from, to time.Time) (always, sometimes map[netip.Addr]bool)
}

// reality is what else is true: about reloads, descriptors and the upstream.
type reality struct {
	reloading *timeline[bool]   // a reload is under way
	starved   *timeline[bool]   // of descriptors
	quirk     *timeline[*quirk] // of the upstream
	busy      func() time.Duration
}

// grace is how long answers may still show a fault of the upstream, or a lack of descriptors, after
// its end. forward has its own health checks, every half second, and cache keeps a SERVFAIL for a
// second.
const grace = 4 * time.Second

// upstreamExplains reports whether a fault of the upstream, or a lack of descriptors to ask it,
// explains a failed answer.
func (r *reality) upstreamExplains(set *rrset, from, to time.Time) bool {
	if !set.forwarded {
		return false
	}
	from = from.Add(-grace - r.busy())
	return slices.Contains(r.starved.during(from, to), true) || !only(r.quirk.during(from, to), nil)
}

// mayBeCut reports whether an answer may be truncated.
func (r *reality) mayBeCut(set *rrset, from, to time.Time) bool {
	return set.forwarded && slices.ContainsFunc(r.quirk.during(from.Add(-grace-r.busy()), to), func(q *quirk) bool { return q != nil && q.cut })
}

// starvation reports whether descriptors were short.
func (r *reality) starvation(from, to time.Time) bool {
	return slices.Contains(r.starved.during(from.Add(-grace-r.busy()), to), true)
}

// judge says what is wrong with the reply to a query that was in flight for a time, or nothing.
// excused reports whether a fault of the upstream explains it.
func (r *reality) judge(set *rrset, q, reply *dns.Msg, from, to time.Time) (wrong string, excused bool) {
	if wrong := frame(q, reply); wrong != "" {
		return wrong, false
	}
	if reply.Truncated {
		if r.mayBeCut(set, from, to) {
			return "", true
		}
		return "truncated", false
	}
	if reply.Rcode != dns.RcodeSuccess {
		if r.upstreamExplains(set, from, to) {
			return "", true
		}
		return "rcode is " + dns.RcodeToString[reply.Rcode] + ", want NOERROR", false
	}
	members, wrong := set.read(reply)
	if wrong != "" {
		return wrong, false
	}
	if set.key != nil {
		return set.sealedWrong(members, reply, from, to, r.busy()), false
	}
	if set.targets != nil && r.bare(set, from, to) {
		return "", false
	}
	wrong = set.complete(members, reply, from, to, r.busy())
	if wrong == "" && set.targets != nil {
		wrong = set.glueWrong(members, reply, from, to, r.busy())
	}
	return wrong, false
}

// bare reports whether the upstream may have left out the addresses of targets. Then it is unknown
// which targets are dead.
func (r *reality) bare(set *rrset, from, to time.Time) bool {
	return set.forwarded && slices.ContainsFunc(r.quirk.during(from.Add(-grace-r.busy()), to), func(q *quirk) bool { return q != nil && q.bare })
}

// frame says what is wrong with a reply apart from its records.
func frame(q, reply *dns.Msg) string {
	switch {
	case reply.Id != q.Id:
		return fmt.Sprintf("id is %d, want %d", reply.Id, q.Id)
	case !reply.Response || reply.Opcode != q.Opcode:
		return "no reply to a query"
	case len(reply.Question) != 1 || reply.Question[0] != q.Question[0]:
		return fmt.Sprintf("question is %v, want %v", reply.Question, q.Question)
	}
	return ""
}

// read returns the members of an answer, in their order, and what is wrong with its records.
func (set *rrset) read(reply *dns.Msg) (members []netip.Addr, wrong string) {
	for _, rr := range reply.Answer {
		h := rr.Header()
		if h.Rrtype == dns.TypeRRSIG && set.key != nil {
			continue
		}
		if strings.ToLower(h.Name) != set.name || h.Rrtype != set.qtype || h.Class != dns.ClassINET {
			return nil, fmt.Sprintf("record is %q, want one of %s", rr, set.name)
		}
		some, wrong := set.membersIn(rr)
		switch {
		case wrong != "":
			return nil, wrong
		case h.Ttl > set.ttl:
			return nil, fmt.Sprintf("TTL is %d, want at most %d", h.Ttl, set.ttl)
		case set.exact && h.Ttl != set.ttl:
			return nil, fmt.Sprintf("TTL is %d, want %d, because the rule only observes", h.Ttl, set.ttl)
		case h.Ttl != reply.Answer[0].Header().Ttl:
			return nil, fmt.Sprintf("TTLs are %d and %d, want one", reply.Answer[0].Header().Ttl, h.Ttl)
		}
		for _, a := range some {
			if !slices.Contains(members, a) { // the upstream may say it twice
				members = append(members, a)
			}
		}
	}
	if len(members) == 0 {
		return nil, "no members"
	}
	return members, ""
}

// complete says which members are in the answer and must not be, or are not and must be.
func (set *rrset) complete(members []netip.Addr, reply *dns.Msg, from, to time.Time, busy time.Duration) string {
	expected := set.expected(from, to, busy)
	certain := slices.ContainsFunc(set.members, func(a netip.Addr) bool { return expected[a] == mustAnswer })
	hopeless := !slices.ContainsFunc(set.members, func(a netip.Addr) bool { return expected[a] != mustNot })
	for _, a := range set.members {
		answers := slices.Contains(members, a)
		switch {
		case !answers && expected[a] == mustAnswer:
			return fmt.Sprintf("%s, which is up, is missing in %s", a, addrs(members))
		case !answers && hopeless:
			return fmt.Sprintf("%s is missing in %s, though all are down", a, addrs(members))
		case answers && expected[a] == mustNot && certain:
			return fmt.Sprintf("%s, which is down, is in %s", a, addrs(members))
		}
	}
	if ttl := reply.Answer[0].Header().Ttl; set.lacking > 0 && ttl > set.lacking && len(members) < len(set.members) {
		return fmt.Sprintf("TTL is %d while a member is missing, want at most %d", ttl, set.lacking)
	}
	return ""
}

// expected returns what an answer may do about each member.
func (set *rrset) expected(from, to time.Time, busy time.Duration) map[netip.Addr]expectation {
	all := make(map[netip.Addr]expectation)
	var always, sometimes map[netip.Addr]bool
	if set.excluded != nil {
		always, sometimes = set.excluded(from, to)
	}
	for _, a := range set.members {
		e := set.expectedOf(a, from, to, busy)
		if always[a] {
			e = mustNot
		} else if sometimes[a] {
			e = either
		}
		all[a] = e
	}
	return all
}

func (set *rrset) timed() *checkTiming { return cmp.Or(set.timing, timing) }

// expectedOf returns what an answer may do about a member, by the health of its backend. A target
// is as healthy as its healthiest address. If the rule only observes, no member leaves.
func (set *rrset) expectedOf(member netip.Addr, from, to time.Time, busy time.Duration) expectation {
	behind := []netip.Addr{member}
	if set.targets != nil {
		behind = set.targetOf(member).addrs
	}
	var all []expectation
	for _, a := range behind {
		history := set.health[a]
		if history == nil || set.exact {
			return mustAnswer
		}
		all = append(all, set.timed().expect(history, from, to, busy))
	}
	switch {
	case slices.Contains(all, mustAnswer):
		return mustAnswer
	case only(all, mustNot):
		return mustNot
	}
	return either
}
