// SPDX-License-Identifier: Apache-2.0

package health

import (
	"slices"
	"time"
)

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

// Verdict returns the common verdict, if require checks (all of them if it is 0) must say up.
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

// Together returns how an address came up, if require of its checks (all of them if it is 0) must
// say up: the record of the last one that was needed. It is the zero Record if fewer say up.
func Together(checks []Record, require int) Record {
	if require == 0 || require > len(checks) {
		require = len(checks)
	}
	up := slices.DeleteFunc(slices.Clone(checks), func(r Record) bool { return r.Verdict != Up })
	if require == 0 || len(up) < require {
		return Record{}
	}
	slices.SortFunc(up, func(a, b Record) int { return a.Back().Compare(b.Back()) })
	return up[require-1]
}

// Back returns since when an endpoint that is up may answer, as far as damping decides.
func (r Record) Back() time.Time {
	if r.Reuse.After(r.Since) {
		return r.Reuse
	}
	return r.Since
}
