// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// sticky gives a client the same order every time, and clients to members in proportion to their
// weights. It is weighted rendezvous hashing (Thaler, Ravishankar: Using name-based mappings to
// increase hit rates, IEEE/ACM Transactions on Networking 6, 1998; with weights after Schindelhauer,
// Schomaker: Weighted distributed hash tables, SPAA 2005): the members stand in the order of
// weight / -ln(u), u being a number between 0 and 1 hashed from the client, the name and the member.
// So a member that goes hands its own clients on to the others and moves nobody else, and they
// are back when it returns.
//
// The hash is part of the contract, the same in every process and release:
//
//	client key   XXH64, seed 0, of the client's prefix as 16 bytes, an IPv4 one mapped to IPv6 and
//	             the host bits 0, and the question's name in lower case, with its final dot
//	member key   XXH64, seed 0, of 16 bytes: see identity
//	u            (the 53 high bits of SplitMix64's output function of the keys' exclusive or + 0.5) / 2^53
type sticky struct{}

var (
	_ policy   = sticky{}
	_ schedule = &rendezvous{}
)

func (sticky) schedule(c contest) schedule {
	r := &rendezvous{weights: c.weights, keys: make([]uint64, len(c.members))}
	r.equal = !slices.ContainsFunc(c.weights, func(w uint16) bool { return w != c.weights[0] })
	name := namingOf(c.rrset)
	for i := range c.members {
		id := c.members[i].identity(name)
		r.keys[i] = xxhash.Sum64(id[:])
	}
	return r
}

func (sticky) resume(_, _ *group, turn uint64) uint64 { return turn }

// rendezvous is the schedule of sticky. Its turns are client keys.
type rendezvous struct {
	keys    []uint64 // of the members
	weights []uint16
	equal   bool // all weights are
}

var scorePool = sync.Pool{New: func() any { return new([]uint64) }}

func (r *rendezvous) order(client uint64, idx []uint16) {
	pooled := scorePool.Get().(*[]uint64)
	defer scorePool.Put(pooled)
	scores := slices.Grow((*pooled)[:0], len(r.keys))
	for i, key := range r.keys {
		scores = append(scores, r.score(i, client^key)&^memberBits|uint64(i)) //nolint:gosec // at most maxRecords
	}
	slices.Sort(scores)
	for i := range idx {
		idx[i] = uint16(scores[i] & memberBits) //nolint:gosec // 16 bits
	}
	*pooled = scores
}

// memberBits are the bits of a score that make room for the index of its member.
const memberBits = maxRecords

// score returns how much a member suits a client, given the hash of both: the lower, the better. It is a
// positive float's bits, which compare as the float does.
func (r *rendezvous) score(member int, hash uint64) uint64 {
	u := (float64(splitMix(hash)>>11) + 0.5) / (1 << 53)
	if r.equal {
		return math.Float64bits(1 - u) // the same order without a logarithm
	}
	return math.Float64bits(-math.Log(u) / float64(r.weights[member]))
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

// prefixLengths say how much of an address is the client: those who share a prefix are one.
type prefixLengths struct{ v4, v6 int }

var defaultPrefixLengths = prefixLengths{24, 56}

// naming says how the members of an RRset are told apart.
type naming uint8

const (
	byAddress naming = iota
	byNumber         // the host number in a network that all share
	byDigits         // the same, where hexadecimal digits are read as decimal ones
)

// namingOf returns how members are told apart. Those of an A RRset that all lie in one /24, and of
// an AAAA RRset that all lie in one /112, go by the last octet and the last group: so 192.0.2.7 and
// 2001:db8::7 are one host, to which a client is sent over either family. The last group is read as
// people number hosts: as decimal digits, 2001:db8::10 being the tenth, unless one of the set's has a
// letter. Where numbers cannot pair the hosts, each family goes by its addresses, and a client
// may be led to one host over IPv4 and to another one over IPv6, each of which it keeps.
func namingOf(members []member) naming {
	if !shareNetwork(members) {
		return byAddress
	}
	if members[0].addr.Is4() {
		return byNumber
	}
	for i := range members {
		if _, ok := decimal(lastGroup(members[i].addr)); !ok {
			return byNumber
		}
	}
	return byDigits
}

// shareNetwork tells whether all members are addresses of one family in one /24 or /112.
func shareNetwork(members []member) bool {
	length := 112
	if members[0].addr.Is4() {
		length = 24
	}
	network, err := members[0].addr.Prefix(length)
	return err == nil && !slices.ContainsFunc(members, func(m member) bool { return !network.Contains(m.addr) })
}

// identity returns what a member is hashed by: 16 bytes that differ within an RRset.
func (m *member) identity(n naming) (id [16]byte) {
	switch {
	case m.host != "":
		binary.BigEndian.PutUint64(id[8:], xxhash.Sum64String(strings.ToLower(m.host))^bits.RotateLeft64(uint64(m.port), 32))
	case n == byAddress:
		return m.addr.As16()
	case m.addr.Is4():
		id[15] = m.addr.As4()[3]
	default:
		number := lastGroup(m.addr)
		if n == byDigits {
			number, _ = decimal(number)
		}
		binary.BigEndian.PutUint16(id[14:], number)
	}
	return id
}

func lastGroup(addr netip.Addr) uint16 {
	b := addr.As16()
	return binary.BigEndian.Uint16(b[14:])
}

// decimal reads a group's hexadecimal digits as decimal ones.
func decimal(group uint16) (number uint16, ok bool) {
	n, err := strconv.ParseUint(strconv.FormatUint(uint64(group), 16), 10, 16)
	return uint16(n), err == nil //nolint:gosec // at most 9999
}

// parsePrefixLengths reads "V4LEN V6LEN".
func (s *stanza) parsePrefixLengths(args []string) error {
	if len(args) != 2 {
		return wrongCount(args, "two prefix lengths, for IPv4 and IPv6")
	}
	v4, err := parseNumber(args[0], 1, 32)
	if err != nil {
		return err
	}
	v6, err := parseNumber(args[1], 1, 128)
	s.sticky = prefixLengths{int(v4), int(v6)}
	return err
}
