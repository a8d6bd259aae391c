// SPDX-License-Identifier: Apache-2.0

package spread

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// setID is an RRset whose members lead in turn, or what of it does: the MX of one preference, the
// SRV of one priority, the hints of one HTTPS record.
type setID struct {
	priority uint16 // of MX, SRV and SVCB
	hints    string // ipv4hint or ipv6hint, and whose; empty: the records themselves
}

// compare orders sets as they are shown.
func (s setID) compare(other setID) int {
	return cmp.Or(cmp.Compare(s.hints, other.hints), cmp.Compare(s.priority, other.priority))
}

// title returns what a set is, in words.
func (s setID) title(qtype uint16) string {
	switch {
	case s.hints != "":
		return s.hints
	case qtype == dns.TypeMX:
		return fmt.Sprintf("MX of preference %d", s.priority)
	case qtype == dns.TypeA || qtype == dns.TypeAAAA:
		return dns.TypeToString[qtype]
	}
	return fmt.Sprintf("%s of priority %d", dns.TypeToString[qtype], s.priority)
}

// isV4 and isV6 tell whether the members of a set are addresses of a family.
func (s setID) isV4(qtype uint16) bool {
	return qtype == dns.TypeA || strings.HasPrefix(s.hints, "ipv4hint")
}

func (s setID) isV6(qtype uint16) bool {
	return qtype == dns.TypeAAAA || strings.HasPrefix(s.hints, "ipv6hint")
}

// memberID is a member: an address, or a target and its port.
type memberID struct {
	addr   netip.Addr
	target string
	port   uint16 // 0: none is given
}

// compare orders members as they are shown.
func (m memberID) compare(other memberID) int {
	return cmp.Or(m.addr.Compare(other.addr), strings.Compare(m.target, other.target), cmp.Compare(m.port, other.port))
}

func (m memberID) String() string {
	switch {
	case m.addr.IsValid():
		return m.addr.String()
	case m.port != 0:
		return fmt.Sprintf("%s:%d", m.target, m.port)
	}
	return m.target
}

// lineup is the members of a set in one answer, in their order.
type lineup struct {
	set     setID
	owner   string
	members []memberID
	ttl     uint32
}

// lineupsOf returns the sets of one type that an answer holds, in the order in which they begin.
func lineupsOf(answer []dns.RR, qtype uint16) []lineup {
	var all lineups
	for _, rr := range answer {
		if rr.Header().Rrtype != qtype {
			continue
		}
		switch rr := rr.(type) {
		case *dns.A:
			all.add(setID{}, rr, addressID(rr.A.To4()))
		case *dns.AAAA:
			all.add(setID{}, rr, addressID(rr.AAAA))
		case *dns.MX:
			all.add(setID{priority: rr.Preference}, rr, memberID{target: strings.ToLower(rr.Mx)})
		case *dns.SRV:
			all.add(setID{priority: rr.Priority}, rr, memberID{target: strings.ToLower(rr.Target), port: rr.Port})
		case *dns.HTTPS:
			all.addService(&rr.SVCB, rr)
		case *dns.SVCB:
			all.addService(rr, rr)
		}
	}
	return all
}

type lineups []lineup

// add adds a member. One that is there already keeps its place.
func (l *lineups) add(set setID, rr dns.RR, m memberID) {
	at := -1
	for i := range *l {
		if (*l)[i].set == set {
			at = i
		}
	}
	if at < 0 {
		*l = append(*l, lineup{set: set, owner: rr.Header().Name, ttl: rr.Header().Ttl})
		at = len(*l) - 1
	}
	one := &(*l)[at]
	for _, earlier := range one.members {
		if earlier == m {
			return
		}
	}
	one.members = append(one.members, m)
}

// addService adds an HTTPS or SVCB record, and its hints.
func (l *lineups) addService(s *dns.SVCB, rr dns.RR) {
	id := memberID{target: strings.ToLower(s.Target)}
	if id.target == "." { // the owner itself (RFC 9460, section 2.5.2)
		id.target = strings.ToLower(s.Hdr.Name)
	}
	for _, value := range s.Value {
		if port, ok := value.(*dns.SVCBPort); ok {
			id.port = port.Port
		}
	}
	l.add(setID{priority: s.Priority}, rr, id)
	for _, value := range s.Value {
		switch hint := value.(type) {
		case *dns.SVCBIPv4Hint:
			for _, ip := range hint.Hint {
				l.add(setID{s.Priority, "ipv4hint of " + id.String()}, rr, addressID(ip))
			}
		case *dns.SVCBIPv6Hint:
			for _, ip := range hint.Hint {
				l.add(setID{s.Priority, "ipv6hint of " + id.String()}, rr, addressID(ip))
			}
		}
	}
}

func addressID(ip []byte) memberID {
	addr, _ := netip.AddrFromSlice(ip)
	return memberID{addr: addr}
}
