// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// listedState returns an RRset with lead counts.
func listedState(name string, members ...member) *entry {
	e := &entry{owner: name}
	p := &plan{members: members}
	e.state.Store(&state{plan: p, leads: newLeadCounts(e, p, nil)})
	return e
}

var twoMembers = []member{{host: "a"}, {host: "b"}}

// Leads count from the first answer on, over the last minute, whenever somebody looks.
func TestLedgerWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &listing{names: make(map[listedKey]*listedName)}
		e := listedState("www", twoMembers...)
		before := inUse
		inUse = l
		defer func() { inUse = before }()
		counted := func() []uint32 {
			l.update(time.Now())
			all := l.all()
			if len(all) != 1 {
				t.Fatalf("%d names are listed, want 1", len(all))
			}
			leads, others := all[0].inWindow(e.state.Load())
			return append(leads, others)
		}
		counts := e.state.Load().leads
		counts.count(1)
		counts.count(1)
		counts.countOther()
		if got := counted(); !slices.Equal(got, []uint32{0, 2, 1}) {
			t.Errorf("counted %v, want 0, 2 and 1 other", got)
		}
		for range 13 { // more than a minute
			wait(markInterval)
			counts.count(0)
			l.update(time.Now())
		}
		if got := counted(); !slices.Equal(got, []uint32{12, 0, 0}) {
			t.Errorf("counted %v after more than a minute, want the last 12 of one in 5 s", got)
		}
		wait(2 * leadWindow)
		l.update(time.Now())
		wait(2 * leadWindow)
		l.update(time.Now())
		if got := counted(); !slices.Equal(got, []uint32{0, 0, 0}) {
			t.Errorf("counted %v after minutes without an answer, want none", got)
		}
	})
}

// Counts go on where members come and go.
func TestLedgerFollowsMembers(t *testing.T) {
	a, b, c := member{host: "a"}, member{host: "b"}, member{host: "c"}
	e := listedState("www", a, b)
	before := e.state.Load()
	before.leads.leads[0].Store(3)
	before.leads.leads[1].Store(4)
	before.leads.others.Store(5)
	next := newLeadCounts(e, &plan{members: []member{b, c}}, before)
	if got := append(next.counts(), next.others.Load()); !slices.Equal(got, []uint32{4, 0, 5}) {
		t.Errorf("counts are %v, want 4, 0 and 5 others", got)
	}
}

// However many names are asked for, a bounded number is listed, and those in use are not pushed
// out.
func TestListingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &listing{names: make(map[listedKey]*listedName)}
		var all []*entry
		announce := func(from, to int) {
			for i := from; i < to; i++ {
				if i == len(all) {
					all = append(all, listedState(strconv.Itoa(i), twoMembers...))
				}
				all[i].state.Load().leads.leads[0].Add(1)
				l.announce(all[i].state.Load().leads)
			}
		}
		announce(0, 5*maxListed)
		if n := int(l.announced.Load()); n != maxAnnounced {
			t.Errorf("%d wait, want %d", n, maxAnnounced)
		}
		l.update(time.Now())
		if len(l.names) != maxListed || l.announced.Load() != 0 {
			t.Errorf("%d are listed and %d wait, want %d and none", len(l.names), l.announced.Load(), maxListed)
		}
		first := l.all()
		wait(leadWindow / 2)
		for _, n := range first[:maxListed/2] { // half are in use
			n.entry.state.Load().leads.leads[1].Add(1)
		}
		l.update(time.Now())
		wait(leadWindow/2 + time.Second)
		announce(5*maxListed, 6*maxListed)
		l.update(time.Now())
		if len(l.names) != maxListed {
			t.Errorf("%d are listed, want %d", len(l.names), maxListed)
		}
		for i, n := range first {
			if listed := n.entry.listed.Load(); listed != (i < maxListed/2) {
				t.Fatalf("name %d of %d is listed: %v, want those in use only", i, maxListed, listed)
			}
		}
		l.forget()
		if len(l.names) != 0 || first[0].entry.listed.Load() {
			t.Error("names are listed after the end")
		}
	})
}

// Rules without the option status have no counts.
func TestNoLedgerWithoutStatus(t *testing.T) {
	for stanza, want := range map[string]bool{"balance": false, "balance {\nstatus\n}": true} {
		name := fmt.Sprintf("counts-%v.example.org.", want)
		h := newHandler(t, stanza, answering(message(t, name+" A", name+" 60 IN A 192.0.2.1\n"+name+" 60 IN A 192.0.2.2")))
		ask(t, h, new(dns.Msg).SetQuestion(name, dns.TypeA))
		e := allTurns.entry(0, turnKey{where: inAnswer, rrtype: dns.TypeA, prefer: choice{line: noPreference}}, name)
		if s := e.state.Load(); s == nil || (s.leads != nil) != want || e.listed.Load() != want {
			t.Errorf("%s: state %+v, listed %v, want a leads: %v", stanza, s, e.listed.Load(), want)
		}
	}
	inUse.forget()
}

// Names with many members leave less room for others, and one that grows beyond it goes.
func TestListingIsBoundedByMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &listing{names: make(map[listedKey]*listedName)}
		var first *entry
		for i := range 100 {
			e := listedState(strconv.Itoa(i), make([]member, 1000)...)
			if l.announce(e.state.Load().leads); first == nil {
				first = e
			}
		}
		l.update(time.Now())
		if len(l.names) != maxMembers/1000 || l.members != maxMembers {
			t.Errorf("%d names with %d members, want %d with %d", len(l.names), l.members, maxMembers/1000, maxMembers)
		}
		for _, n := range l.all() {
			n.entry.state.Store(&state{plan: &plan{}, leads: newLeadCounts(n.entry, &plan{members: make([]member, 2000)}, nil)})
		}
		wait(markInterval)
		l.update(time.Now())
		if l.members > maxMembers || len(l.names) != maxMembers/2000 {
			t.Errorf("%d names with %d members after they grew, want %d", len(l.names), l.members, maxMembers/2000)
		}
		l.forget()
		if l.members != 0 || first.listed.Load() {
			t.Errorf("%d members after the end", l.members)
		}
	})
}

// A count goes on beyond its 32 bits; one that is below what it was by less was begun anew.
func TestSince(t *testing.T) {
	for _, tc := range []struct{ before, now, want uint32 }{
		{0, 0, 0}, {3, 10, 7}, {10, 3, 3}, {10, 0, 0}, {math.MaxUint32 - 9, 40, 50}, {1 << 30, 5, 5},
	} {
		if got := since(tc.before, tc.now); got != tc.want {
			t.Errorf("from %d to %d: %d, want %d", tc.before, tc.now, got, tc.want)
		}
	}
}
