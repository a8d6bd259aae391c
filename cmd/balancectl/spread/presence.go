// SPDX-License-Identifier: Apache-2.0

package spread

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// presence is who is in the answers, from one round of questions to the next. Owned by one
// goroutine.
type presence struct {
	began   time.Time
	rcode   string // of the last round that was answered
	ttl     string
	trouble string // why the last round had no answer; empty: it had
	members map[string]*attendance
}

// attendance is when a member was there.
type attendance struct {
	there  bool
	since  time.Time     // when it came or went
	before time.Duration // that it was there until it last came or went
	left   int           // times that it went
}

// event is what changed.
type event struct {
	At     time.Time `json:"at"`
	Event  string    `json:"event"` // came, went, rcode, ttl, silent, answers
	Member string    `json:"member,omitempty"`
	Detail string    `json:"detail,omitempty"`
}

// sight is what a round of questions showed.
type sight struct {
	at      time.Time
	members []string // each once
	rcode   string   // frequencies
	ttl     string
	trouble string // why there was no answer at all; the rest is empty then
}

// after adds a round and returns what changed. A round without an answer does not change which
// members are present, because it shows nothing about them.
func (p *presence) after(s sight) (events []event) {
	if p.members == nil {
		p.began, p.members = s.at, map[string]*attendance{}
	}
	note := func(what, member, detail string) { events = append(events, event{s.at, what, member, detail}) }
	if s.trouble != "" {
		if p.trouble != s.trouble {
			note("silent", "", s.trouble)
		}
		p.trouble = s.trouble
		return events
	}
	if p.trouble != "" {
		note("answers", "", "again")
	}
	p.trouble = ""
	p.attend(s, note)
	compare := func(what string, before *string, now string) {
		if now == "" || now == *before {
			return
		}
		if *before != "" {
			note(what, "", fmt.Sprintf("%s, was %s", now, *before))
		}
		*before = now
	}
	compare("rcode", &p.rcode, s.rcode)
	compare("ttl", &p.ttl, s.ttl)
	return events
}

// attend notes who came and who went.
func (p *presence) attend(s sight, note func(what, member, detail string)) {
	for _, name := range slices.Sorted(maps.Keys(p.members)) {
		m := p.members[name]
		if m.there && !slices.Contains(s.members, name) {
			was := s.at.Sub(m.since)
			note("went", name, "was there for "+briefly(was))
			*m = attendance{since: s.at, before: m.before + was, left: m.left + 1}
		}
	}
	for _, name := range s.members {
		m := p.members[name]
		switch {
		case m == nil:
			p.members[name] = &attendance{there: true, since: s.at}
			note("came", name, "")
		case !m.there:
			note("came", name, "was away for "+briefly(s.at.Sub(m.since)))
			*m = attendance{there: true, since: s.at, before: m.before, left: m.left}
		}
	}
}

// summary returns a line for each member: how long it was there until now.
func (p *presence) summary(now time.Time) (lines []string) {
	total := now.Sub(p.began)
	for _, name := range slices.Sorted(maps.Keys(p.members)) {
		m := p.members[name]
		there := m.before
		if m.there {
			there += now.Sub(m.since)
		}
		lines = append(lines, fmt.Sprintf("%s was there for %s of %s and went %s", name, briefly(there), briefly(total), counted(m.left, "time", "")))
	}
	return lines
}

// briefly returns a time in few digits.
func briefly(d time.Duration) string {
	if d < time.Minute {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
