// SPDX-License-Identifier: Apache-2.0

package spread

import (
	"time"

	"github.com/miekg/dns"
)

// tally counts replies to one question. Owned by one goroutine.
type tally struct {
	question dns.Question

	asked, answered, lost int
	truncated             int
	empty                 int // NOERROR without a member
	problems              map[string]int
	rcodes                map[int]int
	ttls                  map[uint32]int
	took                  []time.Duration // of those answered
	sets                  map[setID]*set
}

// set is what is known of a set.
type set struct {
	owner   string
	answers int
	members map[memberID]*member
}

// member counts where one stood.
type member struct {
	leads   int
	answers int // that hold it
	places  int // their sum, the lead being 1
}

func newTally(q dns.Question) *tally {
	return &tally{
		question: q,
		problems: map[string]int{}, rcodes: map[int]int{}, ttls: map[uint32]int{}, sets: map[setID]*set{},
	}
}

// add counts a reply.
func (t *tally) add(r reply) {
	t.asked++
	switch {
	case r.lost:
		t.lost++
		return
	case r.message == nil:
		t.problems[r.problem.Error()]++
		return
	}
	t.answered++
	if r.truncated {
		t.truncated++
	}
	t.took = append(t.took, r.took)
	t.rcodes[r.message.Rcode]++
	lineups := lineupsOf(r.message.Answer, t.question.Qtype)
	if len(lineups) == 0 {
		if r.message.Rcode == dns.RcodeSuccess {
			t.empty++
		}
		return
	}
	t.ttls[lineups[0].ttl]++
	for _, l := range lineups {
		t.place(l)
	}
}

// place counts who stood where.
func (t *tally) place(l lineup) {
	s := t.sets[l.set]
	if s == nil {
		s = &set{owner: l.owner, members: map[memberID]*member{}}
		t.sets[l.set] = s
	}
	s.answers++
	for i, id := range l.members {
		m := s.members[id]
		if m == nil {
			m = &member{}
			s.members[id] = m
		}
		if i == 0 {
			m.leads++
		}
		m.answers++
		m.places += i + 1
	}
}
