// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/seed-f1518d44/balance/internal/weights"
)

// newWeighted returns a group with the policy weighted, whose answers hold wanted members.
func newWeighted(members []member, weights []uint16, wanted int) *group {
	return &group{members: members, weights: weights, policy: weighted{}, schedule: weighted{}.schedule(contest{members, weights, wanted})}
}

// leadsFrom returns the indexes of the members that lead at some turns.
func leadsFrom(g *group, turn uint64, turns int) []int {
	leads := make([]int, turns)
	idx := make([]uint16, len(g.members))
	for i := range leads {
		g.schedule.order(turn+uint64(i), idx) //nolint:gosec // positive
		leads[i] = int(idx[0])
	}
	return leads
}

// sequence writes the leads as letters.
func sequence(g *group, turn uint64, turns int) string {
	var b strings.Builder
	for _, lead := range leadsFrom(g, turn, turns) {
		b.WriteByte(byte('a' + lead))
	}
	return b.String()
}

func TestWeightedSequence(t *testing.T) {
	tests := []struct {
		weights []uint16
		want    string
	}{
		{[]uint16{5, 1, 1}, "aabacaaaabacaa"},
		{[]uint16{50, 10, 10}, "aabacaaaabacaa"},
		{[]uint16{3, 1, 2}, "acabcaacabca"},
		{[]uint16{1, 1, 1}, "abcabc"},
		{[]uint16{7, 7, 7}, "abcabc"},
		{[]uint16{1, 2}, "bab" + "bab"},
		{[]uint16{9}, "aaa"},
	}
	for _, tc := range tests {
		t.Run(fmt.Sprint(tc.weights), func(t *testing.T) {
			if got := sequence(newWeighted(membersOf(len(tc.weights)), tc.weights, len(tc.weights)), 0, len(tc.want)); got != tc.want {
				t.Errorf("leads %s, want %s", got, tc.want)
			}
		})
	}
}

// randomWeights returns sets of weights of every size that differ in how far apart they lie, and
// the worst that we could think of.
func randomWeights() (sets [][]uint16) {
	rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // repeatable
	for _, highest := range []int{2, 10, 255, weights.Max} {
		for _, size := range []int{2, 3, 5, 8, 20} {
			weights := make([]uint16, size)
			for i := range weights {
				weights[i] = uint16(1 + rng.IntN(highest)) //nolint:gosec // 16 bits
			}
			sets = append(sets, weights)
		}
	}
	return append(sets, []uint16{65535, 1}, []uint16{1, 65535, 1}, []uint16{65521, 65519, 65497, 2},
		[]uint16{1, 1, 1, 1, 1, 1, 1, 65535}, []uint16{40009, 1, 40009, 1, 40009})
}

// Over any W/gcd answers every member leads exactly weight/gcd times, and over any number of them
// it is at most two leads from its share.
func TestWeightedIsExactAndSmooth(t *testing.T) {
	for _, weights := range randomWeights() {
		t.Run(fmt.Sprint(weights), func(t *testing.T) {
			g := newWeighted(membersOf(len(weights)), weights, len(weights))
			shares, cycle := sharesOf(weights)
			leads := leadsFrom(g, 0, 2*cycle)
			count := make([]int, len(weights))
			lowest, highest := make([]float64, len(weights)), make([]float64, len(weights))
			for turn, lead := range leads {
				count[lead]++
				if gone := turn - cycle; gone >= 0 {
					count[leads[gone]]--
					if !slices.Equal(count, shares) {
						t.Fatalf("the %d answers up to turn %d lead %v times, want %v", cycle, turn, count, shares)
					}
					continue
				}
				for i := range count {
					off := float64(count[i]) - float64(turn+1)*float64(shares[i])/float64(cycle)
					lowest[i], highest[i] = min(lowest[i], off), max(highest[i], off)
				}
			}
			for i := range weights {
				if off := highest[i] - lowest[i]; off > 2*maxDeviation {
					t.Errorf("member %d is up to %.2f leads from its share over some answers, want at most %v", i, off, 2*maxDeviation)
				}
			}
		})
	}
}

// maxDeviation is how far, in leads, a member may be from its share since the start of a cycle.
const maxDeviation = 1.5

// sharesOf divides weights by their greatest common divisor, and sums them up.
func sharesOf(weights []uint16) (shares []int, cycle int) {
	divisor := uint64(0)
	for _, w := range weights {
		divisor = gcd(divisor, uint64(w))
	}
	for _, w := range weights {
		shares = append(shares, int(w)/int(divisor)) //nolint:gosec // 16 bits
		cycle += shares[len(shares)-1]
	}
	return shares, cycle
}

func TestStrideTreeTurnOf(t *testing.T) {
	first := []uint64{0, 65521, 65522, 131000, 131007, 131020}
	tree := newStrideTree(first)
	for turn := uint64(0); turn < first[len(first)-1]; turn++ {
		if cell := tree.cell(turn); tree.turnOf(cell) != turn {
			t.Fatalf("turn %d leads with cell %d, which leads at turn %d", turn, cell, tree.turnOf(cell))
		}
	}
}

// Where answers hold fewer members than there are, each appears in proportion to its weight, never
// twice in an answer, and the leads stay what they are.
func TestWeightedAnswers(t *testing.T) {
	for _, weights := range [][]uint16{
		{5, 1, 1}, {3, 1, 2, 2}, {1, 1, 1, 1, 1}, {100, 99, 98, 97}, {9, 8, 7, 1, 1, 1, 1}, {2000, 3, 5, 7}, {1000, 999, 998},
		{40, 30, 20, 10, 9, 8, 7, 6, 5, 4},
	} {
		for wanted := 1; wanted < len(weights); wanted++ {
			t.Run(fmt.Sprint(wanted, " of ", weights), func(t *testing.T) {
				checkShares(t, weights, wanted)
			})
		}
	}
}

func checkShares(t *testing.T, weights []uint16, wanted int) {
	t.Helper()
	members := membersOf(len(weights))
	g, whole := newWeighted(members, weights, wanted), newWeighted(members, weights, len(weights))
	_, cycle := sharesOf(weights)
	want, rest := inclusions(weights, wanted)
	turns := cycle * rest
	appear := make([]int, len(weights))
	idx, all := make([]uint16, wanted), make([]uint16, len(weights))
	for turn := range uint64(turns) { //nolint:gosec // positive
		g.schedule.order(turn, idx)
		whole.schedule.order(turn, all)
		if idx[0] != all[0] {
			t.Fatalf("turn %d leads with %d where all answer, but with %d where %d do", turn, all[0], idx[0], wanted)
		}
		for i, m := range idx {
			if slices.Contains(idx[:i], m) {
				t.Fatalf("turn %d answers with a member twice: %v", turn, idx)
			}
			appear[m]++
		}
	}
	for i := range weights {
		if got := float64(appear[i]) / float64(turns); got < want[i]-1e-9 || got > want[i]+1e-9 {
			t.Errorf("member %d appears in %.4f of the answers, want %.4f", i, got, want[i])
		}
	}
}

// inclusions returns the share of answers that each member is to appear in, worked out the plain
// way, and what the weights of those that are not in every answer sum up to.
func inclusions(weights []uint16, wanted int) (shares []float64, rest int) {
	shares = make([]float64, len(weights))
	places := wanted
	for again := true; again; {
		again = false
		rest = 0
		for i, w := range weights {
			if shares[i] < 1 {
				rest += int(w)
			}
		}
		for i, w := range weights {
			if shares[i] < 1 && places > 1 && int(w)*places >= rest && isHeaviest(weights, shares, i) {
				shares[i], places, again = 1, places-1, true
				break
			}
		}
	}
	for i, w := range weights {
		if shares[i] < 1 {
			shares[i] = float64(places) * float64(w) / float64(rest)
		}
	}
	return shares, rest
}

func isHeaviest(weights []uint16, shares []float64, i int) bool {
	for j, w := range weights {
		if shares[j] < 1 && w > weights[i] {
			return false
		}
	}
	return true
}

// Weights that change over and over keep to the shares that they give, and hand nobody a burst: no
// member leads twice running that does not do so under steady weights.
func TestWeightedResume(t *testing.T) {
	members := membersOf(4)
	sets := [][]uint16{{3, 1, 2, 2}, {3, 1, 2, 3}, {4, 1, 2, 2}, {3, 2, 2, 3}}
	rng := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // repeatable
	g, turn, last, burst := newWeighted(members, sets[0], 4), uint64(0), -1, 0
	const answers, steady = 40000, 10
	count, want := make([]float64, 4), make([]float64, 4)
	for i := range answers {
		lead := leadsFrom(g, turn, 1)[0]
		turn++
		count[lead]++
		_, sum := sharesOf(g.weights)
		for i, w := range g.weights {
			want[i] += float64(w) / float64(sum)
		}
		if lead != last {
			burst = 0
		}
		if burst++; burst > 2 {
			t.Fatalf("member %d led %d answers running", lead, burst)
		}
		last = lead
		if i%steady == 0 {
			now := newWeighted(members, sets[rng.IntN(len(sets))], 4)
			turn = resume(now, g, turn)
			g = now
		}
	}
	for i := range members {
		if off := count[i]/want[i] - 1; off < -0.05 || off > 0.05 {
			t.Errorf("member %d led %.0f times in %d answers, want about %.0f", i, count[i], answers, want[i])
		}
	}
}

// A member that goes and comes back does not lead more often for it, and keeps nobody from leading.
func TestWeightedResumeOfMembers(t *testing.T) {
	all := newWeighted(membersOf(3), []uint16{1000, 1000, 999}, 3)
	left := newWeighted(membersOf(2), []uint16{1000, 1000}, 2)
	g, turn, count := all, uint64(0), make([]int, 3)
	for range 3000 {
		count[leadsFrom(g, turn, 1)[0]]++
		now := all
		if g == all {
			now = left
		}
		turn = resume(now, g, turn+1)
		g = now
	}
	if count[0] < 1000 || count[1] < 1000 || count[2] > 1100 {
		t.Errorf("the three led %v times while the third came and went", count)
	}
}

// A member that comes and goes as fast as answers do keeps no other from its leads, whatever the weights: those that stay have half of
// their shares at least.
func TestWeightedResumeStarvesNobody(t *testing.T) {
	const answers = 20000
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
		members := membersOf(len(tc.weights))
		all := newWeighted(members, tc.weights, len(members))
		left := newWeighted(slices.Delete(slices.Clone(members), tc.goes, tc.goes+1), slices.Delete(slices.Clone(tc.weights), tc.goes, tc.goes+1), len(members)-1)
		for period := 1; period <= 4; period++ {
			g, turn, count := all, uint64(0), make(map[member]float64)
			for i := range answers {
				count[g.leader(turn)]++
				turn++
				if i%period > 0 {
					continue
				}
				now := all
				if g == all {
					now = left
				}
				turn = resume(now, g, turn)
				g = now
			}
			sum := 0.0
			for _, w := range tc.weights {
				sum += float64(w)
			}
			for i, w := range tc.weights {
				share := answers * float64(w) / sum
				if got := count[members[i]]; i != tc.goes && got < share/2 {
					t.Errorf("weights %v, %d goes and comes every %d answers: %d leads %.0f of %d, want about %.0f", tc.weights, tc.goes, period, i, got, answers, share)
				}
			}
		}
	}
}

// Who returns to an only member leads, for that has just led.
func TestWeightedResumeBehindAnOnlyMember(t *testing.T) {
	members := membersOf(2)
	for _, weights := range [][]uint16{{2, 1}, {1, 2}, {1, 1}} {
		both := newWeighted(members, weights, 2)
		for light := range members {
			if weights[light] > 1 {
				continue
			}
			only := newWeighted(members[light:light+1], weights[light:light+1], 1)
			for turn := range uint64(20) {
				if got := both.leader(resume(both, only, turn)); got == members[light] {
					t.Errorf("weights %v, turn %d: %s leads once more", weights, turn, got.addr)
				}
			}
		}
	}
}

// Who returns to an only member that weighs more does not lead at once, but has its share: a cycle of one turn says nothing of where the
// next one stands. Those that come in place of an only member draw lots.
func TestWeightedResumeBehindAHeavyOne(t *testing.T) {
	members := membersOf(3)
	for _, weight := range []uint16{5, 100, 3000} {
		only, both := newWeighted(members[:1], []uint16{weight}, 1), newWeighted(members[:2], []uint16{weight, 1}, 2)
		const rounds = 200
		period := int(weight) / 5
		leads := 0
		for turn, round := uint64(0), 0; round < rounds; round++ {
			turn = resume(both, only, turn+1)
			for range period {
				if both.leader(turn) == members[1] {
					leads++
				}
				turn++
			}
			turn = resume(only, both, turn)
		}
		if share := rounds * period / (int(weight) + 1); leads < share/2 || leads > 2*share {
			t.Errorf("weights %d and 1: the light one, which comes for %d answers at a time, leads %d, want about %d", weight, period, leads, share)
		}
	}
	// Lots: of 3,000, a third is 1,000 with a standard deviation of 26.
	only, others, leads := newWeighted(members[:1], []uint16{1}, 1), newWeighted(members[1:], []uint16{1, 2}, 2), 0
	for turn := range uint64(3000) {
		if others.leader(resume(others, only, turn)) == members[1] {
			leads++
		}
	}
	if leads < 870 || leads > 1130 {
		t.Errorf("of two that come in its place the one of a third of the weights leads %d of 3,000 times", leads)
	}
}

// Over an upstream that has some other members in every answer each leads about as often as its weight is among those, answer by answer.
func TestWeightedResumeOfRandomSets(t *testing.T) {
	weights, members := []uint16{100, 50, 25, 10, 5, 1}, membersOf(6)
	rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // repeatable
	leads, want := make(map[member]float64), make(map[member]float64)
	var before *group
	turn := uint64(0)
	for range 30000 {
		some := rng.Perm(len(members))[:3]
		slices.Sort(some)
		now, sum := newWeighted(pick(members, some), pick(weights, some), len(some)), 0.0
		if before != nil {
			turn = resume(now, before, turn)
		}
		for _, i := range some {
			sum += float64(weights[i])
		}
		for _, i := range some {
			want[members[i]] += float64(weights[i]) / sum
		}
		leads[now.leader(turn)]++
		before = now
		turn++
	}
	for i, m := range members {
		if share := leads[m] / want[m]; share < 0.75 || share > 1.5 {
			t.Errorf("weight %d has %.2f of its share", weights[i], share)
		}
	}
}

// pick returns some of all.
func pick[T any](all []T, some []int) (picked []T) {
	for _, i := range some {
		picked = append(picked, all[i])
	}
	return picked
}

// The same weights in another file or after a reload change nothing at all.
func TestWeightedResumesTheSame(t *testing.T) {
	a, b := newWeighted(membersOf(3), []uint16{5, 1, 1}, 3), newWeighted(membersOf(3), []uint16{5, 1, 1}, 3)
	for turn := range uint64(20) {
		if got := resume(b, a, turn); got != turn {
			t.Fatalf("turn %d became %d", turn, got)
		}
	}
}

// From round robin to weights and back the member that was due leads.
func TestResumeAcrossPolicies(t *testing.T) {
	members := membersOf(3)
	rr := &group{members: members, weights: equalWeights(3), policy: roundRobin{}, schedule: roundRobin{}.schedule(contest{members: members})}
	for _, weights := range [][]uint16{{5, 1, 1}, {1, 1, 1}, {65535, 2, 7}} {
		w := newWeighted(members, weights, 3)
		for turn := range uint64(30) {
			there, back := resume(w, rr, turn), resume(rr, w, turn)
			if got, due := leadsFrom(w, there, 1), leadsFrom(rr, turn, 1); !slices.Equal(got, due) {
				t.Fatalf("to weights %v at turn %d: leads with %v, but %v was due", weights, turn, got, due)
			}
			if got, due := leadsFrom(rr, back, 1), leadsFrom(w, turn, 1); !slices.Equal(got, due) {
				t.Fatalf("from weights %v at turn %d: leads with %v, but %v was due", weights, turn, got, due)
			}
		}
	}
}
