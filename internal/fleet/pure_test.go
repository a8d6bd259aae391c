// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// rankingOf returns a ranking of replicas r0, r1, ... in localities.
func rankingOf(places ...uint16) *ranking {
	var all []candidate
	for i, place := range places {
		all = append(all, candidate{key: keyOf(fmt.Sprintf("r%d", i)), locality: place, peer: uint16(i)})
	}
	r := new(ranking)
	r.set(all, len(places))
	return r
}

// Each replica is assigned to an equal part of the endpoints.
func TestAssignedEvenly(t *testing.T) {
	const replicas, all = 9, 9000
	r, count := rankingOf(make([]uint16, replicas)...), [replicas]int{}
	for _, at := range endpoints(all) {
		assigned := r.first(hashOf(at), 3, nil)
		if len(assigned) != 3 || assigned[0] == assigned[1] || assigned[1] == assigned[2] || assigned[0] == assigned[2] {
			t.Fatalf("%v are assigned to %s", assigned, at)
		}
		for _, i := range assigned {
			count[i]++
		}
	}
	for i, n := range count {
		if n < all*3/replicas*9/10 || n > all*3/replicas*11/10 {
			t.Errorf("replica %d probes %d of %d, want about a third", i, n, all)
		}
	}
}

// Different localities come first, as far as there are any.
func TestAssignedLocalities(t *testing.T) {
	tests := []struct {
		places []uint16
		want   int // different localities among three
	}{
		{[]uint16{0, 0, 0, 0, 0}, 1},
		{[]uint16{0, 0, 0, 0, 1}, 2},
		{[]uint16{0, 0, 1, 1, 2, 2}, 3},
		{[]uint16{0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, 3},
		{[]uint16{0, 1}, 2},
	}
	for _, tc := range tests {
		r := rankingOf(tc.places...)
		for _, at := range endpoints(500) {
			places := make(map[uint16]bool)
			assigned := r.first(hashOf(at), 3, nil)
			for _, i := range assigned {
				places[tc.places[i]] = true
			}
			if len(places) != tc.want || len(assigned) != min(3, len(tc.places)) {
				t.Fatalf("%v: %v are assigned to %s, in %d localities, want %d", tc.places, assigned, at, len(places), tc.want)
			}
		}
	}
}

// A replica that leaves hands over what it probed, and nothing else moves. The first n are the same
// however many are asked for.
func TestAssignedStays(t *testing.T) {
	const gone = 2
	before, after := rankingOf(0, 1, 2, 0, 1, 2), rankingOf(0, 1, 2, 0, 1, 2)
	after.set(slices.DeleteFunc(slices.Clone(after.candidates), func(c candidate) bool { return c.peer == gone }), 6)
	for _, at := range endpoints(2000) {
		was, is := before.first(hashOf(at), 3, nil), after.first(hashOf(at), 3, nil)
		if four := before.first(hashOf(at), 4, nil); !slices.Equal(four[:3], was) {
			t.Fatalf("first three of four %v, first three %v", four, was)
		}
		for _, i := range was {
			if i != gone && !slices.Contains(is, i) {
				t.Fatalf("%s: %v became %v without %d", at, was, is, gone)
			}
		}
		if !slices.Contains(was, gone) && !slices.Equal(was, is) {
			t.Fatalf("%s: %v became %v without %d", at, was, is, gone)
		}
	}
}

func TestQuorum(t *testing.T) {
	tests := []struct{ assigned, configured, want int }{
		{1, 0, 1}, {2, 0, 2}, {3, 0, 2}, {4, 0, 3}, {5, 0, 3},
		{3, 1, 1}, {3, 2, 2}, {3, 3, 2}, {2, 3, 2}, {1, 3, 1}, {5, 2, 2},
	}
	for _, tc := range tests {
		if got := quorumOf(tc.assigned, tc.configured); got != tc.want {
			t.Errorf("%d assigned, quorum %d: %d votes, want %d", tc.assigned, tc.configured, got, tc.want)
		}
	}
}

func TestTally(t *testing.T) {
	const n, u, d, s = None, Up, Down, NoSay
	tests := []struct {
		name   string
		votes  []Verdict
		quorum int
		last   Verdict
		want   Verdict
	}{
		{"no vote, no verdict", nil, 2, n, n},
		{"no vote keeps the last", nil, 2, d, d},
		{"the first vote counts", []Verdict{d}, 2, n, d},
		{"not against a last verdict", []Verdict{d}, 2, u, u},
		{"a majority", []Verdict{d, u, d}, 2, u, d},
		{"a majority as before", []Verdict{u, u, d}, 2, u, u},
		{"a tie keeps the last", []Verdict{u, d}, 2, d, d},
		{"a tie without a last", []Verdict{d, u}, 2, n, d},
		{"a quorum of one, both have it", []Verdict{u, d, d}, 1, u, u},
		{"a quorum of one, agreed", []Verdict{d}, 1, u, d},
		{"no say", []Verdict{s, s, u}, 2, u, s},
		{"three opinions", []Verdict{s, d, u}, 2, u, u},
	}
	for _, tc := range tests {
		if got := tally(tc.votes, tc.quorum, tc.last); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestCombined(t *testing.T) {
	drain, percent := Opinion{Verdict: Up, Drain: true}, func(share uint8) Opinion { return Opinion{Verdict: Up, Load: Percentage, Share: share} }
	tests := []struct {
		name string
		all  []Opinion
		last Opinion
		want Opinion
	}{
		{"nothing", []Opinion{{Verdict: Up}, {Verdict: Up}}, Opinion{}, Opinion{}},
		{"most drain", []Opinion{drain, drain, {Verdict: Up}}, Opinion{}, Opinion{Drain: true}},
		{"one drains", []Opinion{drain, {Verdict: Up}, {Verdict: Up}}, Opinion{Drain: true}, Opinion{}},
		{"half drain, as before", []Opinion{drain, {Verdict: Up}}, Opinion{Drain: true}, Opinion{Drain: true}},
		{"the median", []Opinion{percent(10), percent(90), percent(50)}, Opinion{}, Opinion{Load: Percentage, Share: 50}},
		{"one that got a report that is not valid", []Opinion{percent(10), {Verdict: Up, BadLoad: true}}, Opinion{}, Opinion{Load: Percentage, Share: 10, BadLoad: true}},
		{"of those that report", []Opinion{percent(10), {Verdict: Up}}, Opinion{}, Opinion{Load: Percentage, Share: 10}},
		{"no say says nothing", []Opinion{{Verdict: NoSay, Drain: true}}, Opinion{}, Opinion{}},
	}
	for _, tc := range tests {
		if got := combined(tc.all, tc.last); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

func TestCensus(t *testing.T) {
	type change struct {
		at            time.Duration
		live, inOrder int
	}
	const s = time.Second
	tests := []struct {
		name    string
		changes []change
		at      time.Duration
		want    bool
	}{
		{"at the start", nil, 0, false},
		{"one of one", []change{{0, 1, 0}}, time.Hour, false},
		{"five of ten: an even split", []change{{0, 10, 0}, {100 * s, 5, 0}}, 101 * s, false},
		{"four of ten", []change{{0, 10, 0}, {100 * s, 4, 0}}, 101 * s, true},
		{"four of ten, a minute later", []change{{0, 10, 0}, {100 * s, 4, 0}}, 161 * s, false},
		{"one after the other", []change{{0, 10, 0}, {100 * s, 7, 0}, {110 * s, 4, 0}}, 111 * s, true},
		{"one after the other, slowly", []change{{0, 10, 0}, {100 * s, 7, 0}, {161 * s, 4, 0}}, 162 * s, false},
		{"seven of ten leave in order", []change{{0, 10, 0}, {100 * s, 3, 7}}, 101 * s, false},
		{"seven leave in order, and two more do not", []change{{0, 10, 0}, {100 * s, 3, 7}, {101 * s, 1, 0}}, 102 * s, true},
		{"it is back", []change{{0, 10, 0}, {100 * s, 1, 0}, {110 * s, 9, 0}}, 111 * s, false},
		{"one of two", []change{{0, 2, 0}, {100 * s, 1, 0}}, 101 * s, false},
		{"grown a moment ago", []change{{0, 1, 0}, {100 * s, 9, 0}, {101 * s, 3, 0}}, 102 * s, false},
	}
	for _, tc := range tests {
		var c census
		for _, one := range tc.changes {
			c = c.after(one.live, one.inOrder, one.at)
		}
		if got := c.alone(tc.at); got != tc.want {
			t.Errorf("%s: alone %v, want %v", tc.name, got, tc.want)
		}
	}
}

// However often members change, a census stays small.
func TestCensusIsBounded(t *testing.T) {
	var c census
	for i := range 10_000 {
		c = c.after(i%100, 0, time.Duration(i)*time.Millisecond)
	}
	if len(c.history) > maxCensus+1 {
		t.Errorf("%d counts are kept", len(c.history))
	}
}

func TestDoubt(t *testing.T) {
	const s = time.Second
	var d doubt
	step := func(contradicted bool, now time.Duration, want bool) {
		t.Helper()
		if d = d.after(contradicted, 5*s, now); d.now != want {
			t.Errorf("at %v: doubts %v, want %v", now, d.now, want)
		}
	}
	step(true, 1*s, false)
	step(true, 5*s, false)
	step(false, 5*s+1, false) // others have noticed the death too
	step(true, 10*s, false)
	step(true, 15*s, true)
	step(false, 16*s, true) // for an interval at least
	step(false, 20*s, false)
	d.overloaded = true
	step(false, 21*s, true)
	d.overloaded = false
	step(false, 26*s, false)
}

// The old votes of a replica that doubted itself are suspect until all that it found down was
// probed again, and some intervals at most.
func TestDoubtOutlastsItsCause(t *testing.T) {
	const s = time.Second
	var d doubt
	d.own[Up], d.own[Down] = 1, 9
	suspect := func(now time.Duration, want bool) {
		t.Helper()
		if got := d.mayBeWrong(5*s, now); got != want {
			t.Errorf("at %v: may be wrong %v, want %v", now, got, want)
		}
	}
	suspect(1*s, false) // something is up
	d.own[Up], d.own[Down] = 0, 10
	suspect(2*s, true)
	d = d.after(true, 5*s, 2*s)
	d = d.after(true, 5*s, 7*s)
	d.own[Up], d.own[Down] = 1, 9
	d = d.after(true, 5*s, 40*s)
	suspect(41*s, true)
	suspect(69*s, true)
	suspect(70*s, false)
	d = d.after(false, 5*s, 70*s)
	suspect(71*s, false)
}

// A ballot holds the last opinion of each peer, and is empty when all are taken back.
func TestBallot(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var b ballot
		want := make(map[uint16]Opinion)
		for range 200 {
			peer, o := uint16(rng.IntN(12)), Opinion{Verdict: Verdict(rng.IntN(4)), Share: 0}
			if !b.set(peer, o) {
				t.Fatal("no room")
			}
			want[peer] = o
			for peer := range uint16(12) {
				if got := b.of(peer); got != want[peer] {
					t.Fatalf("peer %d: %v, want %v", peer, got, want[peer])
				}
			}
		}
		for peer := range uint16(12) {
			b.set(peer, Opinion{})
		}
		if b != (ballot{}) {
			t.Fatalf("%+v is left", b)
		}
	}
	var b ballot
	for peer := range uint16(maxVotes) {
		b.set(peer, Opinion{Verdict: Up})
	}
	if b.set(maxVotes, Opinion{Verdict: Up}) {
		t.Error("there is room for any number of votes")
	}
}
