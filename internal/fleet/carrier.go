// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"net/netip"
)

// Carrier brings messages to the other replicas of a fleet. Safe for concurrent use. No method but
// Leave blocks on the network, and none calls the Listener before it returns.
type Carrier interface {
	// Tell sends a message to one replica. Best effort.
	Tell(name string, message []byte)
	// TellAll sends a message to every other replica. Best effort: messages may be lost, repeated
	// and overtake each other.
	TellAll(message []byte)
	// Leave says that this replica leaves in order, and closes the carrier.
	Leave(ctx context.Context)
}

// Listener is what a carrier calls. A Fleet is one. Safe for concurrent use; no method blocks. The
// listener does not keep the slices that it is handed.
type Listener interface {
	// Hear takes a message of another replica. One above MaxMessage bytes is skipped.
	Hear(message []byte)
	// Members takes the live replicas, this one included, whenever they change.
	Members(live []Replica)
	// Left notes that a replica is gone. inOrder reports that it said so itself.
	Left(name string, inOrder bool)
	// Lost notes messages that could not be sent to other replicas.
	Lost(messages int)
	// State returns what a replica that joins takes over, at most MaxState bytes. Carriers also
	// exchange states in pairs from time to time: those are without votes, because heartbeats repair
	// these.
	State(joining bool) []byte
	// Merge takes the state of another replica.
	Merge(state []byte, joining bool)
}

// Sizes of what a carrier has to carry.
const (
	MaxMessage  = 32 << 10 // of a message; most are far smaller
	MaxDatagram = 1200     // longer ones take a connection to each replica
	MaxState    = 8 << 20
)

// Replica is a member of a fleet, as its carrier knows it.
type Replica struct {
	Name     string // unique: a process that starts again has another name
	Locality string
	Addr     netip.AddrPort
	Versions Versions
}

// Versions are the versions of messages that a replica understands.
type Versions struct{ Lowest, Highest uint8 }

// Understood are the versions of messages that this package understands.
var Understood = Versions{Lowest: 1, Highest: 1}
