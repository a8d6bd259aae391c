// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// CheckID identifies a check in all replicas: a hash of all that has to be equal.
type CheckID uint64

// IDOf returns the CheckID of a check that a text describes.
func IDOf(text string) CheckID { return CheckID(keyOf(text)) }

// Check is a check that replicas share.
type Check struct {
	ID       CheckID
	Name     string // for people
	Interval time.Duration
	Timeout  time.Duration
}

// Host probes the endpoints of a share. It numbers them from 0 on, and may use the number of an
// endpoint again after Share.Remove.
type Host interface {
	// Wake has Share.Work called soon. Safe for concurrent use, does not block.
	Wake()
	// Run calls a function in the goroutine that owns the share, and waits for it. It reports false
	// if that goroutine has ended. Safe for concurrent use. The other methods are called by that
	// goroutine only.
	Run(call func()) bool

	// Now returns the time since some moment.
	Now() time.Duration
	// Find returns the number of an endpoint.
	Find(at netip.AddrPort) (n uint32, known bool)
	// Admit makes an endpoint known that another replica named, if it may be probed. It does not
	// call the share.
	Admit(at netip.AddrPort) (n uint32, ok bool)
	// At returns the endpoint with a number.
	At(n uint32) netip.AddrPort
	// Probe starts or stops the probes of an endpoint. New ones are spread over an interval, except
	// that an endpoint without a verdict is probed at once.
	Probe(n uint32, on bool)
	// Decide takes the fleet's verdict on an endpoint.
	Decide(n uint32, d Decision)
	// Past returns what a replica that joins is to know about an endpoint, besides the votes.
	Past(n uint32) Past
}

// Past is how an endpoint came to its verdict.
type Past struct {
	Age    time.Duration // of the verdict
	Text   string        // why it is down, or what it says about itself
	Memory []byte        // what else the host remembers, such as a penalty: at most MaxMemory bytes
}

// MaxMemory bounds what a host remembers about an endpoint, in bytes.
const MaxMemory = 32

// Decision is what the fleet says about an endpoint.
type Decision struct {
	Opinion
	Past // without age and memory, unless another replica told them when this one joined
}

// Share is this replica's part in the verdicts of one check: which endpoints it knows, and what
// each replica says about them. The goroutine of its host owns it; methods that are safe for
// concurrent use say so.
type Share struct {
	fleet *Fleet
	check Check
	host  Host
	self  uint64 // key of this replica

	inbox  chan incoming             // messages of other replicas
	states chan []byte               // of other replicas, to be taken over
	behind atomic.Int32              // states that are not taken over yet
	latest atomic.Pointer[view]      // the newest view of the fleet
	tables atomic.Pointer[summaries] // what scrapes read

	view    *view // the one that peers and rankings go by
	peers   []peer
	byKey   map[uint64]uint16
	ranking ranking // of the replicas whose votes count
	shadow  ranking // these and this replica, while it doubts itself

	ballots   []ballot
	disputes  map[uint32]dispute       // endpoints whose votes differ or make no quorum
	disagreed bool                     // the log has said that replicas disagree
	bare      map[uint32]time.Duration // endpoints without a valid vote, and since when
	departed  [2]bitset                // endpoints wanted by replicas that are gone; older ones second
	departing time.Duration            // when the older ones are next dropped
	state     []byte                   // one that could not be taken over as a whole; nil: none
	stateTill time.Duration            // when it is forgotten

	reconsiders  bool          // the host admits more than before
	reconsiderAt time.Duration // when what was refused may be asked for again

	changed    []uint32          // endpoints about which this replica says something new
	texts      map[uint32]string // why these are down
	dropped    []claim           // taken back, because the endpoint is forgotten
	urgent     bool              // send the changes now
	flushed    time.Duration     // when the last message with claims was sent
	omittedLog rate.Sometimes    // that endpoints had no room in a state
	unranked   bool              // a replica has come, gone or begun to doubt itself since rank
	sweep      uint32            // the next endpoint to judge anew
	beatAt     time.Duration     // when the next heartbeat is due
	tickAt     time.Duration     // when doubts, silence and bare endpoints are next looked at
	doubting   doubt

	order, shadowed []uint16 // buffers of judge
	votes           []Verdict
	opinions        []Opinion
}

// peer is another replica with the check, or this one at index 0.
type peer struct {
	key      uint64
	name     string
	locality string
	live     bool          // its carrier sees it
	has      bool          // it has the check
	doubts   bool          // it doubts itself
	counts   bool          // its votes count
	alone    bool          // it goes by its own verdicts
	heard    time.Duration // when it last sent a heartbeat

	sum     uint64 // of the digests of its claims that this replica holds
	claims  int    // how many these are
	wants   bitset
	refused refusals // its other claims

	comparing comparison
}

// ballot is what is known about one endpoint: 32 bytes. Each opinion comes from one peer.
type ballot struct {
	first   [4]vote
	more    *[]vote // beyond the first ones; nil for none
	known   bool
	probing bool    // this replica probes it
	changed bool    // it is in Share.changed
	decided Opinion // by the fleet
}

// vote is a peer's opinion in 4 bytes. A code of 0 is no vote.
type vote struct {
	peer  uint16
	code  uint8
	share uint8
}

func (v vote) opinion() Opinion { return opinionOf(v.code, v.share) }

// each calls f for each vote until it returns false.
func (b *ballot) each(f func(*vote) bool) {
	for i := range b.first {
		if b.first[i].code != 0 && !f(&b.first[i]) {
			return
		}
	}
	if b.more == nil {
		return
	}
	for i := range *b.more {
		if (*b.more)[i].code != 0 && !f(&(*b.more)[i]) {
			return
		}
	}
}

// of returns a peer's opinion.
func (b *ballot) of(peer uint16) (o Opinion) {
	b.each(func(v *vote) bool {
		if v.peer != peer {
			return true
		}
		o = v.opinion()
		return false
	})
	return o
}

// maxVotes bounds the opinions on one endpoint.
const maxVotes = 128

// set replaces a peer's opinion. It reports false if there is no room.
func (b *ballot) set(peer uint16, o Opinion) bool {
	var now vote
	if code := o.code(); code != 0 {
		now = vote{peer, code, o.Share}
	}
	found, all := false, 0
	b.each(func(v *vote) bool {
		all++
		if v.peer == peer {
			*v, found = now, true
		}
		return !found
	})
	switch {
	case found || now.code == 0:
		b.shrink()
		return true
	case all >= maxVotes:
		return false
	}
	b.put(now)
	return true
}

// put adds a vote in the first free slot.
func (b *ballot) put(v vote) {
	for i := range b.first {
		if b.first[i].code == 0 {
			b.first[i] = v
			return
		}
	}
	if b.more == nil {
		b.more = new([]vote)
	}
	for i := range *b.more {
		if (*b.more)[i].code == 0 {
			(*b.more)[i] = v
			return
		}
	}
	*b.more = append(*b.more, v)
}

// shrink frees the overflow if it is empty.
func (b *ballot) shrink() {
	if b.more == nil {
		return
	}
	for _, v := range *b.more {
		if v.code != 0 {
			return
		}
	}
	b.more = nil
}

// newShare returns a share in which this replica is the only one.
func newShare(f *Fleet, check Check, host Host, v *view) *Share {
	s := &Share{
		fleet: f, check: check, host: host, self: keyOf(f.config.Replica),
		inbox: make(chan incoming, maxInbox), states: make(chan []byte, 1), byKey: make(map[uint64]uint16),
		disputes: make(map[uint32]dispute), bare: make(map[uint32]time.Duration), texts: make(map[uint32]string),
		omittedLog: rate.Sometimes{Interval: time.Minute},
	}
	s.peers = []peer{{key: s.self, name: f.config.Replica, locality: f.config.Locality, live: true, has: true}}
	s.byKey[s.self] = 0
	s.adjust(&view{probers: v.probers, quorum: v.quorum, version: v.version})
	s.latest.Store(v)
	return s
}

// Add makes an endpoint known. wanted reports whether answers of this replica hold it; decided is
// the verdict that it already has.
func (s *Share) Add(n uint32, wanted bool, decided Opinion) {
	s.enter(n, wanted, decided)
	s.judge(n, "")
}

// enter is Add without deciding anything. An endpoint that was known before is kept for a while,
// until the others have said whether they want it.
func (s *Share) enter(n uint32, wanted bool, decided Opinion) {
	for int(n) >= len(s.ballots) {
		s.ballots = append(s.ballots, ballot{})
	}
	s.ballots[n] = ballot{known: true, decided: decided}
	s.tables.Store(s.tables.Load().grown(n))
	hash := hashOf(s.host.At(n))
	for i := range s.peers {
		s.peers[i].refused.forget(hash) // one of these claims may be about this endpoint
	}
	s.SetWanted(n, wanted)
	if decided.Verdict != None {
		s.departed[0].set(n, true)
	}
}

// Has reports whether an endpoint is known.
func (s *Share) Has(n uint32) bool { return int(n) < len(s.ballots) && s.ballots[n].known }

// SetWanted notes whether answers of this replica hold an endpoint.
func (s *Share) SetWanted(n uint32, wanted bool) {
	if s.peers[0].wants.has(n) != wanted {
		s.claim(0, n, wanted, s.ballots[n].of(0))
		s.note(n, "", true)
	}
}

// WantedElsewhere reports whether answers of another replica hold an endpoint, or did so when that
// replica left a while ago.
func (s *Share) WantedElsewhere(n uint32) bool {
	for i := range s.peers[1:] {
		if s.peers[1+i].wants.has(n) {
			return true
		}
	}
	return s.departed[0].has(n) || s.departed[1].has(n)
}

// Remove forgets an endpoint. Its number may be used again.
func (s *Share) Remove(n uint32) {
	b := &s.ballots[n]
	if s.peers[0].wants.has(n) || b.of(0) != (Opinion{}) {
		s.dropped = append(s.dropped, claim{at: s.host.At(n)})
	}
	for i := range s.peers {
		s.claim(uint16(i), n, false, Opinion{})
	}
	s.departed[0].set(n, false)
	s.departed[1].set(n, false)
	delete(s.disputes, n)
	delete(s.bare, n)
	delete(s.texts, n)
	*b = ballot{}
	s.tables.Load().set(n, 0)
}

// Vote takes this replica's own opinion on an endpoint, with rise and fall applied. text says why
// it is down.
func (s *Share) Vote(n uint32, o Opinion, text string) {
	b := &s.ballots[n]
	before := b.of(0)
	if !b.probing || before == o {
		return
	}
	s.claim(0, n, s.peers[0].wants.has(n), o)
	s.note(n, text, before.Verdict != o.Verdict || before.Drain != o.Drain)
	s.judge(n, text)
}

// Decided returns the fleet's verdict on an endpoint.
func (s *Share) Decided(n uint32) Verdict { return s.ballots[n].decided.Verdict }

// note remembers to tell the others about an endpoint.
func (s *Share) note(n uint32, text string, urgent bool) {
	if text != "" {
		s.texts[n] = text
	}
	s.urgent = s.urgent || urgent
	if b := &s.ballots[n]; !b.changed {
		b.changed = true
		s.changed = append(s.changed, n)
	}
}

// claim replaces what a peer says about an endpoint. It reports false if there is no room.
func (s *Share) claim(i uint16, n uint32, wanted bool, o Opinion) bool {
	p, b := &s.peers[i], &s.ballots[n]
	before, wantedBefore := b.of(i), p.wants.has(n)
	if before == o && wantedBefore == wanted {
		return true
	}
	if !b.set(i, o) {
		return false
	}
	p.wants.set(n, wanted)
	hash := hashOf(s.host.At(n))
	p.sum += digest(hash, wanted, o) - digest(hash, wantedBefore, before)
	p.claims += toInt(wanted || o.code() != 0) - toInt(wantedBefore || before.code() != 0)
	if i == 0 {
		s.doubting.own[before.Verdict]--
		s.doubting.own[o.Verdict]++
	}
	return true
}

func toInt(on bool) int {
	if on {
		return 1
	}
	return 0
}
