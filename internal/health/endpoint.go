// SPDX-License-Identifier: Apache-2.0

package health

import (
	"container/list"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"
)

// endpoint is what a check probes. Queries and scrapes read the atomic fields; everything else is
// owned by the goroutine of its pool. The fields are ordered to save memory, because there may be
// many endpoints.
type endpoint struct {
	at     netip.AddrPort // IPv4-mapped addresses are stored as IPv4; port 0 is the check's own
	number uint32         // in the table

	failing atomic.Bool // its last probe failed
	status  atomic.Pointer[status]
	seen    atomic.Int64            // when an answer last held it, in the pool's time
	holding atomic.Pointer[holding] // the connection held to it; nil for none
	history atomic.Pointer[history] // nil unless a subscriber wants it

	tracker  tracker
	speed    speed // of its last probe
	assigned bool  // in a fleet: this replica probes it
	scopes   int32 // number of scopes whose answers hold it
	heap     int32 // index in the timers, or notThere or beingProbed
	doubt    doubt

	next  time.Duration // when the next probe is due, in the pool's time
	place *list.Element // its place in a line of the backlog; nil: in none
	line  *line         // the line that place is in
}

// What endpoint.heap says about an endpoint that is not in the timers.
const (
	notThere    = -1
	beingProbed = -2 // a probe is in flight
)

// status is a verdict as queries see it. Immutable.
type status struct {
	verdict Verdict
	cameUp  bool // it is up, and was down before
	damping damping
	since   time.Time
	problem string  // why it is down, or why the check does not count; empty otherwise
	advice  *Advice // nil: it says nothing about itself
	load    *Load   // nil: it has never said anything of its load; without At while replicas vote with it
}

// newEndpoint returns an endpoint without a verdict.
func newEndpoint(at netip.AddrPort) *endpoint {
	e := &endpoint{at: at, heap: notThere}
	e.status.Store(&status{since: time.Now()})
	return e
}

// phase returns the endpoint's fixed offset in an interval. A hash spreads the offsets evenly.
func (e *endpoint) phase(interval time.Duration) time.Duration {
	const offset, prime = 0xcbf29ce484222325, 0x100000001b3 // FNV-1a
	h := uint64(offset)
	addr := e.at.Addr().As16()
	for _, b := range binary.BigEndian.AppendUint16(addr[:], e.at.Port()) {
		h = (h ^ uint64(b)) * prime
	}
	h ^= h >> 32
	return time.Duration(h * prime >> 1 % uint64(interval))
}

// name returns the endpoint for people.
func (e *endpoint) name() string { return nameOf(e.at) }

// nameOf returns the address, and the port if it is not the check's own.
func nameOf(at netip.AddrPort) string {
	if at.Port() == 0 {
		return at.Addr().String()
	}
	return at.String()
}

// jitter returns a random duration between d-some and d+some.
func jitter(d, some time.Duration) time.Duration {
	return d - some + rand.N(2*some+1) //nolint:gosec // no secret
}
