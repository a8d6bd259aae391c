// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/seed-f1518d44/balance/internal/schedule"
)

// sticky gives a client the same order every time, and clients to members in proportion to their
// weights: it is weighted rendezvous hashing. A member that goes hands its own clients on to the
// others and moves nobody else.
//
// The hash is part of the contract, the same in every process and release:
//
//	client key   XXH64, seed 0, of the client's prefix as 16 bytes, an IPv4 one mapped to IPv6 and
//	             the host bits 0, and the question's name in lower case, with its final dot
//	host key     XXH64, seed 0, of the host number as 8 bytes, big endian: see hostNumber
//	member key   XXH64, seed 0, of the address as 16 bytes
//
// schedule.Rendezvous says how an order is computed from the keys. Members are ordered by their
// host numbers, so that a client gets the same host over IPv4 and IPv6. Members that share a
// number, which they can only in different networks, are ordered as one, with the sum of their
// weights, and then among themselves by their member keys.
func sticky(c contest) schedule.Schedule {
	hosts, keys := make([]uint64, len(c.members)), make([]uint64, len(c.members))
	for i := range c.members {
		hosts[i], keys[i] = hashNumber(c.members[i].hostNumber()), c.members[i].key()
	}
	return schedule.Rendezvous(c.weights, hosts, keys)
}

// clientKey returns the key of a client: its prefix and the name it asks for.
func clientKey(client netip.Addr, lengths prefixLengths, qname string) uint64 {
	length := lengths.v6
	if client.Is4() {
		length = lengths.v4
	}
	var prefix [16]byte
	if p, err := client.Prefix(length); err == nil {
		prefix = p.Addr().As16()
	}
	buf := make([]byte, 0, 64)
	buf = append(buf, prefix[:]...)
	buf = append(buf, strings.ToLower(qname)...)
	return xxhash.Sum64(buf)
}

// prefixLengths are the lengths of client prefixes. Clients with the same prefix count as one.
type prefixLengths struct{ v4, v6 int }

var defaultPrefixLengths = prefixLengths{24, 56}

// key returns the member's key.
func (m *member) key() uint64 {
	if m.host != "" {
		return xxhash.Sum64String(strings.ToLower(m.host)) ^ bits.RotateLeft64(uint64(m.port), 32)
	}
	addr := m.addr.As16()
	return xxhash.Sum64(addr[:])
}

// hostNumber returns the number of a member's host. For an IPv4 address it is the last octet. For
// an IPv6 address it is the last group, read with decimal digits as people number hosts, so that
// 2001:db8::10 is the host of 192.0.2.10; a group with a letter is a number above all those. A
// member that is a name has its key.
func (m *member) hostNumber() uint64 {
	switch {
	case m.host != "":
		return m.key()
	case m.addr.Unmap().Is4():
		return uint64(m.addr.Unmap().As4()[3])
	}
	b := m.addr.As16()
	group := uint64(binary.BigEndian.Uint16(b[14:]))
	if number, err := strconv.ParseUint(strconv.FormatUint(group, 16), 10, 16); err == nil {
		return number
	}
	return 1<<16 + group
}

func hashNumber(number uint64) uint64 {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], number)
	return xxhash.Sum64(b[:])
}

// parsePrefixLengths reads "V4LEN V6LEN".
func parsePrefixLengths(v4, v6 string) (prefixLengths, error) {
	bits4, err := parseNumber(v4, 1, 32)
	if err != nil {
		return prefixLengths{}, err
	}
	bits6, err := parseNumber(v6, 1, 128)
	return prefixLengths{int(bits4), int(bits6)}, err
}
