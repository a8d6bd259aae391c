// SPDX-License-Identifier: Apache-2.0

package fleet

import "time"

// Snapshot is what a replica knows about its fleet. Immutable.
type Snapshot struct {
	Name    string
	Self    string   // this replica
	Alone   bool     // this replica goes by its own verdicts
	Members []Member // sorted by name; this replica is one

	Sent, Received           uint64 // messages of ours
	SentBytes, ReceivedBytes uint64
	Skipped                  uint64 // messages, or parts of them, that were not understood
}

// Member is a live replica.
type Member struct {
	Replica
	Since    time.Time // when it was first seen
	Heard    time.Time // when it last said something; zero: never
	Doubtful bool      // it doubts itself, and probes nothing for the others
	Checks   int       // that it shares with this replica
}
