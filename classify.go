// SPDX-License-Identifier: Apache-2.0

package balance

import "slices"

// verdict is what probes say of an endpoint.
type verdict uint8

const (
	unknown verdict = iota
	up
	down
)

// standing is what is known of a member when it is classified.
type standing struct {
	weight  uint16 // 0: standby
	verdict verdict
}

// standby tells whether the member answers only where no other can.
func (s standing) standby() bool { return s.weight == 0 }

// share returns the weight that the member takes turns with, once it answers: standby members,
// which answer among themselves only, have equal ones.
func (s standing) share() uint16 { return max(s.weight, 1) }

// classification says which members answer.
type classification struct {
	answering []uint16 // indexes, ascending
	aside     []aside  // the others, best first: standby ones, then those down
}

// aside is a member that does not answer.
type aside struct {
	member uint16
	why    reason
}

// classify decides which members answer: those that are up or unknown; of these the standby ones
// only where there is no other. Where all are down it fails open and takes all for up.
func classify(standings []standing) classification {
	var regular, standby, failed []uint16
	for i, s := range standings {
		m := uint16(i) //nolint:gosec // at most maxRecords
		switch {
		case s.verdict == down:
			failed = append(failed, m)
		case s.standby():
			standby = append(standby, m)
		default:
			regular = append(regular, m)
		}
	}
	switch {
	case len(regular) > 0:
		return classification{regular, append(putAside(standby, drained), putAside(failed, wasDown)...)}
	case len(standby) > 0:
		return classification{standby, putAside(failed, wasDown)}
	case slices.ContainsFunc(standings, func(s standing) bool { return s.verdict == down }):
		return classify(allUp(standings))
	}
	return classification{}
}

func putAside(members []uint16, why reason) (all []aside) {
	for _, m := range members {
		all = append(all, aside{m, why})
	}
	return all
}

// allUp returns the standings as if every member were up.
func allUp(standings []standing) []standing {
	open := slices.Clone(standings)
	for i := range open {
		open[i].verdict = up
	}
	return open
}
