// SPDX-License-Identifier: Apache-2.0

// Package idle keeps TCP connections open without sending anything, and reports when their peers
// end them. A connection costs a descriptor and a kernel socket, and no memory of this process.
//
//	set, err := idle.New[*owner](mayCloseFirst)
//	conn, err := set.Dial(netip.Addr{}, netip.MustParseAddrPort("192.0.2.1:443"), whose)
//	for {
//		events, err := set.Wait(buffer) // in a goroutine of its own
//		for _, e := range events {
//			whose, change, n := set.Look(e) // in the one that dials and closes
//		}
//	}
//
// set_linux.go has one epoll instance for each set. On other systems New returns ErrUnsupported.
package idle

import "errors"

// Conn identifies a connection among all that its set ever had.
type Conn uint64

// Event is something that happened to a connection. If that has been closed since, Look returns
// Nothing.
type Event struct {
	Conn Conn
	bits uint32
}

// Change is what an event means.
type Change uint8

// What happens to a connection.
const (
	Nothing Change = iota // the connection is as it was
	Opened                // the peer accepted it; may come more than once
	Spoke                 // the peer sent something, which is dropped
	Ended                 // the peer closed, reset or refused it, or was not reached any more
)

// MostDropped is how many bytes Look drops at once. After as many, close the connection: its end
// may be hidden behind data that is still unread.
const MostDropped = 80 << 10

var (
	// ErrNoRoom says that the process has few descriptors left, which are reserved for others.
	ErrNoRoom = errors.New("too many open files")
	// ErrClosed says that the set is shut.
	ErrClosed = errors.New("the set is shut")
	// ErrUnsupported says that the system is not Linux.
	ErrUnsupported = errors.New("needs Linux")
)
