// SPDX-License-Identifier: Apache-2.0

package main

import "time"

const (
	usualTTL = 30 * time.Second
	lasts    = 40 // TTLs
)

// threeMembers are three members with equal weights, of which one can take half as much as the
// others. With static weights it gets as much as it can take.
func threeMembers(name string) scenario {
	return scenario{name: name, powers: []float64{2, 2, 1}, demand: 0.6, ttl: usualTTL, ttls: lasts}
}

func (s scenario) delayedBy(ttls int) scenario {
	s.late = ttls
	return s
}

func (s scenario) withNoise(most float64) scenario {
	s.noise = most
	return s
}

// saying makes a member report something false.
func (s scenario) saying(member int, what speech) scenario {
	s.says = map[int]speech{member: what}
	return s
}

// silent says nothing after 5 TTLs.
func silent(actual float64, now time.Duration) (float64, bool) { return actual, now < 5*usualTTL }

// idle always says that it has nothing to do.
func idle(float64, time.Duration) (float64, bool) { return 0, true }

// busy always says that it has far too much to do.
func busy(float64, time.Duration) (float64, bool) { return 5, true }

// fickle says both in turn, each for as long as the controller takes to follow.
func fickle(_ float64, now time.Duration) (float64, bool) {
	if now/(5*usualTTL)%2 == 0 {
		return 5, true
	}
	return 0, true
}

// chart is a picture of some scenarios.
type chart struct {
	file, title string
	scenarios   []scenario
}

// charts are those that docs/load.md shows.
func charts() []chart {
	static := threeMembers("static weights")
	static.static = true
	return []chart{
		{"load-delay.svg", "Utilisation of three members with equal weights; the third has half the power.", []scenario{
			static, threeMembers("load_weights"), threeMembers("reports 1 TTL late").delayedBy(1), threeMembers("reports 3 TTLs late").delayedBy(3),
		}},
		{"load-reports.svg", "The same three members, if reports are wrong.", []scenario{
			threeMembers("each wrong by up to 30 %").withNoise(0.3),
			threeMembers("the third falls silent after 5 TTLs").saying(2, silent),
			threeMembers("the first always says idle").saying(0, idle),
			threeMembers("the third always says busy").saying(2, busy),
		}},
	}
}
