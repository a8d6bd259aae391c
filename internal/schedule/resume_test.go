// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// set is a schedule of some things, sorted, which other sets may have too.
type set struct {
	things  []int
	weights []uint16
	Schedule
}

// newWeighted returns a set of the things with the indexes of some weights, 0 being none.
func newWeighted(weights ...uint16) *set {
	s := &set{}
	for i, w := range weights {
		if w > 0 {
			s.things, s.weights = append(s.things, i), append(s.weights, w)
		}
	}
	s.Schedule = Weighted(s.weights, len(s.weights))
	return s
}

// resume returns the turn at which now continues for before.
func resume(now, before *set, turn uint64) uint64 {
	return now.Resume(before.Schedule, turn, func(item int) (int, bool) {
		at, found := slices.BinarySearch(now.things, before.things[item])
		return at % len(now.things), found
	})
}

// leader returns the thing that leads at a turn.
func (s *set) leader(turn uint64) int {
	order := make([]uint16, len(s.things))
	s.Order(turn, order)
	return s.things[order[0]]
}

// sequence writes the things that lead at some turns as letters.
func (s *set) sequence(turn uint64, turns int) string {
	var b strings.Builder
	for i := range turns {
		b.WriteByte(byte('a' + s.leader(turn+uint64(i))))
	}
	return b.String()
}

// Weights that change over and over keep to the shares that they give, and no item leads twice
// running that does not do so with steady weights.
func TestResumeWithOtherWeights(t *testing.T) {
	sets := [][]uint16{{3, 1, 2, 2}, {3, 1, 2, 3}, {4, 1, 2, 2}, {3, 2, 2, 3}}
	rng := rand.New(rand.NewPCG(3, 4))
	s, turn, last, burst := newWeighted(sets[0]...), uint64(0), -1, 0
	const answers, steady = 40000, 10
	count, want := make([]float64, 4), make([]float64, 4)
	for i := range answers {
		lead := s.leader(turn)
		turn++
		count[lead]++
		for i, w := range s.weights {
			want[i] += float64(w) / sum(s.weights)
		}
		if lead != last {
			burst = 0
		}
		if burst++; burst > 2 {
			t.Fatalf("%d led %d turns running", lead, burst)
		}
		last = lead
		if i%steady == 0 {
			now := newWeighted(sets[rng.IntN(len(sets))]...)
			turn, s = resume(now, s, turn), now
		}
	}
	for i := range count {
		if off := count[i]/want[i] - 1; off < -0.05 || off > 0.05 {
			t.Errorf("%d led %.0f of %d turns, want about %.0f", i, count[i], answers, want[i])
		}
	}
}

func sum(weights []uint16) (sum float64) {
	for _, w := range weights {
		sum += float64(w)
	}
	return sum
}

// An item that goes and comes back does not lead more often because of it.
func TestResumeGivesNoExtraLeads(t *testing.T) {
	all, left := newWeighted(1000, 1000, 999), newWeighted(1000, 1000)
	count := make([]int, 3)
	alternate(all, left, 1, 3000, func(lead int) { count[lead]++ })
	if count[0] < 1000 || count[1] < 1000 || count[2] > 1100 {
		t.Errorf("the three led %v times while the third came and went", count)
	}
}

// alternate takes some turns of two sets that replace each other every period turns.
func alternate(a, b *set, period, turns int, led func(lead int)) {
	turn := uint64(0)
	for i := range turns {
		led(a.leader(turn))
		turn++
		if i%period == 0 {
			turn = resume(b, a, turn)
			a, b = b, a
		}
	}
}

// An item that comes and goes as fast as turns do keeps no other from leading, whatever the
// weights: the others have at least half of their shares.
func TestResumeStarvesNobody(t *testing.T) {
	const turns = 20000
	for _, tc := range []struct {
		weights []uint16
		goes    int
	}{
		{[]uint16{100, 50, 25, 10}, 2},
		{[]uint16{5, 1, 1, 1}, 1},
		{[]uint16{5, 1, 1}, 2},
		{[]uint16{65535, 9000, 700, 2000}, 1},
		{[]uint16{7, 3, 2, 1}, 3},
		{[]uint16{2, 1, 1}, 0},
	} {
		left := slices.Clone(tc.weights)
		left[tc.goes] = 0
		for period := 1; period <= 4; period++ {
			count := make([]float64, len(tc.weights))
			alternate(newWeighted(tc.weights...), newWeighted(left...), period, turns, func(lead int) { count[lead]++ })
			for i, w := range tc.weights {
				share := turns * float64(w) / sum(tc.weights)
				if i != tc.goes && count[i] < share/2 {
					t.Errorf("weights %v, %d goes and comes every %d turns: %d leads %.0f of %d, want about %.0f", tc.weights, tc.goes, period, i, count[i], turns, share)
				}
			}
		}
	}
}

// An item that returns to an only one leads, because that one has just led.
func TestResumeAfterAnOnlyItem(t *testing.T) {
	for _, weights := range [][]uint16{{2, 1}, {1, 2}, {1, 1}} {
		both := newWeighted(weights...)
		for light := range weights {
			if weights[light] > 1 {
				continue
			}
			alone := make([]uint16, 2)
			alone[light] = 1
			only := newWeighted(alone...)
			for turn := range uint64(20) {
				if got := both.leader(resume(both, only, turn)); got == light {
					t.Errorf("weights %v, turn %d: %d leads once more", weights, turn, got)
				}
			}
		}
	}
}

// An item that returns to an only one that is heavier does not always lead at once, but has its
// share.
func TestResumeAfterAHeavyItem(t *testing.T) {
	for _, weight := range []uint16{5, 100, 3000} {
		only, both := newWeighted(weight), newWeighted(weight, 1)
		const rounds = 200
		period := int(weight) / 5
		leads := 0
		for turn, round := uint64(0), 0; round < rounds; round++ {
			turn = resume(both, only, turn+1)
			for range period {
				leads += both.leader(turn)
				turn++
			}
			turn = resume(only, both, turn)
		}
		if share := rounds * period / (int(weight) + 1); leads < share/2 || leads > 2*share {
			t.Errorf("weights %d and 1: the light one, which is there for %d turns at a time, leads %d, want about %d", weight, period, leads, share)
		}
	}
}

// One of two items that replace an only one leads at random, by weight. A third of 3,000 turns is
// 1,000 with a standard deviation of 26.
func TestResumeAfterAllHaveGone(t *testing.T) {
	only, others, leads := newWeighted(1, 0, 0), newWeighted(0, 1, 2), 0
	for turn := range uint64(3000) {
		if others.leader(resume(others, only, turn)) == 1 {
			leads++
		}
	}
	if leads < 870 || leads > 1130 {
		t.Errorf("the one with a third of the weights leads %d of 3,000 times", leads)
	}
}

// If every turn has a random half of the items, each leads about as often as its weight is among
// them.
func TestResumeOfRandomSets(t *testing.T) {
	weights := []uint16{100, 50, 25, 10, 5, 1}
	rng := rand.New(rand.NewPCG(1, 2))
	leads, want := make([]float64, len(weights)), make([]float64, len(weights))
	before, turn := newWeighted(weights...), uint64(0)
	for range 30000 {
		some := make([]uint16, len(weights))
		for _, i := range rng.Perm(len(weights))[:3] {
			some[i] = weights[i]
		}
		now := newWeighted(some...)
		turn = resume(now, before, turn)
		for i, w := range some {
			want[i] += float64(w) / sum(some)
		}
		leads[now.leader(turn)]++
		before = now
		turn++
	}
	for i := range weights {
		if share := leads[i] / want[i]; share < 0.75 || share > 1.5 {
			t.Errorf("weight %d has %.2f of its share", weights[i], share)
		}
	}
}

// From a rotation to weights and back the item that was due leads.
func TestResumeAcrossKinds(t *testing.T) {
	rotation := newWeighted(1, 1, 1)
	for _, weights := range [][]uint16{{5, 1, 1}, {1, 1, 1}, {65535, 2, 7}} {
		weighted := newWeighted(weights...)
		for turn := range uint64(30) {
			if got, due := weighted.leader(resume(weighted, rotation, turn)), rotation.leader(turn); got != due {
				t.Fatalf("to weights %v at turn %d: leads with %v, but %v was due", weights, turn, got, due)
			}
			if got, due := rotation.leader(resume(rotation, weighted, turn)), weighted.leader(turn); got != due {
				t.Fatalf("from weights %v at turn %d: leads with %v, but %v was due", weights, turn, got, due)
			}
		}
	}
}

// A rotation continues with the item that was due. If that has gone, it continues with the one
// after the last that led; so nobody leads twice running or is skipped.
func TestRotationResume(t *testing.T) {
	for _, tc := range []struct {
		before, now []uint16
		turn        uint64 // in before
		want        string
	}{
		{[]uint16{1, 1, 1, 1}, []uint16{1, 1, 0, 1}, 2, "dab"},
		{[]uint16{1, 1, 1, 1}, []uint16{1, 0, 1, 1}, 2, "cda"},
		{[]uint16{1, 1, 1, 1}, []uint16{0, 1, 1, 1}, 2, "cdb"},
		{[]uint16{1, 1, 1, 0}, []uint16{1, 1, 1, 1}, 2, "cda"},
		{[]uint16{0, 1, 1, 1}, []uint16{1, 1, 1, 1}, 3, "bcd"},
		{[]uint16{0, 1, 0, 0}, []uint16{1, 1, 1, 0}, 7, "cab"},
		{[]uint16{1, 1, 0, 0}, []uint16{0, 1, 0, 1}, 2, "dbd"},
	} {
		before, now := newWeighted(tc.before...), newWeighted(tc.now...)
		if got := now.sequence(resume(now, before, tc.turn), len(tc.want)); got != tc.want {
			t.Errorf("%v after %v at turn %d: leads %s, want %s", tc.now, tc.before, tc.turn, got, tc.want)
		}
	}
}
