// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"slices"
	"time"
)

// What follows from the votes on an endpoint: whether this replica probes it, and the fleet's
// verdict.

// judge decides about an endpoint anew. text belongs to the vote that may change the verdict.
func (s *Share) judge(n uint32, text string) {
	b := &s.ballots[n]
	if !b.known {
		return
	}
	hash := hashOf(s.host.At(n))
	s.order = s.ranking.first(hash, s.view.probers+1, s.order[:0])
	assigned := s.order[:min(s.view.probers, len(s.order))]
	voted := s.collect(b, assigned)
	s.decide(n, assigned, text)
	s.assign(n, hash, voted < len(assigned))
	s.tables.Load().set(n, s.summary(n))
}

// collect collects the valid votes on an endpoint, those of the assigned replicas first. If one of
// these has not voted, because it has just been assigned, another replica's vote stands in. It
// returns how many of the assigned voted.
func (s *Share) collect(b *ballot, assigned []uint16) (voted int) {
	s.votes, s.opinions = s.votes[:0], s.opinions[:0]
	for _, i := range assigned {
		s.take(b.of(i))
	}
	voted = len(s.votes)
	b.each(func(v *vote) bool {
		if len(s.votes) < len(assigned) && !slices.Contains(assigned, v.peer) && s.peers[v.peer].counts {
			s.take(v.opinion())
		}
		return true
	})
	return voted
}

func (s *Share) take(o Opinion) {
	if o.Verdict != None {
		s.votes, s.opinions = append(s.votes, o.Verdict), append(s.opinions, o)
	}
}

// decide publishes the verdict that the collected votes make, if that is new. If fewer have voted
// than make a verdict, and for longer than a probe takes, the others cannot, or may not, probe the
// endpoint. Then the votes that there are decide.
func (s *Share) decide(n uint32, assigned []uint16, text string) {
	b := &s.ballots[n]
	quorum := quorumOf(len(assigned), s.view.quorum)
	short := len(s.votes) < quorum
	if short && s.staysShort(n) {
		quorum = quorumOf(len(s.votes), s.view.quorum)
	}
	_, certain := winner(s.votes, quorum)
	switch {
	case len(s.votes) == 0:
		if _, known := s.bare[n]; !known {
			s.bare[n] = s.host.Now()
		}
		delete(s.disputes, n)
		return
	case short || !certain || differ(s.votes):
		s.dispute(n, short || !certain, short)
	default:
		delete(s.disputes, n)
	}
	delete(s.bare, n)
	s.settle(n, tally(s.votes, quorum, b.decided.Verdict), text)
}

// staysShort reports whether the votes on an endpoint have made no quorum for longer than it takes
// to probe it.
func (s *Share) staysShort(n uint32) bool {
	since := s.disputes[n].short
	return since > 0 && s.host.Now()-since > s.check.Interval+s.check.Timeout
}

// settle makes a verdict the fleet's.
func (s *Share) settle(n uint32, v Verdict, text string) {
	b := &s.ballots[n]
	decided := combined(s.opinions, b.decided)
	decided.Verdict = v
	if decided == b.decided {
		return
	}
	b.decided = decided
	s.host.Decide(n, Decision{decided, Past{Text: text}})
}

// assign starts or stops this replica's probes of an endpoint. missing reports that an assigned
// replica has not voted.
func (s *Share) assign(n uint32, hash uint64, missing bool) {
	b := &s.ballots[n]
	probe := s.mustProbe(n, hash, missing)
	if probe == b.probing {
		return
	}
	b.probing = probe
	if o := b.of(0); !probe && o != (Opinion{}) {
		s.claim(0, n, s.peers[0].wants.has(n), Opinion{})
		s.note(n, "", false)
	}
	s.host.Probe(n, probe)
}

// mustProbe reports whether this replica probes an endpoint: it is assigned; it was, and waits
// until those that are now have voted; it doubts itself, and probes to see when that ends; or no
// other replica says anything about the endpoint.
func (s *Share) mustProbe(n uint32, hash uint64, missing bool) bool {
	b := &s.ballots[n]
	at := slices.Index(s.order, 0)
	switch {
	case at >= 0 && at < s.view.probers:
		return true
	case at >= 0 && b.probing && missing:
		return true
	case s.doubting.now && s.shadows(hash):
		return true
	}
	others := slices.ContainsFunc(s.order, func(i uint16) bool { return i != 0 && b.of(i).Verdict != None }) || s.standsIn(b)
	return !others && (b.probing || s.isBare(n))
}

// Place returns this replica's place among those that are assigned to an endpoint, from 0 on, and
// their number.
func (s *Share) Place(n uint32) (place, of int) {
	assigned := s.assignedTo(n)
	return max(slices.Index(assigned, 0), 0), max(len(assigned), 1)
}

// standsIn reports whether a replica that is not assigned has voted.
func (s *Share) standsIn(b *ballot) (found bool) {
	b.each(func(v *vote) bool {
		found = v.peer != 0 && v.opinion().Verdict != None && s.peers[v.peer].counts
		return !found
	})
	return found
}

// shadows reports whether this replica would be assigned if it did not doubt itself.
func (s *Share) shadows(hash uint64) bool {
	s.shadowed = s.shadow.first(hash, s.view.probers, s.shadowed[:0])
	return slices.Contains(s.shadowed, 0)
}

// isBare reports whether an endpoint has had no valid vote for so long that this replica probes it
// for itself.
func (s *Share) isBare(n uint32) bool {
	since, bare := s.bare[n]
	return bare && s.host.Now()-since > s.check.Interval+s.check.Timeout
}

// rank collects the replicas whose votes count, and has all endpoints judged anew if they changed.
// Without a replica that trusts itself, those that doubt count too.
func (s *Share) rank() {
	s.unranked = false
	trusted := s.candidates(func(p *peer) bool { return !p.doubts })
	everyone := s.candidates(func(*peer) bool { return true })
	if len(trusted) == 0 {
		trusted = everyone
	}
	if slices.Equal(trusted, s.ranking.candidates) {
		return
	}
	for i := range s.peers {
		s.peers[i].counts = false
	}
	for _, c := range trusted {
		s.peers[c.peer].counts = true
	}
	localities := 1
	for _, c := range everyone {
		localities = max(localities, int(c.locality)+1)
	}
	s.ranking.set(trusted, localities)
	s.shadow.set(withSelf(trusted, everyone), localities)
	s.sweep = 0
}

// withSelf returns candidates with this replica, which is the first of everyone.
func withSelf(trusted, everyone []candidate) []candidate {
	if len(trusted) > 0 && trusted[0].peer == 0 {
		return trusted
	}
	return append([]candidate{everyone[0]}, trusted...)
}

// candidates returns the live replicas that have the check and pass a test, this one first. A
// replica that is alone sees only itself.
func (s *Share) candidates(passes func(*peer) bool) (all []candidate) {
	localities := make(map[string]uint16)
	for i := range s.peers {
		p := &s.peers[i]
		if i > 0 && (s.view.alone || !p.live || !p.has || s.isSilent(p)) || !passes(p) {
			continue
		}
		place, known := localities[p.locality]
		if !known {
			place = uint16(len(localities))
			localities[p.locality] = place
		}
		all = append(all, candidate{key: p.key, locality: place, peer: uint16(i)})
	}
	return all
}

// isSilent reports whether a peer has sent no heartbeat for too long.
func (s *Share) isSilent(p *peer) bool {
	return s.host.Now()-p.heard > silentBeats*s.beat()+s.check.Timeout
}

// sweepSome judges a part of the endpoints anew, after the replicas whose votes count have changed.
func (s *Share) sweepSome() {
	for end := min(s.sweep+sweepStep, uint32(len(s.ballots))); s.sweep < end; s.sweep++ {
		s.judge(s.sweep, "")
	}
}

func (s *Share) isSweeping() bool { return int(s.sweep) < len(s.ballots) }

// Limits of a share.
const (
	maxInbox    = 1024 // messages that wait
	maxRead     = 64   // messages that one call of Work reads
	sweepStep   = 2048 // endpoints that one call of Work judges anew
	maxPeers    = 4096
	silentBeats = 3 // heartbeats that may be lost in a row

	flushPause = 50 * time.Millisecond // between two messages about changes
	tick       = time.Second
)
