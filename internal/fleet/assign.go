// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/seed-f1518d44/balance/internal/schedule"
)

// Who probes an endpoint. All replicas that know the same candidates come to the same result,
// without a message between them.

// candidate is a replica that can probe.
type candidate struct {
	key      uint64 // a hash of its name
	locality uint16 // a number for its locality
	peer     uint16 // index in Share.peers
}

// ranking orders candidates by rendezvous hashing (Thaler, Ravishankar 1998): a replica that leaves
// hands its endpoints to others and moves nothing else. The best of each locality come first, and
// then the others. Not safe for concurrent use, because it keeps its buffers.
type ranking struct {
	candidates []candidate
	bestOf     []scored // by locality; a zero score is none
	top        []scored // the best of all, the best one first
}

// scored is a candidate with its score for an endpoint.
type scored struct {
	score uint64
	index int // in ranking.candidates
}

// set replaces the candidates. Their localities are numbered from 0 to below localities.
func (r *ranking) set(candidates []candidate, localities int) {
	r.candidates = candidates
	r.bestOf = make([]scored, localities)
}

// first appends the peers of the n best candidates for an endpoint to a slice, the best one first.
func (r *ranking) first(endpoint uint64, n int, to []uint16) []uint16 {
	clear(r.bestOf)
	r.top = r.top[:0]
	for i := range r.candidates {
		c := &r.candidates[i]
		one := scored{scoreOf(endpoint, c.key), i}
		if best := &r.bestOf[c.locality]; one.score > best.score {
			*best = one
		}
		r.top = insert(r.top, one, n)
	}
	to = r.appendLeaders(n, to)
	for _, one := range r.top {
		if peer := r.candidates[one.index].peer; len(to) < n && !slices.Contains(to, peer) {
			to = append(to, peer)
		}
	}
	return to
}

// appendLeaders appends the best candidates of the n best localities.
func (r *ranking) appendLeaders(n int, to []uint16) []uint16 {
	for len(to) < n {
		best := 0
		for place := range r.bestOf {
			if r.bestOf[place].score > r.bestOf[best].score {
				best = place
			}
		}
		if r.bestOf[best].score == 0 {
			break
		}
		to = append(to, r.candidates[r.bestOf[best].index].peer)
		r.bestOf[best] = scored{}
	}
	return to
}

// insert inserts a candidate into a list of at most n, the best one first.
func insert(top []scored, one scored, n int) []scored {
	if len(top) == n {
		if one.score <= top[n-1].score {
			return top
		}
		top = top[:n-1]
	}
	at := len(top)
	for at > 0 && top[at-1].score < one.score {
		at--
	}
	return slices.Insert(top, at, one)
}

// scoreOf returns how good a replica is for an endpoint: a hash of both, never 0.
func scoreOf(endpoint, replica uint64) uint64 { return schedule.Mix(endpoint^replica) | 1 }

// hashOf returns the hash of an endpoint. It is the same in every replica and release.
func hashOf(at netip.AddrPort) uint64 {
	addr := at.Addr().As16()
	high, low := binary.BigEndian.Uint64(addr[:8]), binary.BigEndian.Uint64(addr[8:])
	return schedule.Mix(schedule.Mix(high+schedule.MixStep)^low) + uint64(at.Port())*schedule.MixStep
}

// keyOf returns the number that stands for a replica's name in messages: its FNV-1a hash, mixed.
func keyOf(name string) uint64 {
	const offset, prime = 0xcbf29ce484222325, 0x100000001b3
	h := uint64(offset)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * prime
	}
	return schedule.Mix(h)
}
