// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/seed-f1518d44/balance/internal/text"
)

func (f *Fleet) logAlone(v *view) {
	if v.alone {
		f.config.Log.Warningf("fleet %s: alone: fewer than half of the replicas of a minute ago are there (%d): this replica goes by its own probes", f.config.Name, len(v.members))
		return
	}
	f.config.Log.Infof("fleet %s: no longer alone: %s, at least half of those of a minute ago", f.config.Name, text.Count(len(v.members), "replica"))
}

// logDoubt logs that this replica has begun to doubt itself, and why, or that it no longer does.
func (s *Share) logDoubt() {
	log, name := s.fleet.config.Log, s.fleet.config.Name
	if !s.doubting.now {
		log.Infof("fleet %s: %s: this replica trusts itself again", name, s.check.Name)
		return
	}
	why := "all its probes fail, and other replicas report some of the endpoints up"
	if s.doubting.overloaded {
		why = "most of its probes are late or fail because of a local error"
	}
	log.Warningf("fleet %s: %s: this replica doubts itself, so its votes do not count: %s", name, s.check.Name, why)
}

// changeLog bounds the lines about members that come and go.
type changeLog struct {
	limiter *rate.Limiter
	omitted int // changes without a line since the last one
}

func newChangeLog() changeLog {
	return changeLog{limiter: rate.NewLimiter(rate.Every(6*time.Second), 20)}
}

// more reports whether a change has a line, and what that says about those before it that had none.
func (c *changeLog) more() (note string, ok bool) {
	if !c.limiter.Allow() {
		c.omitted++
		return "", false
	}
	if c.omitted > 0 {
		note = fmt.Sprintf("; %s before it not logged", text.Count(c.omitted, "change"))
	}
	c.omitted = 0
	return note, true
}

// logMembers logs who has come and gone since the members last changed. The caller holds the lock.
func (f *Fleet) logMembers(live []Replica) {
	for _, m := range live {
		if !contains(f.members, m.Name) {
			place := m.Addr.String()
			if m.Locality != "" {
				place += ", " + m.Locality
			}
			f.logMember(f.config.Log.Infof, m.Name+" ("+place+")", "has joined", len(live))
		}
	}
	for _, m := range f.members {
		switch {
		case contains(live, m.Name):
		case slices.Contains(f.inOrder, m.Name):
			f.logMember(f.config.Log.Infof, m.Name, "has left", len(live))
		default:
			f.logMember(f.config.Log.Warningf, m.Name, "has failed or cannot be reached", len(live))
		}
	}
}

func (f *Fleet) logMember(write func(string, ...any), who, what string, live int) {
	if before, ok := f.changes.more(); ok {
		write("fleet %s: replica %s %s; live replicas: %d%s", f.config.Name, who, what, live, before)
	}
}

// contains reports whether a replica is among some, which are sorted by name.
func contains(sorted []Replica, name string) bool {
	_, found := slices.BinarySearchFunc(sorted, name, func(m Replica, name string) int { return strings.Compare(m.Name, name) })
	return found
}

// logOmitted logs that a state for a replica that joins could not hold all endpoints.
func (s *Share) logOmitted(omitted int) {
	if omitted == 0 {
		return
	}
	s.omittedLog.Do(func() {
		s.fleet.config.Log.Warningf("fleet %s: %s: the state that a replica takes over when it joins is full at %d bytes and lacks %d endpoints: it learns of them from heartbeats",
			s.fleet.config.Name, s.check.Name, s.fleet.maxState, omitted)
	})
}

// dispute is an endpoint whose votes differ or make no quorum.
type dispute struct {
	since  time.Duration
	tied   bool          // no quorum: the last verdict stays
	short  time.Duration // since when fewer have voted than make a verdict; 0: enough have
	logged bool
}

// dispute notes that the votes on an endpoint differ or make no quorum. short reports that they are
// too few for one.
func (s *Share) dispute(n uint32, tied, short bool) {
	now := s.host.Now()
	d, known := s.disputes[n]
	if !known {
		d.since = now
	}
	d.tied = tied
	switch {
	case !short:
		d.short = 0
	case d.short == 0:
		d.short = max(now, 1)
	}
	s.disputes[n] = d
}

const (
	lastingIntervals = 3 // replicas find a death within an interval of each other
	maxDisputesNamed = 3
)

// lasting returns the endpoints whose votes have differed for some intervals.
func (s *Share) lasting(now time.Duration) (all []uint32) {
	for n, d := range s.disputes {
		if now-d.since > lastingIntervals*(s.check.Interval+s.check.Timeout) && Summary(s.tables.Load().get(n)).Differ() {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all
}

// nameOf returns an endpoint as people write it: port 0 stands for none.
func nameOf(at netip.AddrPort) string {
	if at.Port() == 0 {
		return at.Addr().String()
	}
	return at.String()
}

// logDisputes logs disagreement that lasts, once for each endpoint, and when there is none any
// more.
func (s *Share) logDisputes(now time.Duration) {
	if len(s.disputes) == 0 && !s.disagreed {
		return
	}
	lasting := s.lasting(now)
	logged := 0
	for _, n := range lasting {
		d := s.disputes[n]
		if d.logged {
			continue
		}
		if logged++; logged <= maxDisputesNamed {
			s.fleet.config.Log.Warningf("fleet %s: %s: replicas have disagreed on %s for %s; it is %s by %s", s.fleet.config.Name, s.check.Name,
				nameOf(s.host.At(n)), (now - d.since).Round(time.Second), s.Decided(n), s.Ballot(n))
		}
		d.logged = true
		s.disputes[n] = d
	}
	if logged > maxDisputesNamed {
		s.fleet.config.Log.Warningf("fleet %s: %s: replicas have disagreed on %d more endpoints", s.fleet.config.Name, s.check.Name, logged-maxDisputesNamed)
	}
	if s.disagreed && len(lasting) == 0 {
		s.fleet.config.Log.Infof("fleet %s: %s: replicas agree again on all endpoints", s.fleet.config.Name, s.check.Name)
	}
	s.disagreed = len(lasting) > 0
}
