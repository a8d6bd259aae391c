// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"
)

// What a replica that joins takes over: all endpoints of a check, their verdicts with their ages,
// and who says what about them.

// entry is what a state says about one endpoint.
type entry struct {
	at      netip.AddrPort
	flags   byte // flagDeparted, flagDepartedLong
	decided Opinion
	past    Past
	claims  []entryClaim
}

// entryClaim is what one replica says about the endpoint of an entry.
type entryClaim struct {
	peer    uint64 // index in the state's list of replicas
	wanted  bool
	opinion Opinion
}

// Flags of an entry: a replica that is gone wanted the endpoint.
const (
	flagDeparted     = 1 << 5
	flagDepartedLong = 1 << 6 // some time ago
)

// claimWanted is the bit of an entry's claim that says that the replica wants the endpoint. It is
// beyond those of an opinion's code.
const claimWanted = 1 << 7

// maxStateRest is how many bytes of a state are kept free for replicas and texts.
const maxStateRest = 1 << 20

// appendState appends what is known about the check, and returns how many endpoints have no room in
// so many bytes. Those that are not up come first, because the joiner would answer with them.
func (s *Share) appendState(to []byte, room int) (state []byte, omitted int) {
	to = binary.BigEndian.AppendUint64(to, uint64(s.check.ID))
	to = binary.AppendUvarint(to, uint64(max(s.departing-s.host.Now(), 0)/time.Second))
	to = s.appendPeers(to)
	var texts textTable
	var entries []byte
	for _, up := range []bool{false, true} {
		for n := range s.ballots {
			switch b := &s.ballots[n]; {
			case !b.known || (b.decided.Verdict == Up) != up:
			case len(entries) > room-maxStateRest:
				omitted++
			default:
				e := s.entry(uint32(n))
				at, has := texts.add(e.past.Text)
				entries = e.append(entries, at, has)
			}
		}
	}
	return append(texts.append(to), entries...), omitted
}

// appendPeers appends the replicas that have the check, in the order of Share.peers.
func (s *Share) appendPeers(to []byte) []byte {
	to = binary.AppendUvarint(to, uint64(len(s.peers)))
	for i := range s.peers {
		p := &s.peers[i]
		to = binary.BigEndian.AppendUint64(to, p.key)
		to = append(to, byte(toInt(p.doubts)*beatDoubts|toInt(p.has)*statePeerHas))
	}
	return to
}

const statePeerHas = 1 << 2 // a flag of a replica in a state: it has the check

// entry returns what is known about an endpoint.
func (s *Share) entry(n uint32) entry {
	b := &s.ballots[n]
	e := entry{at: s.host.At(n), decided: b.decided, past: s.host.Past(n)}
	e.flags = byte(toInt(s.departed[0].has(n))*flagDeparted | toInt(s.departed[1].has(n))*flagDepartedLong)
	for i := range s.peers {
		if len(e.claims) == maxVoters {
			break
		}
		o, wanted := b.of(uint16(i)), s.peers[i].wants.has(n)
		if wanted || o.code() != 0 {
			e.claims = append(e.claims, entryClaim{uint64(i), wanted, o})
		}
	}
	return e
}

func (e *entry) append(to []byte, text uint64, hasText bool) []byte {
	flags := e.flags
	if hasText {
		flags |= flagText
	}
	if memory := len(e.past.Memory); memory > 0 && memory <= MaxMemory {
		flags |= flagExtension
	}
	to = appendOpinion(appendEndpoint(to, e.at, flags), e.decided)
	to = binary.AppendUvarint(to, uint64(max(e.past.Age, 0)/time.Second))
	if hasText {
		to = binary.AppendUvarint(to, text)
	}
	to = binary.AppendUvarint(to, uint64(len(e.claims)))
	for _, c := range e.claims {
		to = c.append(to)
	}
	if flags&flagExtension != 0 {
		to = binary.AppendUvarint(to, uint64(len(e.past.Memory)))
		to = append(to, e.past.Memory...)
	}
	return to
}

func (c entryClaim) append(to []byte) []byte {
	code := c.opinion.code()
	if c.wanted {
		code |= claimWanted
	}
	to = append(binary.AppendUvarint(to, c.peer), code)
	if c.opinion.Load != NoLoad {
		to = append(to, c.opinion.Share)
	}
	return to
}

// entry reads an entry.
func (r *reader) entry(texts []string) (e entry) {
	at, flags := r.endpoint()
	e.at, e.flags, e.decided = at, flags&(flagDeparted|flagDepartedLong), r.opinion()
	e.past.Age = time.Duration(min(r.uvarint(), maxAge)) * time.Second
	if flags&flagText != 0 {
		if i := r.uvarint(); i < uint64(len(texts)) {
			e.past.Text = texts[i]
		}
	}
	claims := r.uvarint()
	r.bad = r.bad || claims > maxVoters
	for ; claims > 0 && !r.bad; claims-- {
		e.claims = append(e.claims, r.entryClaim())
	}
	if flags&flagExtension != 0 {
		memory := r.take(r.uvarint())
		e.past.Memory = memory[:min(len(memory), MaxMemory)]
	}
	return e
}

func (r *reader) entryClaim() entryClaim {
	c := entryClaim{peer: r.uvarint()}
	code, share := r.byte(), byte(0)
	if Load(code>>3&3) != NoLoad {
		share = r.byte()
	}
	c.wanted, c.opinion = code&claimWanted != 0, opinionOf(code, share)
	return c
}

const maxAge = 10 * 365 * 24 * 3600 // seconds

// readStates takes over the states of other replicas.
func (s *Share) readStates() {
	for len(s.states) > 0 {
		s.state, s.stateTill = <-s.states, s.host.Now()+stateFor
		s.mergeAgain()
		s.behind.Add(-1)
	}
}

// mergeAgain takes over the last state once more, if part of it was refused.
func (s *Share) mergeAgain() {
	if s.state != nil && s.merge(s.state) {
		s.state = nil
	}
}

// forgetState forgets a state that was refused in part.
func (s *Share) forgetState(now time.Duration) {
	if now >= s.stateTill {
		s.state = nil
	}
}

// stateFor is how long a state is kept of which a part was refused: because the carrier has not yet
// named all replicas in it, or not all rules that admit its endpoints are there.
const stateFor = 10 * time.Second

// merge takes over the state of another replica, and reports whether it took all of it.
func (s *Share) merge(state []byte) (all bool) {
	r := reader{rest: state}
	s.departing = s.host.Now() + min(time.Duration(min(r.uvarint(), maxAge))*time.Second, departedFor)
	peers, all := s.mergePeers(&r)
	texts := r.texts()
	for r.more() {
		if e := r.entry(texts); !r.bad && !s.mergeEntry(&e, peers) {
			all = false
		}
	}
	if r.bad {
		s.fleet.traffic.skipped.Add(1)
	}
	return all
}

// mergePeers returns the index here of each replica in a state, 0 for those that are not live here.
// It also reports whether all are.
func (s *Share) mergePeers(r *reader) (here []uint16, all bool) {
	n := r.uvarint()
	if n > maxPeers {
		r.bad = true
		return nil, true
	}
	all = true
	for range n {
		key, flags := r.uint64(), r.byte()
		i, has := s.byKey[key], flags&statePeerHas != 0
		if i > 0 && has && !s.peers[i].has {
			s.peers[i].has, s.peers[i].doubts = true, flags&beatDoubts != 0
		}
		here = append(here, i)
		all = all && (i > 0 || !has || key == s.self)
	}
	s.unranked = true
	return here, all
}

// mergeEntry takes over what a state says about an endpoint, and reports false if the endpoint is
// refused. What a replica said here itself is newer.
func (s *Share) mergeEntry(e *entry, peers []uint16) bool {
	n, known := s.host.Find(e.at)
	if !known {
		if e.flags == 0 && !slices.ContainsFunc(e.claims, func(c entryClaim) bool { return c.wanted }) {
			return true // nobody wants it
		}
		if n, known = s.host.Admit(e.at); !known {
			return false
		}
		s.enter(n, false, Opinion{})
		// Those that want it may not be known yet.
		s.departed[0].set(n, e.flags&flagDepartedLong == 0)
		s.departed[1].set(n, e.flags&flagDepartedLong != 0)
	}
	for _, c := range e.claims {
		if c.peer < uint64(len(peers)) {
			s.inherit(peers[c.peer], n, c)
		}
	}
	if b := &s.ballots[n]; e.decided.Verdict != None && b.decided.Verdict == None {
		b.decided = e.decided
		s.host.Decide(n, Decision{e.decided, e.past})
	}
	s.judge(n, e.past.Text)
	return true
}

// inherit takes over a claim of a replica that has not said anything about the endpoint here.
func (s *Share) inherit(i uint16, n uint32, c entryClaim) {
	if i != 0 && !s.peers[i].wants.has(n) && s.ballots[n].of(i) == (Opinion{}) {
		s.claim(i, n, c.wanted, c.opinion)
	}
}
