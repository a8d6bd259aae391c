// SPDX-License-Identifier: Apache-2.0

package health

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"sync"
)

// PortRange is a range of ports, ends included.
type PortRange struct{ First, Last uint16 }

func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// Contains reports whether a port is in the range.
func (r PortRange) Contains(port uint16) bool { return r.First <= port && port <= r.Last }

// FollowsPorts reports whether the check probes the ports that records name, instead of its own.
func (s *Subscription) FollowsPorts() bool { return s.sub.Ports != nil }

// Allows reports whether the rule may have an endpoint probed. Port 0 stands for any port.
func (s *Subscription) Allows(at netip.AddrPort) bool {
	return s.allowsPort(at.Port()) && MayProbe(s.sub.Allow, at.Addr())
}

func (s *Subscription) allowsPort(port uint16) bool {
	return port == 0 || !s.FollowsPorts() ||
		slices.ContainsFunc(s.sub.Ports, func(r PortRange) bool { return r.Contains(port) })
}

// target is what decides about an address in an answer.
type target struct {
	at    netip.AddrPort
	known *endpoint // nil: it is not known
	named bool      // the answer names the endpoint, and so has it probed
}

// targetOf returns the endpoint that decides about an address in an answer. The port is the one
// that the address's record names, or 0. If the check goes by the ports of records and the port is
// 0, the best endpoint at the address decides.
func (s *Subscription) targetOf(at netip.AddrPort) target {
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	switch {
	case !s.FollowsPorts():
		at = netip.AddrPortFrom(at.Addr(), 0)
	case at.Port() == 0:
		e := s.bestAt(at.Addr())
		if e != nil {
			at = e.at
		}
		return target{at: at, known: e}
	}
	return target{at: at, known: s.pool.table.find(at), named: true}
}

// bestAt returns the endpoint that is up among those of the rule at an address. If there is none,
// it returns one without a verdict rather than one that is down. It returns nil if it knows none.
func (s *Subscription) bestAt(addr netip.Addr) (best *endpoint) {
	rank := [...]int{Down: 0, Unknown: 1, Up: 2}
	for _, e := range s.pool.table.byAddress.at(addr) {
		if !s.scope.has(e) || !s.allowsPort(e.at.Port()) {
			continue
		}
		if best == nil || rank[e.status.Load().verdict] > rank[best.status.Load().verdict] {
			best = e
		}
	}
	return best
}

// addressIndex finds the endpoints that have a port of their own by their address. Safe for one
// writer and any number of readers.
type addressIndex struct {
	m sync.Map // netip.Addr to []*endpoint, which is never written to
}

// at returns the endpoints at an address.
func (x *addressIndex) at(addr netip.Addr) []*endpoint {
	found, _ := x.m.Load(addr)
	all, _ := found.([]*endpoint)
	return all
}

func (x *addressIndex) add(e *endpoint) {
	if e.at.Port() != 0 {
		x.m.Store(e.at.Addr(), append(slices.Clone(x.at(e.at.Addr())), e))
	}
}

func (x *addressIndex) remove(e *endpoint) {
	if e.at.Port() == 0 {
		return
	}
	if rest := without(x.at(e.at.Addr()), e); len(rest) > 0 {
		x.m.Store(e.at.Addr(), rest)
	} else {
		x.m.Delete(e.at.Addr())
	}
}
