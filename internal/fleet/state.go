// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// What a replica that joins takes over: all endpoints of a check, their verdicts with their ages,
// and who says what about them.

// known is what a state says about one endpoint.
type known struct {
	at     netip.AddrPort
	flags  byte // flagDeparted, flagDepartedLong
	said   Opinion
	past   Past
	claims []said
}

// said is what one replica says about an endpoint, in a state.
type said struct {
	peer    uint64 // index in the state's list of replicas
	wanted  bool
	opinion Opinion
}

// Flags of an endpoint in a state: a replica that is gone wanted it.
const (
	flagDeparted     = 1 << 5
	flagDepartedLong = 1 << 6 // some time ago
)

// saidWanted is the bit of a claim in a state that says that the replica wants the endpoint. It is
// beyond those of an opinion's code.
const saidWanted = 1 << 7

// appendState appends all that is known about the check.
func (s *Share) appendState(to []byte, limit int) []byte {
	to = binary.BigEndian.AppendUint64(to, uint64(s.check.ID))
	to = binary.AppendUvarint(to, uint64(max(s.departing-s.host.Now(), 0)/time.Second))
	to = s.appendPeers(to)
	var texts []string
	index := make(map[string]uint64)
	var endpoints []byte
	for n := range s.ballots {
		if !s.ballots[n].known {
			continue
		}
		k := s.known(uint32(n))
		if _, has := index[k.past.Text]; !has && k.past.Text != "" && len(texts) < maxTexts {
			index[k.past.Text] = uint64(len(texts))
			texts = append(texts, k.past.Text)
		}
		at, has := index[k.past.Text]
		if endpoints = k.append(endpoints, at, has); len(endpoints) > limit {
			break
		}
	}
	to = binary.AppendUvarint(to, uint64(len(texts)))
	for _, text := range texts {
		to = appendText(to, text, maxText)
	}
	return append(to, endpoints...)
}

// appendPeers appends the replicas that have the check, in the order of Share.peers.
func (s *Share) appendPeers(to []byte) []byte {
	to = binary.AppendUvarint(to, uint64(len(s.peers)))
	for i := range s.peers {
		p := &s.peers[i]
		to = binary.BigEndian.AppendUint64(to, p.key)
		to = append(to, byte(one(p.doubts)*beatDoubts|one(p.has)*statePeerHas))
	}
	return to
}

const statePeerHas = 1 << 2 // a flag of a replica in a state: it has the check

// known returns what is known about an endpoint.
func (s *Share) known(n uint32) known {
	b := &s.ballots[n]
	k := known{at: s.host.At(n), said: b.said}
	k.flags = byte(one(s.departed[0].has(n))*flagDeparted | one(s.departed[1].has(n))*flagDepartedLong)
	k.said.Verdict = b.decided
	k.past = s.host.Past(n)
	for i := range s.peers {
		if len(k.claims) == maxVoters {
			break
		}
		o, wanted := b.of(uint16(i)), s.peers[i].wants.has(n)
		if wanted || o.code() != 0 {
			k.claims = append(k.claims, said{uint64(i), wanted, o})
		}
	}
	return k
}

func (k *known) append(to []byte, text uint64, hasText bool) []byte {
	flags := k.flags
	if hasText {
		flags |= flagText
	}
	if memory := len(k.past.Memory); memory > 0 && memory <= MaxMemory {
		flags |= flagExtension
	}
	to = appendOpinion(appendEndpoint(to, k.at, flags), k.said)
	to = binary.AppendUvarint(to, uint64(max(k.past.Age, 0)/time.Second))
	if hasText {
		to = binary.AppendUvarint(to, text)
	}
	to = binary.AppendUvarint(to, uint64(len(k.claims)))
	for _, c := range k.claims {
		to = binary.AppendUvarint(to, c.peer)
		code := c.opinion.code()
		if c.wanted {
			code |= saidWanted
		}
		to = append(to, code)
		if c.opinion.Load != NoLoad {
			to = append(to, c.opinion.Share)
		}
	}
	if flags&flagExtension != 0 {
		to = binary.AppendUvarint(to, uint64(len(k.past.Memory)))
		to = append(to, k.past.Memory...)
	}
	return to
}

// known reads what a state says about an endpoint.
func (r *reader) known(texts []string) (k known) {
	at, flags := r.endpoint()
	k.at, k.flags, k.said = at, flags&(flagDeparted|flagDepartedLong), r.opinion()
	k.past.Age = time.Duration(min(r.uvarint(), maxAge)) * time.Second
	if flags&flagText != 0 {
		if i := r.uvarint(); i < uint64(len(texts)) {
			k.past.Text = texts[i]
		}
	}
	claims := r.uvarint()
	r.bad = r.bad || claims > maxVoters
	for range claims {
		if r.bad {
			break
		}
		c := said{peer: r.uvarint()}
		code, share := r.byte(), byte(0)
		if Load(code>>3&3) != NoLoad {
			share = r.byte()
		}
		c.wanted, c.opinion = code&saidWanted != 0, opinionOf(code, share)
		k.claims = append(k.claims, c)
	}
	if flags&flagExtension != 0 {
		memory := r.take(r.uvarint())
		k.past.Memory = memory[:min(len(memory), MaxMemory)]
	}
	return k
}

const maxAge = 10 * 365 * 24 * 3600 // seconds

// merge takes the state of another replica over.
func (s *Share) merge(r reader) {
	state := r.rest
	s.departing = s.host.Now() + min(time.Duration(min(r.uvarint(), maxAge))*time.Second, departedFor)
	peers, strangers := s.mergePeers(&r)
	s.early = nil
	if strangers {
		s.early, s.earlyAt = state, s.host.Now()
	}
	texts := r.texts()
	for r.more() {
		if k := r.known(texts); !r.bad {
			s.mergeOne(&k, peers)
		}
	}
	if r.bad {
		s.fleet.traffic.skipped.Add(1)
	}
}

// mergeAgain merges a state again that came before the carrier named all replicas in it.
func (s *Share) mergeAgain() {
	if s.early == nil {
		return
	}
	if s.host.Now()-s.earlyAt < earlyFor {
		at := s.earlyAt
		s.merge(reader{rest: s.early})
		s.earlyAt = at
		return
	}
	s.early = nil
}

// earlyFor is how long such a state is kept.
const earlyFor = 10 * time.Second

// mergePeers returns the index here of each replica in a state, 0 for those that are not live here.
// It also reports whether some are not live here.
func (s *Share) mergePeers(r *reader) (here []uint16, strangers bool) {
	n := r.uvarint()
	if n > maxPeers {
		r.bad = true
		return nil, false
	}
	for range n {
		key, flags := r.uint64(), r.byte()
		i := s.byKey[key]
		if i > 0 && flags&statePeerHas != 0 && !s.peers[i].has {
			s.peers[i].has, s.peers[i].doubts = true, flags&beatDoubts != 0
		}
		here = append(here, i)
		strangers = strangers || i == 0 && flags&statePeerHas != 0 && key != s.self
	}
	s.unranked = true
	return here, strangers
}

// mergeOne takes over what a state says about an endpoint. What a replica said here itself is
// newer.
func (s *Share) mergeOne(k *known, peers []uint16) {
	n, found := s.host.Find(k.at)
	if !found {
		wanted := k.flags != 0
		for _, c := range k.claims {
			wanted = wanted || c.wanted
		}
		if !wanted {
			return
		}
		if n, found = s.host.Admit(k.at); !found {
			return
		}
		s.enter(n, false, Opinion{})
		// Those that want it may not be known yet.
		s.departed[0].set(n, k.flags&flagDepartedLong == 0)
		s.departed[1].set(n, k.flags&flagDepartedLong != 0)
	}
	for _, c := range k.claims {
		if c.peer < uint64(len(peers)) {
			s.inherit(peers[c.peer], n, c)
		}
	}
	b := &s.ballots[n]
	if v := k.said.Verdict; v != None && b.decided == None {
		b.decided, b.said = v, k.said
		b.said.Verdict = None
		s.host.Decide(n, Decision{k.said, k.past})
	}
	s.judge(n, k.past.Text)
}

// inherit takes over a claim of a replica that has not said anything about the endpoint here.
func (s *Share) inherit(i uint16, n uint32, c said) {
	if i != 0 && !s.peers[i].wants.has(n) && s.ballots[n].of(i) == (Opinion{}) {
		s.claim(i, n, c.wanted, c.opinion)
	}
}
