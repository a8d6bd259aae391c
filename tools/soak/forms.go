// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Members that are not addresses in A or AAAA records: the names that MX and SRV records lead to,
// with their addresses in the additional section, and the hints of HTTPS records. An answer may
// hold only what the zone has.

// target is the name that a member of an MX or SRV RRset leads to. Its first address represents it
// among the members.
type target struct {
	name  string // lower case
	addrs []netip.Addr
}

// The other fields of all MX, SRV and HTTPS records here.
const (
	preference  = 10
	servicePort = 8443
)

// led returns an RRset whose members lead to targets, each with some of the addresses of another.
func (set *rrset) led(name string, each int) *rrset {
	led := *set
	led.members = nil
	for some := range slices.Chunk(set.members, each) {
		led.targets = append(led.targets, target{"abcd"[len(led.targets):][:1] + "." + name, some})
		led.members = append(led.members, some[0])
	}
	return &led
}

// kind returns the label under which queries for the RRset are counted: its zone, and what is
// special about it.
func (set *rrset) kind() string {
	zone := zoneOf(set.name)
	switch {
	case set.exact:
		return zone + ", observed"
	case set.key != nil:
		return zone + ", with signatures"
	case set.targets != nil || set.qtype == dns.TypeHTTPS:
		return zone + ", " + dns.Type(set.qtype).String()
	}
	return zone
}

// targetOf returns the target that a member represents.
func (set *rrset) targetOf(member netip.Addr) target {
	i := slices.IndexFunc(set.targets, func(t target) bool { return t.addrs[0] == member })
	return set.targets[i]
}

// targetNamed returns the member that represents a target, the zero Addr if there is none.
func (set *rrset) targetNamed(name string) netip.Addr {
	for _, t := range set.targets {
		if strings.EqualFold(t.name, name) {
			return t.addrs[0]
		}
	}
	return netip.Addr{}
}

// addresses returns the RRset of a target's addresses.
func (set *rrset) addresses(t target) *rrset {
	glue := &rrset{name: t.name, qtype: dns.TypeA, members: t.addrs, ttl: set.glueTTL, health: set.health}
	if len(t.addrs) > 1 && !set.exact { // one record alone is left as it is
		glue.ttl, glue.lacking = set.ttl, set.lacking
	}
	glue.exact = set.exact
	return glue
}

// records returns the records of some members, in their order, as in the zone, and the additional
// ones.
func (set *rrset) records(owner string, members []netip.Addr, ttl uint32) (answer, extra []dns.RR) {
	h := dns.RR_Header{Name: owner, Rrtype: set.qtype, Class: dns.ClassINET, Ttl: ttl}
	if set.qtype == dns.TypeHTTPS {
		return []dns.RR{httpsRecord(h, members)}, nil
	}
	for _, m := range members {
		switch set.qtype {
		case dns.TypeMX:
			answer = append(answer, &dns.MX{Hdr: h, Preference: preference, Mx: set.targetOf(m).name})
		case dns.TypeSRV:
			answer = append(answer, &dns.SRV{Hdr: h, Priority: preference, Weight: 1, Port: servicePort, Target: set.targetOf(m).name})
		default:
			answer = append(answer, addressRecord(owner, m, ttl))
			continue
		}
		for _, a := range set.targetOf(m).addrs {
			extra = append(extra, addressRecord(set.targetOf(m).name, a, ttl))
		}
	}
	return answer, extra
}

func addressRecord(name string, a netip.Addr, ttl uint32) dns.RR {
	h := dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}
	if a.Is4() {
		return &dns.A{Hdr: h, A: a.AsSlice()}
	}
	h.Rrtype = dns.TypeAAAA
	return &dns.AAAA{Hdr: h, AAAA: a.AsSlice()}
}

func httpsRecord(h dns.RR_Header, hints []netip.Addr) *dns.HTTPS {
	hint := &dns.SVCBIPv4Hint{}
	for _, a := range hints {
		hint.Hint = append(hint.Hint, net.IP(a.AsSlice()))
	}
	return &dns.HTTPS{SVCB: dns.SVCB{Hdr: h, Priority: 1, Target: ".", Value: []dns.SVCBKeyValue{
		&dns.SVCBAlpn{Alpn: []string{"h2"}}, &dns.SVCBPort{Port: servicePort}, hint,
	}}}
}

// membersIn returns the members that a record is or, of an HTTPS record, holds, and what is wrong
// with it.
func (set *rrset) membersIn(rr dns.RR) (members []netip.Addr, wrong string) {
	switch rr := rr.(type) {
	case *dns.MX:
		members = append(members, set.targetNamed(rr.Mx))
	case *dns.SRV:
		members = append(members, set.targetNamed(rr.Target))
	case *dns.HTTPS:
		members = hintsOf(rr)
	default:
		members = append(members, addressOf(rr))
	}
	for _, m := range members {
		if !slices.Contains(set.members, m) {
			return nil, fmt.Sprintf("%s is no member of %s", cmp.Or(strings.TrimPrefix(rr.String(), rr.Header().String()), rr.String()), addrs(set.members))
		}
	}
	if len(members) == 0 {
		return nil, "no hints in " + rr.String()
	}
	if set.targets == nil && set.qtype != dns.TypeHTTPS {
		return members, ""
	}
	if answer, _ := set.records(rr.Header().Name, members, rr.Header().Ttl); !strings.EqualFold(answer[0].String(), rr.String()) {
		return nil, fmt.Sprintf("record is %q, want %q", rr, answer[0])
	}
	return members, ""
}

func addressOf(rr dns.RR) (a netip.Addr) {
	switch rr := rr.(type) {
	case *dns.A:
		a, _ = netip.AddrFromSlice(rr.A.To4())
	case *dns.AAAA:
		a, _ = netip.AddrFromSlice(rr.AAAA)
	}
	return a
}

func hintsOf(rr *dns.HTTPS) (members []netip.Addr) {
	for _, kv := range rr.Value {
		if hint, ok := kv.(*dns.SVCBIPv4Hint); ok {
			for _, ip := range hint.Hint {
				a, _ := netip.AddrFromSlice(ip.To4())
				members = append(members, a)
			}
		}
	}
	return members
}

// glueWrong says what is wrong with the additional section of an answer with targets. It must have
// the addresses of the targets in the answer, except those that are down, and no others.
func (set *rrset) glueWrong(members []netip.Addr, reply *dns.Msg, from, to time.Time, busy time.Duration) string {
	glue := make(map[string][]dns.RR)
	for _, rr := range reply.Extra {
		if rr.Header().Rrtype != dns.TypeOPT {
			owner := strings.ToLower(rr.Header().Name)
			glue[owner] = append(glue[owner], rr)
		}
	}
	for _, m := range members {
		t := set.targetOf(m)
		here, of := &dns.Msg{Answer: glue[t.name]}, set.addresses(t)
		delete(glue, t.name)
		known, wrong := of.read(here)
		if wrong == "" {
			wrong = of.complete(known, here, from, to, busy)
		}
		if wrong != "" {
			return fmt.Sprintf("glue of %s: %s", t.name, wrong)
		}
	}
	for owner, rrs := range glue {
		return fmt.Sprintf("glue is %q, and no member leads to %s", rrs[0], owner)
	}
	return ""
}

// eligible returns the members of a signed answer that are not down, and whether that is certain.
// The answer holds all members.
func (set *rrset) eligible(members []netip.Addr, from, to time.Time, busy time.Duration) (up []netip.Addr, certain bool) {
	expected := set.expected(from, to, busy)
	for _, m := range members {
		switch expected[m] {
		case mustAnswer:
			up = append(up, m)
		case either:
			return nil, false
		case mustNot:
		}
	}
	if len(up) == 0 {
		up = members
	}
	return up, true
}

// sealedWrong says what is wrong with a signed answer. It must have all members, those that are
// down last, and a valid signature.
func (set *rrset) sealedWrong(members []netip.Addr, reply *dns.Msg, from, to time.Time, busy time.Duration) string {
	if len(members) < len(set.members) {
		return fmt.Sprintf("%s is all there is, want all of %s, because they are signed", addrs(members), addrs(set.members))
	}
	if wrong := signatureWrong(reply, set.key); wrong != "" {
		return wrong
	}
	expected := set.expected(from, to, busy)
	down := slices.IndexFunc(members, func(a netip.Addr) bool { return expected[a] == mustNot })
	if down < 0 {
		return ""
	}
	for _, a := range members[down:] {
		if expected[a] == mustAnswer {
			return fmt.Sprintf("%s is ahead of %s, which is up, in %s", members[down], a, addrs(members))
		}
	}
	certain := slices.ContainsFunc(members, func(a netip.Addr) bool { return expected[a] == mustAnswer })
	if ttl := reply.Answer[0].Header().Ttl; certain && ttl > set.lacking {
		return fmt.Sprintf("TTL is %d while a member is down, want at most %d", ttl, set.lacking)
	}
	return ""
}

// signatureWrong says what is wrong with the one signature that an answer has.
func signatureWrong(reply *dns.Msg, key *dns.DNSKEY) string {
	var sigs []*dns.RRSIG
	var signed []dns.RR
	for _, rr := range reply.Answer {
		if sig, ok := rr.(*dns.RRSIG); ok {
			sigs = append(sigs, sig)
		} else {
			signed = append(signed, rr)
		}
	}
	if len(sigs) != 1 {
		return fmt.Sprintf("%d signatures, want one", len(sigs))
	}
	sig := sigs[0]
	switch err := sig.Verify(key, signed); {
	case err != nil:
		return fmt.Sprintf("the signature %q does not fit %q: %v", sig, signed, err)
	case !sig.ValidityPeriod(time.Now()):
		return fmt.Sprintf("the signature %q is not valid now", sig)
	case sig.Hdr.Ttl != signed[0].Header().Ttl:
		return fmt.Sprintf("TTL of the signature is %d, want %d", sig.Hdr.Ttl, signed[0].Header().Ttl)
	}
	return ""
}
