// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-f1518d44/balance/internal/fleet"
	"github.com/seed-f1518d44/balance/internal/statuspage"
	"github.com/seed-f1518d44/balance/internal/text"
)

// What the page shows of the fleet.

// fleet puts the fleet of the rules that are shown into the document, if they are in one.
func (o *overview) fleet() {
	for i := range o.rules {
		if hub := o.rules[i].hub; hub != nil {
			s := hub.Snapshot()
			o.doc.Fleet, o.gone = shownFleet(s), s.Gone
			return
		}
	}
}

func shownFleet(s fleet.Snapshot) *statuspage.Fleet {
	shown := &statuspage.Fleet{
		Name: s.Name, Replica: s.Self, Alone: s.Alone, Probers: s.Probers, Quorum: s.Quorum, Skipped: s.Skipped, Lost: s.Lost,
		Replicas: []statuspage.Replica{}, Checks: []statuspage.FleetCheck{}, Foreign: []statuspage.ForeignCheck{},
	}
	for _, m := range s.Members {
		if len(shown.Replicas) == maxShownReplicas && m.Name != s.Self {
			shown.ReplicasOmitted++
			continue
		}
		shown.Replicas = append(shown.Replicas, shownReplica(m))
	}
	for _, c := range s.Checks {
		shown.Checks = append(shown.Checks, statuspage.FleetCheck{
			Name: c.Name, Replicas: c.Replicas, Endpoints: c.Endpoints, Probing: c.Probing, Differ: c.Disagreeing, Lasting: c.Lasting,
			Undecided: c.Undecided, Unvoted: c.Bare,
		})
	}
	for _, f := range s.Foreign[:min(len(s.Foreign), maxShownReplicas)] {
		differs := slices.ContainsFunc(s.Checks, func(c fleet.Shared) bool { return c.Name == f.Check })
		shown.Foreign = append(shown.Foreign, statuspage.ForeignCheck{Replica: f.Replica, Check: f.Check, Differs: differs})
	}
	return shown
}

func shownReplica(m fleet.Member) statuspage.Replica {
	shown := statuspage.Replica{
		Name: m.Name, Locality: m.Locality, Since: m.Since.UTC(), Doubts: m.Doubts, Alone: m.Alone, Checks: m.Checks, Votes: m.Votes,
	}
	if m.Addr.IsValid() {
		shown.Address = m.Addr.String()
	}
	return shown
}

// problemsOfFleet says what of the fleet needs attention.
func (o *overview) problemsOfFleet() {
	f := o.doc.Fleet
	if f == nil {
		return
	}
	if f.Alone {
		o.say("alone", "", fmt.Sprintf("fleet %s: alone: fewer than half of the replicas of a minute ago are there (%d), so this one goes by its own probes", f.Name, len(f.Replicas)+f.ReplicasOmitted))
	}
	if r := inFleet.current.Load(); r != nil && r.name == f.Name {
		for _, problem := range r.problems() {
			o.say("fleet", "", fmt.Sprintf("fleet %s: %s", f.Name, problem))
		}
	}
	o.problemsOfGone(f.Name, o.gone)
	o.problemsOfDoubt(f)
	for _, c := range f.Checks {
		if c.Lasting > 0 {
			o.say("disagreement", "", fmt.Sprintf("fleet %s: %s: replicas have disagreed on %d of %s for some intervals", f.Name, c.Name, c.Lasting, text.Count(c.Endpoints, "endpoint")))
		}
	}
	others := make(map[string][]string) // by check
	for _, c := range f.Foreign {
		if c.Differs {
			others[c.Check] = append(others[c.Check], c.Replica)
		}
	}
	for _, c := range f.Checks {
		if differing := others[c.Name]; len(differing) > 0 {
			o.say("not_shared", "", fmt.Sprintf("fleet %s: %s: not shared with %s, because its options there differ from those here", f.Name, c.Name, text.Brief(differing)))
		}
		delete(others, c.Name) // two checks may have one name
	}
}

const maxGoneShown = 5

// problemsOfGone says which replicas are missed, the last first.
func (o *overview) problemsOfGone(name string, gone []fleet.Gone) {
	for i, g := range slices.Backward(gone) {
		if i < len(gone)-maxGoneShown {
			o.say("fleet", "", fmt.Sprintf("fleet %s: %s failed or cannot be reached", name, text.Count(i+1, "more replica")))
			return
		}
		o.say("fleet", "", fmt.Sprintf("fleet %s: replica %s (%s) has failed or cannot be reached from here since %s", name, g.Name, g.Addr, g.Since.UTC().Format(time.RFC3339)))
	}
}

// problemsOfDoubt says which replicas doubt themselves.
func (o *overview) problemsOfDoubt(f *statuspage.Fleet) {
	var doubting []string
	for _, r := range f.Replicas {
		if r.Doubts {
			doubting = append(doubting, r.Name)
		}
	}
	if len(doubting) > 0 {
		o.say("fleet", "", fmt.Sprintf("fleet %s: replicas that doubt themselves, so that their votes do not count: %s; the log there says why", f.Name, text.Brief(doubting)))
	}
}

// votesOn returns how the fleet votes on an endpoint, nil without a fleet. The owner of the votes
// has to be asked for the voters, so only some endpoints have them.
func (o *overview) votesOn(s subscription, at netip.AddrPort) *statuspage.Votes {
	tally, ok := s.Tally(at)
	if !ok {
		return nil
	}
	shown := &statuspage.Votes{Probing: tally.Probing(), Differ: tally.Differ(), Voters: []statuspage.Voter{}}
	shown.Up, shown.Down = tally.Votes()
	if o.asked < maxVotersAsked || tally.Differ() && o.asked < 2*maxVotersAsked {
		o.asked++
		for _, v := range s.Voters(at) {
			shown.Voters = append(shown.Voters, statuspage.Voter{Replica: v.Replica, Vote: v.Opinion.Verdict.String(), Assigned: v.Assigned, Counts: v.Counts})
		}
	}
	return shown
}
