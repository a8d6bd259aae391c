// SPDX-License-Identifier: Apache-2.0

package health

// Verdict is what probes say about an endpoint.
type Verdict uint8

// The verdicts. An unknown endpoint has not been probed, or none of its probes had a result.
const (
	Unknown Verdict = iota
	Up
	Down
)

var verdictNames = [...]string{Unknown: "unknown", Up: "up", Down: "down"}

// String returns the verdict in a word.
func (v Verdict) String() string { return verdictNames[v] }

// And returns the verdict of two checks that must both pass.
func (v Verdict) And(other Verdict) Verdict {
	switch {
	case v == Down || other == Down:
		return Down
	case v == Unknown || other == Unknown:
		return Unknown
	}
	return Up
}
