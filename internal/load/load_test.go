// SPDX-License-Identifier: Apache-2.0

package load

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

var limits = Limits{Floor: 0.1, TTL: 30 * time.Second, Interval: 5 * time.Second}

func addr(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) }

// walk steps through time, an interval at a time, with the reports of each step.
func walk(state *State, begin, steps int, reports func(step int) []Member) *State {
	for step := begin; step < begin+steps; step++ {
		members := reports(step)
		for i := range members {
			members[i].Addr, members[i].Weight = addr(i), 1
		}
		state = state.Next(time.Unix(0, 0).Add(time.Duration(step)*limits.Interval), members, limits)
	}
	return state
}

// always has the members say the same all the time.
func always(kind Kind, values ...float64) func(int) []Member {
	var members []Member
	for _, v := range values {
		members = append(members, Member{Report: Report{kind, v}})
	}
	return func(int) []Member { return members }
}

func (s *State) percents() (all []int) {
	for i := range s.members {
		all = append(all, s.Percent(addr(i)))
	}
	return all
}

// Equal utilisations leave static weights. A busy member's factor falls by at most a quarter in a
// TTL.
func TestUtilisation(t *testing.T) {
	const perTTL = 6
	for _, equal := range []float64{0, 0.5, 3} {
		if got := walk(nil, 0, 100, always(Utilisation, equal, equal, equal)).percents(); !slices.Equal(got, []int{100, 100, 100}) {
			t.Errorf("all %v busy: factors %v, want 100", equal, got)
		}
	}
	state := walk(nil, 0, perTTL+1, always(Utilisation, 0.9, 0.3, 0.3))
	if got := state.percents(); got[0] < 75 || got[0] > 85 || got[1] != 100 || got[2] != 100 {
		t.Errorf("one is busy: factors %v after a TTL, want 75 to 85, 100, 100", got)
	}
	state = walk(state, perTTL+1, 20*perTTL, always(Utilisation, 0.9, 0.3, 0.3))
	if got := state.percents(); !slices.Equal(got, []int{10, 100, 100}) {
		t.Errorf("one stays busy: factors %v in the end, want 10, 100, 100", got)
	}
}

// An agent's percentage is the factor, divided by the largest.
func TestShare(t *testing.T) {
	for _, tc := range []struct {
		says []float64
		want []int
	}{
		{[]float64{1, 1, 1}, []int{100, 100, 100}},
		{[]float64{0.5, 0.5, 0.5}, []int{100, 100, 100}},
		{[]float64{0.8, 0.4, 0.2}, []int{100, 50, 25}},
		{[]float64{1, 0.02, 0}, []int{100, 10, 10}},
		{[]float64{0, 0, 0}, []int{100, 100, 100}},
	} {
		got := walk(nil, 0, 200, always(Share, tc.says...)).percents()
		for i := range got {
			if math.Abs(float64(got[i]-tc.want[i])) > 1 {
				t.Errorf("%v: factors %v, want %v", tc.says, got, tc.want)
				break
			}
		}
	}
}

// A member that recovers gets its whole weight again, whatever it had.
func TestRecovery(t *testing.T) {
	for percent := 10; percent < 100; percent++ {
		state := walk(nil, 0, 100, always(Share, float64(percent)/100, 1))
		if got := walk(state, 100, 100, always(Share, 1, 1)).percents(); got[0] != 100 {
			t.Errorf("after %d %%: factor %d, want 100", percent, got[0])
		}
	}
}

// A member without a valid report for three intervals goes to the mean of the others at the same
// rate, and never above what it had.
func TestSilence(t *testing.T) {
	says := func(silentFrom int, age time.Duration, member int, values ...float64) func(int) []Member {
		return func(step int) []Member {
			reports := slices.Clone(always(Share, values...)(step))
			if step >= silentFrom {
				reports[member].Age = age
			}
			return reports
		}
	}
	late, tooLate := 3*limits.Interval, 3*limits.Interval+time.Second
	tests := []struct {
		name    string
		reports func(int) []Member
		member  int
		want    int
	}{
		{"late, but valid", says(0, late, 0, 1, 0.5, 0.5), 0, 100},
		{"high, then silent", says(60, tooLate, 0, 1, 0.5, 0.5), 0, 75}, // the others rise meanwhile
		{"low, then silent", says(60, tooLate, 2, 1, 1, 0.3), 2, 30},
		{"in between", says(60, tooLate, 1, 1, 0.8, 0.2), 1, 60},
		{"never", func(int) []Member { return []Member{{}, {Report: Report{Share, 1}}, {Report: Report{Share, 0.4}}} }, 0, 70},
		{"alone", func(int) []Member { return []Member{{}} }, 0, 100},
	}
	for _, tc := range tests {
		if got := walk(nil, 0, 300, tc.reports).Percent(addr(tc.member)); math.Abs(float64(got-tc.want)) > 1 {
			t.Errorf("%s: factor %d, want %d", tc.name, got, tc.want)
		}
	}
	// If all fall silent, they become equal, so weights are static again.
	state := walk(nil, 0, 100, always(Share, 1, 0.5, 0.25))
	state = walk(state, 100, 400, always(Nothing, 0, 0, 0))
	if got := state.percents(); slices.Max(got)-slices.Min(got) > 1 {
		t.Errorf("all silent: factors %v, want equal ones", got)
	}
}

// Whatever is said, and whoever comes and goes, a factor is from FLOOR to 1, and changes by at most
// a quarter in a TTL.
func TestBounds(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // no secret
	for range 400 {
		limits := Limits{Floor: 0.01 + 0.99*random.Float64(), TTL: []time.Duration{0, time.Second, time.Minute, 7 * 24 * time.Hour}[random.IntN(4)], Interval: time.Duration(1+random.IntN(30)) * time.Second}
		var state *State
		now, factors := time.Unix(0, 0), make(map[netip.Addr]float64)
		for range 100 {
			elapsed := time.Duration(random.IntN(20_000)-1000) * time.Millisecond // clocks are set back
			now = now.Add(elapsed)
			ttls := max(elapsed, 0).Seconds() / max(limits.TTL, shortest*limits.Interval).Seconds()
			members := randomMembers(random)
			state = state.Next(now, members, limits)
			maps.DeleteFunc(factors, func(addr netip.Addr, _ float64) bool { return state.find(addr) == nil }) // gone for long
			for _, m := range members {
				was, known := factors[m.Addr]
				if !known {
					was = 1
				}
				is := state.find(m.Addr).factor
				if !(is >= limits.Floor-1e-9 && is <= 1 && is <= was*math.Pow(1.25, ttls)+1e-9 && (is >= was*math.Pow(0.75, ttls)-1e-9 || is == limits.Floor)) {
					t.Fatalf("factor %v after %v, in %v TTLs, with floor %v", is, was, ttls, limits.Floor)
				}
				if p := state.Percent(m.Addr); p < 1 || p > 100 || math.Abs(float64(p)-100*is) > 2.5 {
					t.Fatalf("%d %% in force for a factor of %v", p, is)
				}
				factors[m.Addr] = is
			}
		}
	}
}

// randomMembers are some of eight, with reports that are at times extreme.
func randomMembers(random *rand.Rand) (members []Member) {
	values := []float64{0, math.SmallestNonzeroFloat64, 1e-300, 0.5, 1, 10, math.MaxFloat64, random.ExpFloat64()}
	for i := range 8 {
		if random.IntN(4) == 0 {
			continue
		}
		members = append(members, Member{
			Addr: addr(i), Group: uint16(random.IntN(2)), Weight: []float64{0, 1, 2, math.MaxUint16}[random.IntN(4)],
			Ramp: []float64{0, 0.001, 0.1, 1}[random.IntN(4)], Report: Report{Kind(random.IntN(int(kinds))), values[random.IntN(len(values))]},
			Age: time.Duration(random.IntN(100)) * time.Second,
		})
	}
	return members
}

// A member that is missing in some answers, because the upstream returns some of many, keeps its
// factor. Of one that is gone for long, nothing is known, and no more are known than may come back.
func TestMembersThatComeBack(t *testing.T) {
	step, state := 0, (*State)(nil)
	next := func(members ...Member) {
		step++
		state = state.Next(time.Unix(0, 0).Add(time.Duration(step)*limits.Interval), members, limits)
	}
	idle, busy := Member{Addr: addr(0), Weight: 1, Report: Report{Share, 1}}, Member{Addr: addr(1), Weight: 1, Report: Report{Share, 0.2}}
	for range 200 {
		next(idle, busy)
		next(idle)
	}
	next(idle, busy)
	if got := state.Percent(busy.Addr); got > 25 {
		t.Errorf("a member that is there at times has a factor of %d, want about 20", got)
	}
	for range 100 {
		next(idle)
	}
	next(idle, busy)
	if got := state.Percent(busy.Addr); got < 90 {
		t.Errorf("a member that was gone for long has a factor of %d, want that of a new one", got)
	}
	for i := range 200 {
		next(Member{Addr: addr(i), Weight: 1})
	}
	if got := state.Len(); got > 1+maxGone {
		t.Errorf("%d members are known of an RRset with one, want at most %d", got, 1+maxGone)
	}
}

// Members of other groups, and those without traffic, change nothing for a member.
func TestGroups(t *testing.T) {
	run := func(others ...Member) int {
		var state *State
		for step := range 200 {
			members := append([]Member{
				{Addr: addr(0), Weight: 1, Report: Report{Share, 0.5}},
				{Addr: addr(1), Weight: 1, Report: Report{Share, 1}},
			}, others...)
			state = state.Next(time.Unix(int64(5*step), 0), members, limits)
		}
		return state.Percent(addr(0))
	}
	for _, other := range []Member{
		{Addr: addr(2), Group: 1, Weight: 1, Report: Report{Share, 0.1}},
		{Addr: addr(2), Group: 0, Weight: 0, Report: Report{Share, 10}},
	} {
		if got, want := run(other), run(); got != want {
			t.Errorf("with %+v the factor is %d, want %d", other, got, want)
		}
	}
}

// A member without traffic keeps its factor: drained, it has nothing to do, and that says nothing.
func TestWithoutTraffic(t *testing.T) {
	state := walk(nil, 0, 100, always(Utilisation, 0.5, 1.0))
	before := state.Percent(addr(1))
	for step := range 100 {
		state = state.Next(time.Unix(int64(500+5*step), 0), []Member{
			{Addr: addr(0), Weight: 1, Report: Report{Utilisation, 0.9}},
			{Addr: addr(1), Weight: 0, Report: Report{Utilisation, 0}},
		}, limits)
	}
	if got := state.percents(); got[1] != before || got[0] != 100 {
		t.Errorf("factors %v, want 100 and %d", got, before)
	}
}

func BenchmarkNext(b *testing.B) {
	for _, n := range []int{3, 100} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			members := make([]Member, n)
			for i := range members {
				members[i] = Member{Addr: addr(i), Weight: 1, Report: Report{Utilisation, float64(i) / 100}}
			}
			var state *State
			now := time.Unix(0, 0)
			for b.Loop() {
				now = now.Add(time.Second)
				state = state.Next(now, members, limits)
			}
		})
	}
}
