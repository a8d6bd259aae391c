// SPDX-License-Identifier: Apache-2.0

// Package schedule puts n items in an order at every turn. It knows the items by the numbers 0 to
// n-1, at most MaxItems of them, and nothing else about them.
//
//	Weighted     weighted round robin, exact and smooth; strict        weighted.go, stride.go, sample.go,
//	             round robin if all weights are equal                  rotation.go
//	Shuffle      uniformly random                                      shuffle.go
//	Rendezvous   weighted rendezvous hashing: the turn is a client     rendezvous.go
package schedule

import "math"

// MaxItems is the most items that a schedule can order.
const MaxItems = math.MaxUint16

// A Schedule is an order of n items for every turn. It is a pure function of the turn and keeps no
// state, so that another process, or this one after a reload, can continue from a number.
// Immutable, safe for concurrent use.
type Schedule interface {
	// Order fills order with the items that come first at a turn, each at most once. It is as long
	// as n or as the number of items that the schedule was made to choose. Both have the same first
	// item.
	Order(turn uint64, order []uint16)

	// Resume returns the turn at which the schedule continues for before, whose next turn would
	// have been turn. The two differ in some items, in weights or in kind.
	Resume(before Schedule, turn uint64, find Find) uint64
}

// Find returns which item of a schedule is an item of the one before. If that item has gone, it
// returns the one that follows it.
type Find func(item int) (at int, found bool)

// Size returns about how many bytes a schedule takes beyond a few for each item.
func Size(s Schedule) int {
	if c, ok := s.(*cycle); ok {
		return c.size()
	}
	return 0
}

// cyclic is a schedule whose first items repeat.
type cyclic interface {
	length() uint64       // of the cycle, in turns
	lead(turn uint64) int // the first item at a turn, 0 <= turn < length
}
