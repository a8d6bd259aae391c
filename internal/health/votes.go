// SPDX-License-Identifier: Apache-2.0

package health

// Votes counts the verdicts of several checks on one address.
type Votes struct{ up, down, unknown int }

// Add adds a verdict.
func (v *Votes) Add(one Verdict) {
	switch one {
	case Up:
		v.up++
	case Down:
		v.down++
	default:
		v.unknown++
	}
}

// Verdict returns the common verdict if so many checks must say up, or all of them if require is 0.
// It is unknown while checks without a verdict could still decide it.
func (v *Votes) Verdict(require int) Verdict {
	all := v.up + v.down + v.unknown
	if require == 0 || require > all {
		require = all
	}
	switch {
	case all == 0:
		return Unknown
	case v.up >= require:
		return Up
	case v.up+v.unknown < require:
		return Down
	}
	return Unknown
}
