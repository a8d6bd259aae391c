// SPDX-License-Identifier: Apache-2.0

package inforce

import "time"

// A ramp starts at a tenth of the weight and grows in steps of a twentieth.
const (
	firstRamp = 10
	rampStep  = 5
)

// Ramp returns how much of its weight a member has that began some time ago and has all of it after
// a window of at most a day, and how long it is until that changes: 0 for never again.
func Ramp(age, window time.Duration) (now Percent, next time.Duration) {
	if age >= window {
		return 0, 0
	}
	percent := max(firstRamp, 100*max(age, 0)/window/rampStep*rampStep)
	until := ((percent+rampStep)*window + 99) / 100
	return Percent(percent), until - age
}
