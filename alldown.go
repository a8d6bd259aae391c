// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/text"
)

// allDown is the option all_down: what to answer if all members of an RRset are down. The zero
// value fails open: the answer is what it would be if all were up.
type allDown struct {
	mode     allDownMode
	fallback []netip.Addr
}

type allDownMode uint8

const (
	answerOpen allDownMode = iota
	answerNoData
	answerServfail
	answerFallback
)

var allDownNames = [...]string{answerOpen: "open", answerNoData: "nodata", answerServfail: "servfail", answerFallback: "fallback"}

// replaces reports whether another answer replaces members that are all down. Fallback addresses
// replace only addresses.
func (d *allDown) replaces(addresses bool) bool {
	return d.mode == answerNoData || d.mode == answerServfail || d.mode == answerFallback && addresses
}

// negativeTTL is how long, in seconds, a resolver may keep the answer nodata at most.
const negativeTTL = 5

// replace answers for an RRset whose members are all down, as the option all_down says. A fallback
// without an address of the family that was asked for is nodata: the client will ask for the other.
func (a *arrangement) replace(set *rrset, now *state) {
	if l := a.leadsOf(now); l != nil {
		l.countOther()
	}
	a.outcome, a.degraded = max(a.outcome, filtered), true
	a.removed[wasDown] += uint16(len(set.slots))
	a.removedUnsigned = true
	a.denied = set.owner
	a.own()
	for _, slot := range set.slots {
		a.out[slot] = nil
	}
	rule := a.answer.query.rule
	how := rule.allDown
	if how.mode == answerServfail {
		a.denial = answerServfail
		return
	}
	records := fallbackRecords(set, how.fallback, now.plan.limits.of(set, true))
	if len(records) == 0 {
		a.denial = max(a.denial, answerNoData)
		return
	}
	lead := int(a.turn(now.turns, 0) % uint64(len(records)))
	records = slices.Concat(records[lead:], records[:lead])
	if rule.answers > 0 {
		records = records[:min(rule.answers, len(records))]
	}
	a.insert = append(a.insert, insertion{int(set.slots[0]), records})
}

// insertion is records that take the place of others, which may be fewer.
type insertion struct {
	slot    int
	records []dns.RR
}

// fallbackRecords returns records for the addresses that are of the family of an RRset.
func fallbackRecords(set *rrset, addrs []netip.Addr, ttl uint32) (records []dns.RR) {
	header := dns.RR_Header{Name: set.owner, Rrtype: set.rrtype, Class: dns.ClassINET, Ttl: ttl}
	for _, addr := range addrs {
		switch {
		case addr.Is4() && set.rrtype == dns.TypeA:
			records = append(records, &dns.A{Hdr: header, A: addr.AsSlice()})
		case addr.Is6() && set.rrtype == dns.TypeAAAA:
			records = append(records, &dns.AAAA{Hdr: header, AAAA: addr.AsSlice()})
		}
	}
	return records
}

// deny turns a reply, whose sections are its own, into the denial of a name.
func (r *servedRule) deny(reply *dns.Msg, how allDownMode, name string) {
	switch how {
	case answerServfail:
		reply.Rcode, reply.Authoritative, reply.AuthenticatedData = dns.RcodeServerFailure, false, false
		reply.Answer, reply.Ns = nil, nil
	case answerNoData:
		reply.Ns = []dns.RR{negativeSOA(r.zoneOf(name, reply.Ns))}
	default:
		return
	}
	reply.Extra = slices.DeleteFunc(slices.Clone(reply.Extra), func(rr dns.RR) bool { return rr.Header().Rrtype != dns.TypeOPT })
}

// zoneOf returns the zone that denies a name: that of the authority section, which has an SOA, else
// the rule's. If a CNAME led out of both, it is the name itself.
func (r *servedRule) zoneOf(name string, authority []dns.RR) string {
	for _, rr := range authority {
		if h := rr.Header(); h.Rrtype == dns.TypeNS && dns.IsSubDomain(h.Name, name) {
			return strings.ToLower(h.Name)
		}
	}
	if dns.IsSubDomain(r.zone, name) {
		return r.zone
	}
	return strings.ToLower(name)
}

// negativeSOA returns the SOA record of a zone's negative answers (RFC 2308, section 3).
func negativeSOA(zone string) dns.RR {
	server := nameUnder("ns.dns.", zone)
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: negativeTTL},
		Ns:  server, Mbox: nameUnder("hostmaster.", server), Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: negativeTTL,
	}
}

// nameUnder returns a name in a zone, or the zone itself if the name would be too long. Such a name
// only fills a field.
func nameUnder(labels, zone string) string {
	if zone == "." {
		return labels
	}
	const longest = 255 // octets (RFC 1035, section 2.3.4)
	if n, err := dns.PackDomainName(labels+zone, make([]byte, longest), 0, nil, false); err != nil || n > longest {
		return zone
	}
	return labels + zone
}

// parseAllDown reads "all_down open|nodata|servfail|fallback ADDRESS...".
func parseAllDown(args []string) (d allDown, err error) {
	if len(args) == 0 {
		return d, wrongCount(args)
	}
	mode := slices.Index(allDownNames[:], args[0])
	if mode < 0 {
		return d, text.Unknown("answer", args[0], allDownNames[:])
	}
	d.mode = allDownMode(mode)
	if (d.mode == answerFallback) != (len(args) > 1) {
		return d, wrongCount(args)
	}
	d.fallback, err = parseAddresses(args[1:])
	return d, err
}
