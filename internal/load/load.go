// SPDX-License-Identifier: Apache-2.0

// Package load turns what backends say of their load into factors for their weights.
//
// It is a controller, and a pure function: from the last state, the reports and the time it makes
// the next state. docs/load.md says why it is as it is; tools/simload shows it at work.
//
//	load.go        reports, limits and states
//	controller.go  how a state follows from another one
package load

import (
	"net/netip"
	"slices"
	"time"
)

// Report is what a backend says of its load.
type Report struct {
	Kind  Kind
	Value float64
}

// Kind is what the value of a report means.
type Kind uint8

// The kinds of reports.
const (
	Nothing     Kind = iota // there is no valid report
	Share                   // the part of its weight that an agent asks for, from 0 to 1
	Utilisation             // how busy it is, 1 being fully and no bound above: ORCA says it

	kinds // how many there are
)

// Limits are what the operator asked for.
type Limits struct {
	Floor    float64       // the smallest factor, above 0
	TTL      time.Duration // how long caches keep answers
	Interval time.Duration // between reports
}

// Member is a backend at one time.
type Member struct {
	Addr   netip.Addr
	Group  uint16  // members of one group share the traffic
	Weight float64 // without the factor; 0 if the member gets no traffic now
	Ramp   float64 // the part of the weight that a slow start leaves it; 0: all of it
	Report Report  // the last valid one
	Age    time.Duration

	gone bool // it has left the RRset
}

func (m *Member) ramp() float64 {
	if m.Ramp == 0 {
		return 1
	}
	return m.Ramp
}

// State is what is known of the members of an RRset, and of those that left not long ago. Immutable. The zero value knows nothing.
type State struct {
	at      time.Time
	members []known // by address, ascending
}

// known is what is known of a member.
type known struct {
	addr     netip.Addr
	factor   float64
	percent  uint8 // the factor in force
	views    [views]view
	value    float64 // of its last valid report
	kind     Kind    // of that; Nothing: it has never reported
	measured bool    // it has reported how busy it is
	silent   bool    // it has not reported for long
	gone     float64 // for how many TTLs it has not been a member
}

// views is how many views there are of how late reports are.
const views = 2

// view is what a member's traffic is if reports are late by so much.
type view struct {
	sent    float64 // the share of traffic that it should have, for a weight of 1, after one lag
	carried float64 // the same after both
	usual   float64 // the logarithm of what it can take, by its reports so far
	wrong   float64 // the mean square of how far later reports were off
}

// Percent returns the factor in force of a member, from 1 to 100. It changes in steps, so that
// weights do not change with every report.
func (s *State) Percent(addr netip.Addr) int {
	if k := s.find(addr); k != nil {
		return int(k.percent)
	}
	return 100
}

// Silent reports whether a member has been without a valid report for so long that its factor moves
// to the mean of the others.
func (s *State) Silent(addr netip.Addr) bool {
	k := s.find(addr)
	return k != nil && k.silent
}

// Len returns the number of members, with those that left not long ago. The state may be nil, here and in Percent and Silent.
func (s *State) Len() int {
	if s == nil {
		return 0
	}
	return len(s.members)
}

func (s *State) find(addr netip.Addr) *known {
	if s == nil {
		return nil
	}
	at, ok := slices.BinarySearchFunc(s.members, addr, func(k known, addr netip.Addr) int { return k.addr.Compare(addr) })
	if !ok {
		return nil
	}
	return &s.members[at]
}
