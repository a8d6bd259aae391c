// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"slices"
)

// result is that of a run of a scenario. Deviations are relative to the share that makes all
// members equally busy.
type result struct {
	settled   float64 // in TTLs: from then on every member is within a tenth of equal utilisation
	overshoot float64 // the largest deviation to the other side, once a member has come from one
	rest      float64 // the largest deviation in the second half
	highest   float64 // utilisation of any member at any time
}

// judge returns the result of some samples, from when the members have their powers.
func (s scenario) judge(samples []sample) (r result) {
	samples = slices.DeleteFunc(samples, func(now sample) bool { return now.at <= float64(s.equal) })
	sum := 0.0
	for _, power := range s.powers {
		sum += power
	}
	for i, power := range s.powers {
		fair := power / sum
		first := 1/float64(len(s.powers))/fair - 1
		for at, now := range samples {
			deviation := now.share[i]/fair - 1
			if math.Abs(deviation) > 0.1 {
				r.settled = max(r.settled, now.at-float64(s.equal))
			}
			if deviation*first < 0 {
				r.overshoot = max(r.overshoot, math.Abs(deviation))
			}
			if at >= len(samples)/2 {
				r.rest = max(r.rest, math.Abs(deviation))
			}
			r.highest = max(r.highest, now.utilisation[i])
		}
	}
	return r
}
