// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// worlds are members of unequal power, with equal weights.
var worlds = []struct {
	name   string
	powers []float64
	demand float64
	settle float64 // TTLs
}{
	{"three members, one of half the power", []float64{2, 2, 1}, 0.6, 9},
	{"the same, at night", []float64{2, 2, 1}, 0.2, 9},
	{"the same, asked for more than the third can tell", []float64{2, 2, 1}, 0.9, 10},
	{"two members, one of a third of the power", []float64{3, 1}, 0.5, 10},
	{"four members, one of a third of the power", []float64{3, 3, 3, 1}, 0.6, 10},
	{"ten members of powers 1, 2 and 4", []float64{1, 1, 1, 1, 1, 2, 2, 2, 4, 4}, 0.6, 10},
	{"equal members", []float64{1, 1, 1, 1}, 0.6, 0},
}

// It settles to within a tenth of equal utilisation within ten TTLs, overshoots by at most a fifth,
// and does not oscillate, even if reports say what traffic was three TTLs ago. A TTL counts as
// three intervals at least.
func TestSettles(t *testing.T) {
	for _, world := range worlds {
		for late := range 4 {
			for _, ttl := range []time.Duration{interval, usualTTL, 5 * time.Minute} {
				unit := max(1, int(3*interval/ttl)) // in TTLs
				s := scenario{powers: world.powers, demand: world.demand, ttl: ttl, late: late * unit, ttls: lasts * unit}
				t.Run(fmt.Sprintf("%s, TTL %v, %d TTLs late", world.name, ttl, late), func(t *testing.T) {
					r := s.judge(s.run())
					if most := world.settle * float64(unit); r.settled > most {
						t.Errorf("settled after %.1f TTLs, want %.1f", r.settled, most)
					}
					if r.overshoot > 0.2 {
						t.Errorf("overshot by %.2f, want at most 0.2", r.overshoot)
					}
					if r.rest > 0.05 {
						t.Errorf("%.2f off in the second half, want at most 0.05", r.rest)
					}
				})
			}
		}
	}
}

// Reports that are wrong or missing never make a member busier than factors between FLOOR and 1
// can: that is all a liar can do. If nobody lies, it is never worse than with static weights.
func TestWrongReports(t *testing.T) {
	static := threeMembers("")
	static.static = true
	busiest := static.judge(static.run()).highest
	for _, tc := range []struct {
		scenario
		honest bool
	}{
		{threeMembers("noise").withNoise(0.3), true},
		{threeMembers("noise, late").withNoise(0.3).delayedBy(3), true},
		{threeMembers("the weak one is silent").saying(2, silent), true},
		{threeMembers("a strong one is silent").saying(0, silent), true},
		{threeMembers("the weak one says that it is idle").saying(2, idle), false},
		{threeMembers("a strong one says that it is idle").saying(0, idle), false},
		{threeMembers("the weak one says that it is busy").saying(2, busy), false},
		{threeMembers("a strong one says that it is busy").saying(0, busy), false},
		{threeMembers("a strong one says this and that").saying(0, fickle), false},
	} {
		for _, floor := range []float64{0.1, 0.5} {
			s := tc.scenario
			s.floor = floor
			t.Run(fmt.Sprintf("%s, floor %v", s.name, floor), func(t *testing.T) {
				r := s.judge(s.run())
				n := float64(len(s.powers))
				allowed := busiest * n / (1 + floor*(n-1)) // one factor 1, the others FLOOR
				if tc.honest {
					allowed = 1.02 * busiest // a cache more or less
				}
				if r.highest > allowed {
					t.Errorf("a member is asked for %.2f of what it can do, want at most %.2f; static weights ask for %.2f", r.highest, allowed, busiest)
				}
			})
		}
	}
}

// The same if members get slower while it runs, but it takes longer if nothing says so for three
// TTLs.
func TestSlowsDown(t *testing.T) {
	for _, world := range worlds {
		for late := range 4 {
			s := scenario{powers: world.powers, demand: world.demand, ttl: usualTTL, late: late, equal: lasts, ttls: 2 * lasts}
			most := []float64{10, 10, 10, 17}[late]
			if r := s.judge(s.run()); r.settled > most || r.overshoot > 0.2 || r.rest > 0.05 {
				t.Errorf("%s, %d TTLs late: settled after %.1f TTLs, overshot by %.2f, %.2f off in the second half", world.name, late, r.settled, r.overshoot, r.rest)
			}
		}
	}
}

// If all members get half as much more to do, nothing changes.
func TestSurge(t *testing.T) {
	s := threeMembers("")
	s.surge = 20
	if r := s.judge(s.run()); r.rest > 0.05 {
		t.Errorf("%.2f off in the second half, want at most 0.05", r.rest)
	}
}

// An agent that says how much of its processor is idle makes a loop of its own. It is not worse
// than static weights if traffic follows within a TTL.
func TestIdleAgent(t *testing.T) {
	for late := range 2 {
		s := threeMembers("").delayedBy(late)
		s.agent = true
		if r := s.judge(s.run()); r.rest > 0.35 || r.highest > 1.02 {
			t.Errorf("%d TTLs late: %.2f off, %.2f at most; static weights are 0.67 off, 1.00 at most", late, r.rest, r.highest)
		}
	}
}

// The charts in docs are those that this makes. Other processors round otherwise.
func TestChartsAreCurrent(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("made on amd64")
	}
	for _, c := range charts() {
		kept, err := os.ReadFile(filepath.Join("..", "..", "docs", c.file))
		if err != nil || string(kept) != c.svg() {
			t.Errorf("docs/%s is not what make sim-load writes: %v", c.file, err)
		}
	}
}
