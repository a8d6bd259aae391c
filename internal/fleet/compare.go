// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"encoding/binary"
	"time"
)

// Comparing digests.

const (
	fewBits, manyBits = 7, 10 // of buckets; the sums of the few fit into a datagram
	manyClaims        = 1 << 13
	maxAnswer         = 16 // messages in an answer; the next heartbeat asks for the rest
	mostAgain         = 3  // times that a replica asks again before the next heartbeat
)

// comparison is the state of comparing digests with a peer.
type comparison struct {
	asked    time.Duration // when this replica last asked the peer
	answered time.Duration // when it last answered the peer
	waits    bool          // it waits for the end of the peer's answer
	again    int           // how often it asked again, because a message was lost
	received int           // messages of the peer's answer
}

// refusals are the digests of those claims of a peer that this replica refused, as the peer last
// told them. The peer's sums include them. The zero value holds none.
type refusals struct {
	bits     uint8 // of buckets
	byBucket []uint64
	sum      uint64 // of all buckets
}

// of returns the sum of a bucket.
func (r *refusals) of(bucket uint32) uint64 {
	if r.byBucket == nil {
		return 0
	}
	return r.byBucket[bucket]
}

// set replaces the sum of a bucket.
func (r *refusals) set(bits uint8, bucket uint32, sum uint64) {
	if r.bits != bits || r.byBucket == nil {
		if sum == 0 && r.byBucket == nil {
			return
		}
		*r = refusals{bits: bits, byBucket: make([]uint64, 1<<bits)}
	}
	r.sum += sum - r.byBucket[bucket]
	r.byBucket[bucket] = sum
}

// forget forgets what was refused in the bucket of an endpoint, so that the peer is asked again.
func (r *refusals) forget(endpoint uint64) {
	if r.byBucket != nil {
		r.set(r.bits, bucketOf(endpoint, r.bits), 0)
	}
}

// Reconsider has Work ask for what was refused. The host calls it when it admits more endpoints than
// before.
func (s *Share) Reconsider() { s.reconsiders = true }

// reconsider does that, once a second at most: at a start very many rules subscribe.
func (s *Share) reconsider(now time.Duration) {
	if !s.reconsiders || now < s.reconsiderAt {
		return
	}
	s.reconsiders, s.reconsiderAt = false, now+tick
	s.mergeAgain()
	for i := range s.peers[1:] {
		if p := &s.peers[1+i]; p.refused.sum != 0 || p.comparing.waits {
			p.refused = refusals{}
			s.compare(uint16(1 + i))
		}
	}
}

// askAgain repeats the questions that peers have not answered in time.
func (s *Share) askAgain(now time.Duration) {
	for i := range s.peers[1:] {
		if p := &s.peers[1+i]; p.comparing.waits && p.comparing.again < mostAgain && now-p.comparing.asked >= tick {
			again := p.comparing.again + 1
			s.compare(uint16(1 + i))
			p.comparing.again = again
		}
	}
}

// compare asks a peer for its claims that this replica has neither taken nor refused.
func (s *Share) compare(i uint16) {
	p := &s.peers[i]
	p.comparing = comparison{asked: s.host.Now(), answered: p.comparing.answered, waits: true}
	bits := uint8(fewBits)
	if p.claims >= manyClaims {
		bits = manyBits
	}
	if p.refused.bits != bits {
		p.refused = refusals{}
	}
	sums := s.sums(i, bits)
	s.tell(i, appendSection(nil, kindCompare, func(to []byte) []byte {
		to = binary.BigEndian.AppendUint64(to, p.key)
		to = append(to, bits)
		for bucket, sum := range sums {
			to = binary.BigEndian.AppendUint64(to, sum+p.refused.of(uint32(bucket)))
		}
		return to
	}))
}

// sums returns the sum of the digests of a peer's claims in each bucket.
func (s *Share) sums(i uint16, bits uint8) []uint64 {
	sums := make([]uint64, 1<<bits)
	for n := range s.ballots {
		if !s.ballots[n].known {
			continue
		}
		if wanted, o := s.peers[i].wants.has(uint32(n)), s.ballots[n].of(i); wanted || o.code() != 0 {
			hash := hashOf(s.host.At(uint32(n)))
			sums[bucketOf(hash, bits)] += digest(hash, wanted, o)
		}
	}
	return sums
}

// answer answers a peer's question for this replica's claims, at most twice a second.
func (s *Share) answer(i uint16, r *reader) {
	key, bits := r.uint64(), r.byte()
	p, now := &s.peers[i], s.host.Now()
	if r.bad || key != s.self || bits > manyBits || len(r.rest) != 8<<bits || now-p.comparing.answered < tick/2 {
		return
	}
	p.comparing.answered = now
	s.flush()
	differs := make([]bool, 1<<bits)
	for b, sum := range s.sums(0, bits) {
		differs[b] = sum != r.uint64()
	}
	s.sendBuckets(i, bits, s.inBuckets(bits, differs))
}

// inBuckets returns this replica's claims in some buckets.
func (s *Share) inBuckets(bits uint8, some []bool) [][]claim {
	claims := make([][]claim, len(some))
	for n := range s.ballots {
		if !s.ballots[n].known {
			continue
		}
		at := s.host.At(uint32(n))
		b := bucketOf(hashOf(at), bits)
		wanted, o := s.peers[0].wants.has(uint32(n)), s.ballots[n].of(0)
		if some[b] && (wanted || o.code() != 0) {
			claims[b] = append(claims[b], claim{at: at, wanted: wanted, opinion: o})
		}
	}
	for b, differs := range some {
		if differs && claims[b] == nil {
			claims[b] = []claim{}
		}
	}
	return claims
}

// sendBuckets sends a peer all of this replica's claims in the buckets that are not nil.
func (s *Share) sendBuckets(i uint16, bits uint8, buckets [][]claim) {
	var message []byte
	sent := 0
	for b, claims := range buckets {
		if claims == nil {
			continue
		}
		section := appendSection(nil, kindBucket, func(to []byte) []byte {
			to = binary.AppendUvarint(append(to, bits), uint64(b))
			return appendClaims(to, claims)
		})
		if len(message) > 0 && len(message)+len(section) > MaxMessage-headerSize-64 {
			s.tell(i, message)
			message, sent = nil, sent+1
		}
		if sent == maxAnswer {
			return
		}
		message = append(message, section...)
	}
	sent += toInt(len(message) > 0)
	s.tell(i, appendSection(message, kindEnd, func(to []byte) []byte { return binary.AppendUvarint(to, uint64(sent)) }))
}

// bucketClaims are the buckets in a message, and the endpoints that it names.
type bucketClaims struct {
	bits    uint8
	buckets map[uint32]bool
	named   map[uint32]bool
}

// hearBucket takes a section with all of a peer's claims in a bucket.
func (s *Share) hearBucket(i uint16, r *reader, all *bucketClaims) {
	bits, bucket := r.byte(), r.uvarint()
	if r.bad || bits > manyBits || bucket >= 1<<bits || all.buckets != nil && bits != all.bits {
		r.bad = true
		return
	}
	if all.buckets == nil {
		all.buckets, all.named = make(map[uint32]bool), make(map[uint32]bool)
		s.peers[i].comparing.received++
	}
	all.bits = bits
	refused := uint64(0)
	r.claims(func(c claim) {
		if n, taken := s.hear(i, c); taken {
			all.named[n] = true
		} else {
			refused += digest(hashOf(c.at), c.wanted, c.opinion)
		}
	})
	if !r.bad {
		all.buckets[uint32(bucket)] = true
		s.peers[i].refused.set(bits, uint32(bucket), refused)
	}
}

// finish takes back claims of a peer that a message with all its claims in some buckets does not
// name.
func (s *Share) finish(i uint16, all *bucketClaims) {
	if len(all.buckets) == 0 {
		return
	}
	for n := range s.ballots {
		if !s.ballots[n].known || all.named[uint32(n)] {
			continue
		}
		if o := s.ballots[n].of(i); o.code() == 0 && !s.peers[i].wants.has(uint32(n)) {
			continue
		}
		if all.buckets[bucketOf(hashOf(s.host.At(uint32(n))), all.bits)] {
			s.claim(i, uint32(n), false, Opinion{})
			s.judge(uint32(n), "")
		}
	}
}

// hearEnd takes the end of a peer's answer, with the number of messages before it.
func (s *Share) hearEnd(i uint16, r *reader) {
	messages := r.uvarint()
	if p := &s.peers[i]; !r.bad && uint64(p.comparing.received) >= messages {
		p.comparing.waits = false
	}
}
