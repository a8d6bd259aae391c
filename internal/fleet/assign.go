// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"encoding/binary"
	"net/netip"

	"github.com/seed-f1518d44/balance/internal/schedule"
)

// Who probes an endpoint. All replicas that know the same candidates come to the same result,
// without a word between them.

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
	scores     []uint64
	taken      []bool // by candidate
	visited    []bool // by locality
}

// set replaces the candidates. Their localities are numbered from 0 to below localities.
func (r *ranking) set(candidates []candidate, localities int) {
	r.candidates = candidates
	r.scores = make([]uint64, len(candidates))
	r.taken = make([]bool, len(candidates))
	r.visited = make([]bool, localities)
}

// first appends the peers of the n best candidates for an endpoint to a slice, the best one first.
func (r *ranking) first(endpoint uint64, n int, to []uint16) []uint16 {
	for i := range r.candidates {
		r.scores[i] = scoreOf(endpoint, r.candidates[i].key)
	}
	clear(r.taken)
	clear(r.visited)
	n = min(n, len(r.candidates))
	for len(to) < n {
		best := r.best(func(c *candidate) bool { return !r.visited[c.locality] })
		if best < 0 {
			break
		}
		to = append(to, r.take(best))
	}
	for len(to) < n {
		to = append(to, r.take(r.best(func(*candidate) bool { return true })))
	}
	return to
}

// best returns the best candidate that is not taken and fits, -1 if there is none.
func (r *ranking) best(fits func(*candidate) bool) int {
	best := -1
	for i := range r.candidates {
		if !r.taken[i] && (best < 0 || r.scores[i] > r.scores[best]) && fits(&r.candidates[i]) {
			best = i
		}
	}
	return best
}

func (r *ranking) take(i int) uint16 {
	r.taken[i] = true
	r.visited[r.candidates[i].locality] = true
	return r.candidates[i].peer
}

// scoreOf returns how good a replica is for an endpoint.
func scoreOf(endpoint, replica uint64) uint64 { return schedule.Mix(endpoint ^ replica) }

// hashOf returns the hash of an endpoint. It is the same in every replica and release.
func hashOf(at netip.AddrPort) uint64 {
	addr := at.Addr().As16()
	high, low := binary.BigEndian.Uint64(addr[:8]), binary.BigEndian.Uint64(addr[8:])
	return schedule.Mix(schedule.Mix(high+schedule.MixStep)^low) + uint64(at.Port())*schedule.MixStep
}

// KeyOf returns the number that stands for a replica's name in messages: its FNV-1a hash, mixed.
func keyOf(name string) uint64 {
	const offset, prime = 0xcbf29ce484222325, 0x100000001b3
	h := uint64(offset)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * prime
	}
	return schedule.Mix(h)
}
