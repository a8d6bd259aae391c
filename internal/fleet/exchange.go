// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"encoding/binary"
	"math/rand/v2"
	"time"
)

// What a share says and hears. A replica sends a claim once, to everyone, when it changes. With
// each heartbeat it sends the sum of the digests of all its claims. A peer that holds claims with
// another sum replies with a sum for each bucket of endpoints, and gets the claims of the buckets
// that differ. That also repairs claims that overtook each other.

// incoming is a message of another replica about the check of a share.
type incoming struct {
	sender   uint64
	sections []byte
}

// Work does what is due, and returns when to call it again at the latest. The host calls it after
// Wake, and after it has called the share's other methods.
func (s *Share) Work() (next time.Duration) {
	now := s.host.Now()
	if v := s.latest.Load(); v != s.view {
		s.adjust(v)
	}
	s.readStates()
	s.readInbox()
	s.reconsider(now)
	if s.unranked {
		s.rank()
	}
	if now >= s.tickAt {
		s.tickAt = now + tick
		s.eachSecond(now)
	}
	s.sweepSome()
	s.flushIfDue(now)
	if now >= s.beatAt {
		s.sendBeat()
	}
	return s.nextWork(now)
}

// nextWork returns when Work has to be called again.
func (s *Share) nextWork(now time.Duration) time.Duration {
	next := min(s.beatAt, s.tickAt)
	if s.reconsiders {
		next = min(next, s.reconsiderAt)
	}
	switch {
	case s.isSweeping() || len(s.inbox) > 0 || len(s.states) > 0:
		return now
	case s.urgent:
		return min(next, s.flushed+flushPause)
	}
	return next
}

func (s *Share) readInbox() {
	for range maxRead {
		select {
		case m := <-s.inbox:
			s.read(m)
		default:
			return
		}
	}
}

// eachSecond does what is due once a second.
func (s *Share) eachSecond(now time.Duration) {
	changed := s.reflect(now)
	s.rank() // a peer may have fallen silent
	s.logDisputes(now)
	if changed {
		s.logDoubt()
		s.sendBeat()
	}
	if now >= s.departing {
		s.departed, s.departing = [2]bitset{nil, s.departed[0]}, now+departedFor
	}
	s.forgetState(now)
	for n := range s.bare {
		if s.isBare(n) {
			s.judge(n, "")
		}
	}
	for n := range s.disputes {
		if s.staysShort(n) {
			s.judge(n, "")
		}
	}
	s.askAgain(now)
}

// adjust takes over a new view of the fleet.
func (s *Share) adjust(v *view) {
	before := s.view
	s.view = v
	if before != nil && (before.probers != v.probers || before.quorum != v.quorum) {
		s.sweep = 0
	}
	for i := range s.peers[1:] {
		s.peers[1+i].live = false
	}
	for _, m := range v.members {
		s.meet(m)
	}
	for i := range s.peers[1:] {
		if p := &s.peers[1+i]; !p.live && p.key != 0 {
			s.part(uint16(1 + i))
		}
	}
	s.rank()
	s.mergeAgain()
}

// meet notes that a replica is live. A new one gets a heartbeat at once.
func (s *Share) meet(m Replica) {
	key := keyOf(m.Name)
	i, known := s.byKey[key]
	if !known {
		if i = s.seat(); i == 0 {
			return
		}
		s.byKey[key] = i
		s.peers[i] = peer{key: key, name: m.Name, heard: s.host.Now(), comparing: comparison{asked: -tick, answered: -tick}}
		s.tell(i, s.appendBeat(nil))
	}
	s.peers[i].live, s.peers[i].locality = true, m.Locality
}

// seat returns the index of a free peer, 0 if there is none.
func (s *Share) seat() uint16 {
	for i := range s.peers[1:] {
		if s.peers[1+i].key == 0 {
			return uint16(1 + i)
		}
	}
	if len(s.peers) >= maxPeers {
		return 0
	}
	s.peers = append(s.peers, peer{})
	return uint16(len(s.peers) - 1)
}

// part forgets a replica that is gone, and its votes. What it wanted is kept for a while, because
// its clients will ask other replicas.
func (s *Share) part(i uint16) {
	p := &s.peers[i]
	for n := range p.wants.all() {
		s.departed[0].set(n, true)
	}
	s.empty(i)
	delete(s.byKey, p.key)
	*p = peer{}
}

// empty takes back all that a peer said.
func (s *Share) empty(i uint16) {
	for n := 0; n < len(s.ballots) && s.peers[i].claims > 0; n++ {
		s.claim(i, uint32(n), false, Opinion{})
	}
	s.sweep = 0
}

// departedFor is how long an endpoint is kept, at least, if only a replica that is gone wanted it.
// It may be twice as long.
const departedFor = 10 * time.Minute

// read takes what another replica said.
func (s *Share) read(m incoming) {
	i := s.byKey[m.sender]
	if i == 0 {
		s.fleet.traffic.skipped.Add(1)
		return
	}
	all, bucket := reader{rest: m.sections}, new(bucketClaims)
	for {
		k, content, ok := all.section()
		if !ok {
			break
		}
		s.takeSection(i, k, &content, bucket)
		all.bad = all.bad || content.bad
	}
	if all.bad {
		s.fleet.traffic.skipped.Add(1)
	}
	s.finish(i, bucket)
}

// takeSection takes one section of a peer's message.
func (s *Share) takeSection(i uint16, k kind, r *reader, bucket *bucketClaims) {
	switch k {
	case kindClaims:
		r.claims(func(c claim) { s.hear(i, c) })
	case kindBeat:
		s.hearBeat(i, r)
	case kindCompare:
		s.answer(i, r)
	case kindBucket:
		s.hearBucket(i, r, bucket)
	case kindEnd:
		s.hearEnd(i, r)
	case kindContested:
		s.hearContested(i, r)
	case kindBye:
		s.peers[i].has = false
		s.empty(i)
		s.unranked = true
	default:
		s.fleet.traffic.skipped.Add(1)
	}
}

// hear takes a claim of a peer, and reports false if it refuses it. Only an endpoint that the peer
// wants is admitted: otherwise votes of replicas that forget it at different times would keep it
// alive.
func (s *Share) hear(i uint16, c claim) (n uint32, taken bool) {
	n, known := s.host.Find(c.at)
	if !known && c.wanted {
		if n, known = s.host.Admit(c.at); known {
			s.Add(n, false, Opinion{})
		}
	}
	if !known {
		return 0, false
	}
	before := s.ballots[n].of(i)
	taken = s.claim(i, n, c.wanted, c.opinion)
	if before != c.opinion {
		s.judge(n, c.text)
	}
	return n, taken
}

// Heartbeats.

const (
	beatDoubts = 1 << 0
	beatAlone  = 1 << 1
)

// beat is the time between two heartbeats. Large fleets send fewer.
func (s *Share) beat() time.Duration {
	const least, most, few = time.Second, 10 * time.Second, 32
	return min(max(s.check.Interval, least), most) * time.Duration((len(s.view.members)+few-1)/few)
}

// sendBeat sends a heartbeat to everyone.
func (s *Share) sendBeat() {
	s.flush()
	beat := s.beat()
	s.beatAt = s.host.Now() + beat - beat/20 + rand.N(beat/10) //nolint:gosec // no secret
	s.tellAll(s.appendBeat(nil))
}

func (s *Share) appendBeat(to []byte) []byte {
	to = appendSection(to, kindBeat, func(to []byte) []byte {
		to = append(to, byte(toInt(s.doubting.now)*beatDoubts|toInt(s.view.alone)*beatAlone))
		to = binary.BigEndian.AppendUint64(to, s.peers[0].sum)
		to = binary.AppendUvarint(to, uint64(s.peers[0].claims))
		return appendText(to, s.check.Name, maxName)
	})
	if ties := s.ties(); len(ties) > 0 {
		to = appendSection(to, kindContested, func(to []byte) []byte { return appendClaims(to, ties) })
	}
	return to
}

// hearBeat takes a peer's heartbeat.
func (s *Share) hearBeat(i uint16, r *reader) {
	flags, sum, _ := r.byte(), r.uint64(), r.uvarint()
	if r.bad {
		return
	}
	p := &s.peers[i]
	before := *p
	p.heard, p.has = s.host.Now(), true
	p.doubts, p.alone = flags&beatDoubts != 0, flags&beatAlone != 0
	s.unranked = s.unranked || !before.has || before.doubts != p.doubts
	switch {
	case sum == p.sum+p.refused.sum:
		p.comparing.waits = false
	case (!p.comparing.waits || p.comparing.again == mostAgain) && p.heard-p.comparing.asked >= tick:
		s.compare(i)
	}
}

// ties returns the verdicts that the others are to go by: those on endpoints without a quorum, if
// this replica is the first of the assigned ones that has voted.
func (s *Share) ties() (all []claim) {
	const most = 48 // they fit into a datagram beside a heartbeat
	for n, d := range s.disputes {
		if len(all) == most {
			break
		}
		if b := &s.ballots[n]; d.tied && s.leads(n, 0) {
			all = append(all, claim{at: s.host.At(n), opinion: Opinion{Verdict: b.decided.Verdict}})
		}
	}
	return all
}

// hearContested takes the verdicts that a peer goes by while votes are tied.
func (s *Share) hearContested(i uint16, r *reader) {
	r.claims(func(c claim) {
		if n, known := s.host.Find(c.at); known && s.disputes[n].tied && c.opinion.Verdict != None && s.leads(n, i) {
			s.collect(&s.ballots[n], s.assignedTo(n))
			s.settle(n, c.opinion.Verdict, "")
		}
	})
}

// leads reports whether a peer is the first of the assigned replicas that has voted.
func (s *Share) leads(n uint32, i uint16) bool {
	for _, one := range s.assignedTo(n) {
		if s.ballots[n].of(one).Verdict != None {
			return one == i
		}
	}
	return false
}

// assignedTo returns the replicas that are assigned to an endpoint.
func (s *Share) assignedTo(n uint32) []uint16 {
	s.order = s.ranking.first(hashOf(s.host.At(n)), s.view.probers, s.order[:0])
	return s.order
}

// Changes.

// flushIfDue sends what changed. The first change is sent at once; changes soon after it are sent
// together.
func (s *Share) flushIfDue(now time.Duration) {
	if s.urgent && now >= s.flushed+flushPause {
		s.flush()
	}
}

// flush sends all that changed to everyone.
func (s *Share) flush() {
	claims := s.dropped
	for _, n := range s.changed {
		if b := &s.ballots[n]; b.known && b.changed {
			b.changed = false
			claims = append(claims, claim{s.host.At(n), s.peers[0].wants.has(n), b.of(0), s.texts[n]})
		}
	}
	s.changed, s.dropped, s.urgent = s.changed[:0], nil, false
	clear(s.texts)
	if len(claims) == 0 || len(s.byKey) < 2 {
		return
	}
	s.flushed = s.host.Now()
	for some := range parts(claims, MaxDatagram-headerSize-20) {
		s.tellAll(appendSection(nil, kindClaims, func(to []byte) []byte { return appendClaims(to, some) }))
	}
}

// parts divides claims so that each part fits into so many bytes.
func parts(claims []claim, limit int) func(yield func([]claim) bool) {
	return func(yield func([]claim) bool) {
		size, start := 0, 0
		for i := range claims {
			more := 24 + min(len(claims[i].text), maxText)
			if size+more > limit {
				if !yield(claims[start:i]) {
					return
				}
				size, start = 0, i
			}
			size += more
		}
		if start < len(claims) {
			yield(claims[start:])
		}
	}
}

func (s *Share) header() []byte {
	return header{s.view.version, s.self, s.check.ID}.bytes()
}

func (s *Share) tellAll(sections []byte) {
	if len(s.byKey) > 1 && !s.view.retired {
		s.fleet.sendAll(append(s.header(), sections...))
	}
}

func (s *Share) tell(i uint16, sections []byte) {
	if !s.view.retired {
		s.fleet.send(s.peers[i].name, append(s.header(), sections...))
	}
}

// leave says that this replica does not have the check any more.
func (s *Share) leave() { s.tellAll(appendSection(nil, kindBye, func(to []byte) []byte { return to })) }
