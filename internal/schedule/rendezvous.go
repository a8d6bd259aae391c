// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"math"
	"slices"
	"sync"
)

// rendezvous gives a client the same order every time, and clients to items in proportion to the
// weights. It is weighted rendezvous hashing (Thaler, Ravishankar: Using name-based mappings to
// increase hit rates, IEEE/ACM Transactions on Networking 6, 1998; weights after Schindelhauer,
// Schomaker: Weighted distributed hash tables, SPAA 2005). Items are in the descending order of
// weight / -ln(u), where u is a number between 0 and 1 hashed from the client and the item:
//
//	u = (the 53 high bits of Mix(client XOR key) + 0.5) / 2^53
//
// So an item that goes leaves its own clients to the others and moves nobody else. They are back
// when it returns.
type rendezvous struct {
	hosts   []host
	equal   bool     // all hosts have the same weight
	keys    []uint64 // of the items
	weights []uint16 // of the items
}

// host is the items that have a host key in common, almost always one.
type host struct {
	key    uint64
	weight float64
	items  []uint16
}

// Rendezvous returns the schedule of weighted rendezvous hashing. Its turns are the keys of
// clients. Items with the same host key are ordered as one, with the sum of their weights, and
// among themselves by their own keys. Keys have to be evenly distributed hashes.
func Rendezvous(weights []uint16, hosts, keys []uint64) Schedule {
	r := &rendezvous{weights: weights, keys: keys}
	index := make(map[uint64]int) // of the host with a key
	for i, key := range hosts {
		at, ok := index[key]
		if !ok {
			at = len(r.hosts)
			index[key] = at
			r.hosts = append(r.hosts, host{key: key})
		}
		r.hosts[at].items = append(r.hosts[at].items, uint16(i))
		r.hosts[at].weight += float64(weights[i])
	}
	r.equal = !slices.ContainsFunc(r.hosts, func(h host) bool { return h.weight != r.hosts[0].weight })
	return r
}

// Resume continues with the same turns: a client keeps its key.
func (r *rendezvous) Resume(_ Schedule, turn uint64, _ Find) uint64 { return turn }

var scorePool = sync.Pool{New: func() any { return new([]uint64) }}

func (r *rendezvous) Order(client uint64, order []uint16) {
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
		if filled == len(order) {
			break
		}
		filled += copy(order[filled:], r.among(client, r.hosts[s&indexBits].items))
	}
	*pooled = scores
}

// among returns the items of a host in their order.
func (r *rendezvous) among(client uint64, items []uint16) []uint16 {
	if len(items) == 1 {
		return items
	}
	scores := make([]uint64, 0, len(items))
	for i, item := range items {
		scores = append(scores, score(client^r.keys[item], float64(r.weights[item]), i))
	}
	slices.Sort(scores)
	ordered := make([]uint16, len(items))
	for i, s := range scores {
		ordered[i] = items[s&indexBits]
	}
	return ordered
}

// indexBits are the bits of a score that hold an index.
const indexBits = MaxItems

// score returns -ln(u) / weight, the lower the better, as the bits of a positive float, which
// compare as the float does. Its lowest bits hold the index, so that scores can be sorted alone. A
// weight of 0 stands for equal weights: it saves the logarithm and gives the same order.
func score(hash uint64, weight float64, index int) uint64 {
	u := (float64(Mix(hash)>>11) + 0.5) / (1 << 53)
	value := 1 - u
	if weight > 0 {
		value = -math.Log(u) / weight
	}
	return math.Float64bits(value)&^indexBits | uint64(index)
}
