// SPDX-License-Identifier: Apache-2.0

package fleet

import "encoding/binary"

// Comparing digests.

const (
	fewBits, manyBits = 7, 10 // of buckets; the sums of the few fit into a datagram
	manyClaims        = 1 << 13
	maxAnswer         = 16 // messages in an answer; the next heartbeat asks for the rest
	mostAgain         = 3  // times that a replica asks again before the next heartbeat
)

// compare asks a peer for the claims that this replica does not hold.
func (s *Share) compare(i uint16) {
	p := &s.peers[i]
	p.compared = compared{asked: s.host.Now(), answered: p.answered, waits: true}
	bits := uint8(fewBits)
	if p.claims >= manyClaims {
		bits = manyBits
	}
	sums := s.sums(i, bits)
	s.tell(i, appendSection(nil, kindCompare, func(to []byte) []byte {
		to = binary.BigEndian.AppendUint64(to, p.key)
		to = append(to, bits)
		for _, sum := range sums {
			to = binary.BigEndian.AppendUint64(to, sum)
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
	if r.bad || key != s.self || bits > manyBits || len(r.rest) != 8<<bits || p.answered > 0 && now-p.answered < tick/2 {
		return
	}
	p.answered = now
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
	s.tell(i, s.appendEnd(message, sent+1))
}

func (s *Share) appendEnd(to []byte, messages int) []byte {
	return appendSection(to, kindEnd, func(to []byte) []byte {
		to = binary.AppendUvarint(to, uint64(messages))
		return binary.BigEndian.AppendUint64(to, s.peers[0].sum)
	})
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
		s.peers[i].received++
	}
	all.bits = bits
	r.claims(func(c claim) {
		if n, known := s.hear(i, c); known {
			all.named[n] = true
		}
	})
	if !r.bad {
		all.buckets[uint32(bucket)] = true
	}
}

// finish takes back those claims of a peer in the buckets of a message that the message does not
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

// hearEnd takes the end of a peer's answer. If all of it came, only claims that this replica
// refused are still missing.
func (s *Share) hearEnd(i uint16, r *reader) {
	messages, sum := r.uvarint(), r.uint64()
	p := &s.peers[i]
	if r.bad || uint64(p.received) < messages {
		return
	}
	p.waits, p.offset = false, 0
	if p.refused > 0 {
		p.offset = sum - p.sum
	}
}
