// SPDX-License-Identifier: Apache-2.0

package health

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// scope is a rule in one of its zones, and the endpoints that its answers hold. It survives a
// reload, during which it has two subscriptions for a moment. The pool owns it. Any goroutine may
// read the atomic fields, the members, and the fields that never change.
type scope struct {
	id       uint64
	zone     string
	limit    int32 // of members
	counters counters

	members bitset       // of endpoints, by their numbers
	size    atomic.Int32 // of members
	arrived atomic.Int32 // endpoints that wait to become members
	full    atomic.Bool  // it was logged that no more endpoints fit

	subscriptions []*Subscription
	observe       bool          // the rule leaves its answers as they are
	goesByLoad    bool          // the rule goes by load reports
	inFlight      int           // probes on its behalf
	failing       int           // members whose last probe failed
	allFail       bool          // all members fail, and that was logged
	allFailed     time.Duration // when they last did
	outdated      bool          // it is in pool.outdated
	lines         [classes]line
}

// has reports whether answers hold an endpoint.
func (s *scope) has(e *endpoint) bool { return s.members.has(e.number) }

// add makes an endpoint a member.
func (s *scope) add(e *endpoint) {
	if s.has(e) {
		return
	}
	s.members.add(e.number)
	s.size.Add(1)
	e.scopes++
	if e.failing.Load() {
		s.failing++
	}
}

// remove removes a member.
func (s *scope) remove(e *endpoint) {
	s.members.remove(e.number)
	s.size.Add(-1)
	e.scopes--
	if e.failing.Load() {
		s.failing--
	}
}

// isFull reports whether no more endpoints can be members.
func (s *scope) isFull() bool { return s.size.Load() >= s.limit }

// hasRoom reports whether more than a tenth is free. Only then may the log say again that the scope
// is full: otherwise one endpoint that comes and goes would fill the log.
func (s *scope) hasRoom() bool { return s.size.Load() < s.limit-s.limit/10 }

// allows reports whether one of the rules allows an endpoint.
func (s *scope) allows(at netip.AddrPort) bool {
	return slices.ContainsFunc(s.subscriptions, func(one *Subscription) bool { return one.Allows(at) })
}

// set replaces the subscriptions. The newest one decides about options.
func (s *scope) set(all []*Subscription) {
	s.subscriptions = all
	if len(all) > 0 {
		newest := all[len(all)-1].sub
		s.observe, s.goesByLoad = newest.Observe, newest.GoesByLoad
	}
}

// scopes are the scopes of a pool.
type scopes []*scope

// of returns the scope of a rule in a zone, nil if there is none.
func (all scopes) of(id uint64) *scope {
	for _, s := range all {
		if s.id == id {
			return s
		}
	}
	return nil
}

// with returns the scopes whose answers hold an endpoint.
func (all scopes) with(e *endpoint) iter.Seq[*scope] {
	return func(yield func(*scope) bool) {
		for _, s := range all {
			if s.has(e) && !yield(s) {
				return
			}
		}
	}
}

// smallestWith returns the smallest of the scopes whose answers hold an endpoint, nil if there is
// none. In the line of that scope, the endpoint waits behind the fewest others.
func (all scopes) smallestWith(e *endpoint) (smallest *scope) {
	for _, s := range all {
		if s.has(e) && (smallest == nil || s.size.Load() < smallest.size.Load()) {
			smallest = s
		}
	}
	return smallest
}

// zones returns the names of the zones for the log. If there are many, it names only the first
// ones.
func (all scopes) zones() string {
	const most = 3
	var names []string
	for _, s := range all[:min(len(all), most)] {
		names = append(names, s.zone)
	}
	text := strings.Join(names, ", ")
	if more := len(all) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// observing returns the scopes of rules that only observe.
func (all scopes) observing() (some scopes) {
	for _, s := range all {
		if s.observe {
			some = append(some, s)
		}
	}
	return some
}
