// SPDX-License-Identifier: Apache-2.0

// Package idle keeps TCP connections open that nothing is sent over, and tells when their peers end
// them. A connection costs a descriptor, the kernel's memory of a socket, and nothing here.
//
//	set, err := idle.New[*owner]()
//	conn, err := set.Dial(netip.Addr{}, netip.MustParseAddrPort("192.0.2.1:443"), whose)
//	for {
//		events, err := set.Wait(buffer) // in a goroutine of its own
//		for _, e := range events {
//			whose, change, n := set.Look(e) // in the one that dials and closes
//		}
//	}
//
// set_linux.go does it, with one epoll instance for each set; set_other.go says that it cannot be done.
package idle

import "errors"

// Conn tells a connection from all others that its set ever had.
type Conn uint64

// Event is news of a connection: perhaps one that is closed already, and then Look says Nothing.
type Event struct {
	Conn Conn
	bits uint32
}

// Change is what an event means.
type Change uint8

// What happens to a connection.
const (
	Nothing Change = iota // the connection is as it was
	Opened                // the peer accepted it; said again with whatever comes later
	Spoke                 // the peer sent something, which is dropped
	Ended                 // the peer closed, reset or refused it, or was not reached any more
)

// MostDropped is how many bytes Look drops at once. Of a peer that said as many, nothing may be heard any
// more, for its farewell can be stuck behind the rest: such a connection should be closed.
const MostDropped = 80 << 10

var (
	// ErrNoRoom is that this process has few descriptors left: those that there are, are for others.
	ErrNoRoom = errors.New("too many open files")
	// ErrClosed is what Wait returns once the set is shut.
	ErrClosed = errors.New("the set is shut")
	// ErrUnsupported is what New returns where the system is not Linux.
	ErrUnsupported = errors.New("needs Linux")
)
