// SPDX-License-Identifier: Apache-2.0

package fleet

import "time"

// doubt is whether a replica doubts itself: because it is overloaded, or because all that it probes
// fails while a quorum of others reports some of it up. If nobody contradicts its failures, it
// believes them.
type doubt struct {
	own          [4]int        // its votes, by verdict
	overloaded   bool          // most of its probes proved nothing
	contradicted time.Duration // since when; 0: not
	now          bool
	since        time.Duration
	passes       time.Duration // since when some of it passes again; 0: nothing does, or it does not doubt
}

// recovery is how many intervals, at most, a doubt outlasts its cause. By then what is down was
// probed again, although probes of it have backed off.
const recovery = 6

// allFail reports whether all endpoints that this replica probes fail. One alone proves nothing.
func (d *doubt) allFail() bool { return d.own[Up] == 0 && d.own[Down] > 1 }

// after returns the doubt at a time. A contradiction must last for patience before it counts,
// because replicas do not notice a death in the same moment. A doubt lasts at least that long.
func (d doubt) after(contradicted bool, patience, now time.Duration) doubt {
	switch {
	case !contradicted:
		d.contradicted = 0
	case d.contradicted == 0:
		d.contradicted = max(now, 1)
	}
	doubts := d.overloaded || d.contradicted > 0 && now-d.contradicted >= patience
	if d.now && !doubts && now-d.since < patience {
		return d
	}
	if doubts != d.now {
		d.now, d.since = doubts, now
	}
	switch {
	case !d.now || d.own[Up] == 0:
		d.passes = 0
	case d.passes == 0:
		d.passes = max(now, 1)
	}
	return d
}

// mayBeWrong reports whether votes on endpoints that are down may all be wrong: nothing is up, or
// this replica doubts itself, and some of these votes are from before something was up again.
func (d *doubt) mayBeWrong(patience, now time.Duration) bool {
	return d.allFail() || d.now && (d.passes == 0 || now-d.passes < recovery*patience)
}

// Overloaded notes whether most of this replica's probes prove nothing, because the host is
// overloaded or they fail locally.
func (s *Share) Overloaded(overloaded bool) { s.doubting.overloaded = overloaded }

// Doubts reports whether this replica doubts itself.
func (s *Share) Doubts() bool { return s.doubting.now }

// reflect updates the doubt, and reports whether it changed.
func (s *Share) reflect(now time.Duration) (changed bool) {
	before := s.doubting.now
	s.doubting = s.doubting.after(s.isContradicted(now), s.check.Interval, now)
	s.peers[0].doubts = s.doubting.now
	return s.doubting.now != before
}

// isContradicted reports whether all that this replica probes fails, and a quorum of others reports
// one of these endpoints up. Once it doubts itself, one is enough for a while: otherwise its old
// votes would count again with the first endpoint that passes.
func (s *Share) isContradicted(now time.Duration) bool {
	if s.view.alone || !s.doubting.mayBeWrong(s.check.Interval, now) {
		return false
	}
	for n := range s.ballots {
		if b := &s.ballots[n]; b.of(0).Verdict == Down && s.othersSayUp(uint32(n)) {
			return true
		}
	}
	return false
}

// othersSayUp reports whether a quorum without this replica says that an endpoint is up.
func (s *Share) othersSayUp(n uint32) bool {
	assigned := s.ranking.first(hashOf(s.host.At(n)), s.view.probers, nil)
	up := 0
	s.ballots[n].each(func(v *vote) bool {
		up += toInt(v.peer != 0 && v.opinion().Verdict == Up && s.peers[v.peer].counts)
		return true
	})
	return up >= quorumOf(len(assigned), s.view.quorum)
}
