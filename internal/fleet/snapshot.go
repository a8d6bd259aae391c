// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/seed-f1518d44/balance/internal/text"
)

// What the page, "why", logs and metrics show. All of it is immutable.

// Snapshot is what a replica knows about its fleet.
type Snapshot struct {
	Name    string
	Self    string // this replica
	Probers int
	Quorum  int      // 0: a majority
	Alone   bool     // this replica goes by its own verdicts
	Members []Member // the live ones, sorted by name; this replica is one
	Gone    []Gone   // those that are missed
	Checks  []Shared // of this replica, sorted by name
	Foreign []Foreign

	// Messages of ours, without those of the carrier. A message to all counts once for each
	// replica.
	Sent, Received           uint64
	SentBytes, ReceivedBytes uint64
	Skipped                  uint64 // messages, or parts, that were not understood or came twice
	Lost                     uint64 // messages that could not be sent, or that found the inbox full
}

// Member is a live replica.
type Member struct {
	Replica
	Since  time.Time // when this replica first saw it
	Doubts bool      // it doubts itself about at least one check, so that its votes do not count
	Alone  bool      // it says that it is alone
	Checks int       // that it shares with this replica
	Votes  int       // of it, as far as this replica knows
}

// Shared is a check that this replica shares.
type Shared struct {
	Name        string
	Replicas    int // that have it, this one included
	Endpoints   int
	Probing     int // endpoints that this replica probes
	Disagreeing int // endpoints whose votes differ
	Lasting     int // of these, those that did so for some intervals
	Undecided   int // endpoints whose votes make no quorum: the last verdict stays
	Bare        int // endpoints without a valid vote
}

// Foreign is a check of another replica that this one does not have. If one of the same name is in
// Snapshot.Checks, the two differ in some option.
type Foreign struct {
	Replica string
	Check   string
}

// Snapshot returns what is known about the fleet. It asks the owner of each share, so it takes a
// moment: it is for scrapes and people, not for answers. Safe for concurrent use.
func (f *Fleet) Snapshot() Snapshot {
	f.mu.Lock()
	s := Snapshot{
		Name: f.config.Name, Self: f.config.Replica, Probers: f.probers, Quorum: f.quorum, Alone: f.view().alone,
		Foreign: f.foreigners(), Gone: f.goneAfter(f.members),
	}
	for _, m := range f.members {
		s.Members = append(s.Members, Member{Replica: m, Since: f.since[m.Name]})
	}
	shares := make([]*Share, 0, len(f.shares))
	for _, one := range f.shares {
		shares = append(shares, one)
	}
	f.mu.Unlock()
	for _, one := range shares {
		one.host.Run(func() { one.show(&s) })
	}
	slices.SortFunc(s.Checks, func(a, b Shared) int { return strings.Compare(a.Name, b.Name) })
	t := &f.traffic
	s.Sent, s.Received, s.SentBytes, s.ReceivedBytes = t.sent.Load(), t.received.Load(), t.sentBytes.Load(), t.receivedBytes.Load()
	s.Skipped, s.Lost = t.skipped.Load(), t.lost.Load()
	return s
}

// Alone reports whether this replica goes by its own verdicts. Safe for concurrent use.
func (f *Fleet) Alone() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.view().alone
}

// show adds the share to a snapshot.
func (s *Share) show(to *Snapshot) {
	shared := Shared{Name: s.check.Name, Bare: len(s.bare), Lasting: len(s.lasting(s.host.Now()))}
	votes := make([]int, len(s.peers))
	for n := range s.ballots {
		b := &s.ballots[n]
		shared.Endpoints += toInt(b.known)
		shared.Probing += toInt(b.probing)
		sum := Summary(s.tables.Load().get(uint32(n)))
		shared.Disagreeing += toInt(sum.Differ())
		shared.Undecided += toInt(sum.Undecided())
		b.each(func(v *vote) bool { votes[v.peer]++; return true })
	}
	for i := range s.peers {
		p := &s.peers[i]
		if !p.live || !p.has {
			continue
		}
		shared.Replicas++
		for j := range to.Members {
			if m := &to.Members[j]; m.Name == p.name {
				m.Checks++
				m.Votes += votes[i]
				m.Doubts, m.Alone = m.Doubts || p.doubts, m.Alone || p.alone || i == 0 && s.view.alone
			}
		}
	}
	to.Checks = append(to.Checks, shared)
}

// Voter is what one replica says about an endpoint.
type Voter struct {
	Replica  string
	Locality string
	Opinion  Opinion // Verdict None: it has not voted
	Assigned bool    // it is to probe the endpoint
	Counts   bool    // its vote is valid: it is there and does not doubt itself
}

// Voters returns what each replica says about an endpoint: the assigned ones first. It asks the
// owner of the share, so it is for people. Safe for concurrent use.
func (s *Share) Voters(at netip.AddrPort) (all []Voter) {
	s.host.Run(func() {
		if n, known := s.host.Find(at); known {
			all = s.voters(n)
		}
	})
	return all
}

func (s *Share) voters(n uint32) (all []Voter) {
	assigned, b := s.assignedTo(n), &s.ballots[n]
	voter := func(i uint16, o Opinion, assigned bool) Voter {
		p := &s.peers[i]
		return Voter{p.name, p.locality, o, assigned, p.counts}
	}
	for _, i := range assigned {
		all = append(all, voter(i, b.of(i), true))
	}
	b.each(func(v *vote) bool {
		if !slices.Contains(assigned, v.peer) {
			all = append(all, voter(v.peer, v.opinion(), false))
		}
		return true
	})
	return all
}

// Ballot returns the valid votes on an endpoint for the log: "2 of 3 votes: dns-1 down, dns-2 down,
// dns-3 up". It is empty if there are none.
func (s *Share) Ballot(n uint32) string {
	var votes []string
	b, agree := &s.ballots[n], 0
	b.each(func(v *vote) bool {
		if p := &s.peers[v.peer]; p.counts && v.opinion().Verdict != None {
			votes = append(votes, p.name+" "+v.opinion().Verdict.String())
			agree += toInt(v.opinion().Verdict == b.decided.Verdict)
		}
		return true
	})
	if len(votes) == 0 {
		return ""
	}
	slices.Sort(votes)
	shown := fmt.Sprintf("%d of %s: ", agree, text.Count(len(votes), "vote"))
	if more := len(votes) - maxNamedVoters; more > 0 {
		return shown + fmt.Sprintf("%s and %d more", strings.Join(votes[:maxNamedVoters], ", "), more)
	}
	return shown + strings.Join(votes, ", ")
}

const maxNamedVoters = 8 // in a line of the log

// Summary is what scrapes read about an endpoint.
type Summary uint32

const (
	summaryBits      = 8 // for each of the three counts
	summaryProbing   = 1 << 24
	summaryDiffer    = 1 << 25
	summaryUndecided = 1 << 26
)

// Votes returns how many valid votes there are for up and down.
func (s Summary) Votes() (up, down int) { return int(s & 0xff), int(s >> summaryBits & 0xff) }

// Probing reports whether this replica probes the endpoint.
func (s Summary) Probing() bool { return s&summaryProbing != 0 }

// Differ reports whether valid votes differ.
func (s Summary) Differ() bool { return s&summaryDiffer != 0 }

// Undecided reports whether there are valid votes and they make no quorum.
func (s Summary) Undecided() bool { return s&summaryUndecided != 0 }

// Summary returns what is known about the votes on an endpoint by its number. Safe for concurrent
// use, without a lock.
func (s *Share) Summary(n uint32) Summary { return Summary(s.tables.Load().get(n)) }

// summary returns the summary of an endpoint whose votes have just been collected.
func (s *Share) summary(n uint32) uint32 {
	var count [4]uint32
	for _, v := range s.votes {
		count[v]++
	}
	sum := min(count[Up], 0xff) | min(count[Down], 0xff)<<summaryBits
	if s.ballots[n].probing {
		sum |= summaryProbing
	}
	if len(s.votes) > 0 && differ(s.votes) {
		sum |= summaryDiffer
	}
	if s.disputes[n].tied {
		sum |= summaryUndecided
	}
	return sum
}

// foreignKey identifies a check of another replica that this one does not have.
type foreignKey struct {
	sender uint64
	check  CheckID
}

// foreignCheck is a check of another replica that this one does not have.
type foreignCheck struct {
	name string
	at   time.Duration
}

const (
	maxForeign  = 1024
	foreignLast = 5 * time.Minute
)

// noteForeign notes a heartbeat about a check that this replica does not have. The caller holds the
// lock.
func (f *Fleet) noteForeign(h header, r reader) {
	for {
		k, content, more := r.section()
		if !more {
			return
		}
		if k != kindBeat {
			continue
		}
		content.take(1 + 8)
		content.uvarint()
		name := content.text(maxName)
		key := foreignKey{h.sender, h.check}
		if _, known := f.foreign[key]; !content.bad && (known || len(f.foreign) < maxForeign) && f.isOther(h.sender) {
			f.foreign[key] = foreignCheck{name, f.now()}
		}
	}
}

// foreigners returns the checks of live replicas that this one does not have, and forgets the
// others. The caller holds the lock.
func (f *Fleet) foreigners() (all []Foreign) {
	names := make(map[uint64]string)
	for _, m := range f.members {
		names[keyOf(m.Name)] = m.Name
	}
	for key, c := range f.foreign {
		name, live := names[key.sender]
		if !live || f.now()-c.at > foreignLast || f.shares[key.check] != nil {
			delete(f.foreign, key)
			continue
		}
		all = append(all, Foreign{name, c.name})
	}
	slices.SortFunc(all, func(a, b Foreign) int {
		if a.Replica != b.Replica {
			return strings.Compare(a.Replica, b.Replica)
		}
		return strings.Compare(a.Check, b.Check)
	})
	return all
}
