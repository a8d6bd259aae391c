// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"net"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// member is one record of an RRset: what makes it differ from the others, in a form that compares
// and sorts. Records with equal members are duplicates. Immutable.
type member struct {
	addr netip.Addr // A, AAAA: the target
	host string     // MX, SRV: the target's name, as the record spells it
	rank uint16     // MX: preference (RFC 5321, section 5.1); SRV: priority (RFC 2782)
	port uint16     // SRV
	load uint16     // SRV: the record's own weight, which is the client's business
}

// memberOf returns the member of a record, the zero member for a record of another type.
func memberOf(rr dns.RR) member {
	switch rr := rr.(type) {
	case *dns.A:
		return member{addr: addrOfA(rr)}
	case *dns.AAAA:
		return member{addr: addrOfAAAA(rr)}
	case *dns.MX:
		return member{host: rr.Mx, rank: rr.Preference}
	case *dns.SRV:
		return member{host: rr.Target, rank: rr.Priority, port: rr.Port, load: rr.Weight}
	}
	return member{}
}

// isSRV reports whether the member is an SRV record.
func (m *member) isSRV() bool { return m.port != 0 || m.load != 0 }

// is reports whether rr is this member.
func (m *member) is(rr dns.RR) bool {
	switch rr := rr.(type) {
	case *dns.A:
		return m.addr == addrOfA(rr)
	case *dns.AAAA:
		return m.addr == addrOfAAAA(rr)
	case *dns.MX:
		return m.rank == rr.Preference && strings.EqualFold(m.host, rr.Mx)
	case *dns.SRV:
		return m.rank == rr.Priority && m.port == rr.Port && m.load == rr.Weight && strings.EqualFold(m.host, rr.Target)
	}
	return false
}

// compare orders members: by rank, then by address or, in lower case, by name.
func (m *member) compare(other *member) int {
	if c := cmp.Compare(m.rank, other.rank); c != 0 {
		return c
	}
	if c := m.addr.Compare(other.addr); c != 0 || m.host == other.host && m.port == other.port && m.load == other.load {
		return c
	}
	return cmp.Or(
		strings.Compare(strings.ToLower(m.host), strings.ToLower(other.host)),
		cmp.Compare(m.port, other.port),
		cmp.Compare(m.load, other.load),
	)
}

// addrOfA returns an A record's address, whether it is held in 4 or in 16 bytes; the zero Addr for
// an empty one.
func addrOfA(rr *dns.A) netip.Addr {
	addr, _ := netip.AddrFromSlice(rr.A)
	return addr.Unmap()
}

// addrOfAAAA returns an AAAA record's address; the zero Addr for an empty one.
func addrOfAAAA(rr *dns.AAAA) netip.Addr {
	addr, _ := netip.AddrFromSlice(rr.AAAA)
	return addr
}

// addrOf returns the address of a client, without zone and unmapped: the zero Addr if it has
// none.
func addrOf(client net.Addr) netip.Addr {
	switch client := client.(type) {
	case *net.UDPAddr:
		return client.AddrPort().Addr().Unmap().WithZone("")
	case *net.TCPAddr:
		return client.AddrPort().Addr().Unmap().WithZone("")
	case nil:
		return netip.Addr{}
	}
	addrPort, err := netip.ParseAddrPort(client.String())
	if err != nil {
		return netip.Addr{}
	}
	return addrPort.Addr().Unmap().WithZone("")
}

// owned returns m without a reference to the message that it was read from.
func (m *member) owned() member {
	c := *m
	c.host = strings.Clone(m.host)
	return c
}

// memberSeed makes the hashes of members differ from process to process.
var memberSeed = maphash.MakeSeed()

// hash returns the same number for members that are equal and spelled alike.
func (m *member) hash() uint64 { return maphash.Comparable(memberSeed, *m) }

// String returns the member as the data of its record.
func (m *member) String() string {
	switch {
	case m.host == "":
		return m.addr.String()
	case m.port == 0 && m.load == 0:
		return fmt.Sprintf("%d %s", m.rank, m.host)
	}
	return fmt.Sprintf("%d %d %d %s", m.rank, m.load, m.port, m.host)
}

// memberSize is about how many bytes a member takes.
const memberSize = 128
