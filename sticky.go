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
//	host key     XXH64, seed 0, of the host number as 8 bytes, big endian: see hostNumber
//	member key   XXH64, seed 0, of the address as 16 bytes
//	u            (the 53 high bits of SplitMix64's output function of the keys' exclusive or + 0.5) / 2^53
//
// Members are dealt out by their host numbers, so that a client meets one host over IPv4 and IPv6.
// Those that share a number, which they can only in different networks, are dealt out as one, with
// their weights together, and then among themselves by their member keys.
type sticky struct{}

var (
	_ policy   = sticky{}
	_ schedule = &rendezvous{}
)

func (sticky) schedule(c contest) schedule {
	r := &rendezvous{weights: c.weights, keys: make([]uint64, len(c.members))}
	byNumber := make(map[uint64]int) // to the index of its host
	for i := range c.members {
		m := &c.members[i]
		r.keys[i] = m.key()
		number := m.hostNumber()
		at, ok := byNumber[number]
		if !ok {
			at = len(r.hosts)
			byNumber[number] = at
			r.hosts = append(r.hosts, host{key: hashNumber(number)})
		}
		r.hosts[at].members = append(r.hosts[at].members, uint16(i)) //nolint:gosec // at most maxRecords
		r.hosts[at].weight += float64(c.weights[i])
	}
	r.equal = !slices.ContainsFunc(r.hosts, func(h host) bool { return h.weight != r.hosts[0].weight })
	return r
}

func (sticky) resume(_, _ *group, turn uint64) uint64 { return turn }

// rendezvous is the schedule of sticky. Its turns are client keys.
type rendezvous struct {
	hosts   []host
	equal   bool     // all weigh the same
	keys    []uint64 // of the members
	weights []uint16
}

// host is the members that share a host number: almost always one.
type host struct {
	key     uint64
	weight  float64
	members []uint16
}

var scorePool = sync.Pool{New: func() any { return new([]uint64) }}

func (r *rendezvous) order(client uint64, idx []uint16) {
	pooled := scorePool.Get().(*[]uint64)
	defer scorePool.Put(pooled)
	scores := slices.Grow((*pooled)[:0], len(r.hosts))
	for i := range r.hosts {
		weight := r.hosts[i].weight
		if r.equal {
			weight = 0
		}
		scores = append(scores, score(client^r.hosts[i].key, weight, i))
	}
	slices.Sort(scores)
	filled := 0
	for _, s := range scores {
		if filled == len(idx) {
			break
		}
		filled += copy(idx[filled:], r.among(client, r.hosts[s&indexBits].members))
	}
	*pooled = scores
}

// among returns the members of a host in their order.
func (r *rendezvous) among(client uint64, members []uint16) []uint16 {
	if len(members) == 1 {
		return members
	}
	scores := make([]uint64, 0, len(members))
	for i, m := range members {
		scores = append(scores, score(client^r.keys[m], float64(r.weights[m]), i))
	}
	slices.Sort(scores)
	ordered := make([]uint16, len(members))
	for i, s := range scores {
		ordered[i] = members[s&indexBits]
	}
	return ordered
}

// indexBits are the bits of a score that hold the index of what it is the score of.
const indexBits = maxRecords

// score returns how much something with an index and a weight suits a client, given the hash of both: the
// lower, the better. It is a positive float's bits, which compare as the float does. Where all weights are
// equal a weight of 0 saves the logarithm and orders the same.
func score(hash uint64, weight float64, index int) uint64 {
	u := (float64(splitMix(hash)>>11) + 0.5) / (1 << 53)
	value := 1 - u
	if weight > 0 {
		value = -math.Log(u) / weight
	}
	return math.Float64bits(value)&^indexBits | uint64(index) //nolint:gosec // at most maxRecords
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

// key returns the member's key.
func (m *member) key() uint64 {
	if m.host != "" {
		return xxhash.Sum64String(strings.ToLower(m.host)) ^ bits.RotateLeft64(uint64(m.port), 32)
	}
	addr := m.addr.As16()
	return xxhash.Sum64(addr[:])
}

// hostNumber returns the number of a member's host: the last octet of an IPv4 address; the last group
// of an IPv6 address, read as people number hosts, with decimal digits, so that 2001:db8::10 is the
// host of 192.0.2.10. A group with a letter is a number of its own, above all those. Members that are
// names have their keys.
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
