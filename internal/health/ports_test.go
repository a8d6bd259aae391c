// SPDX-License-Identifier: Apache-2.0

package health

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// atPort returns an endpoint with a port of its own.
func atPort(port uint16) netip.AddrPort { return netip.AddrPortFrom(a1.Addr(), port) }

// byRecords returns a subscriber that has the ports of records probed.
func byRecords(ports ...PortRange) Subscriber {
	sub := in("example.org.")
	sub.Ports = ports
	return sub
}

// Endpoints on one address are probed each for itself. The address alone is what the best of them
// is.
func TestAnAddressIsWhatItsBestPortIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := joinedAs(t, b.checkOf(), byRecords(PortRange{80, 82}))
		check := func(want Verdict) {
			t.Helper()
			known, _ := s.Peek(a1)
			if got := s.Seen(a1); got != want || known.Verdict != want {
				t.Errorf("the address is %v, and %v for people, want %v", got, known.Verdict, want)
			}
		}
		check(Unknown)
		if _, known := s.Peek(a1); known || !s.Awaited(a1).IsZero() {
			t.Error("the address alone is known, or awaited")
		}
		b.fail(atPort(80), false)
		s.Seen(atPort(80))
		wait(time.Second)
		check(Down)
		s.Seen(atPort(81))
		b.fail(atPort(82), true)
		s.Seen(atPort(82))
		wait(time.Second)
		check(Up)
		b.fail(atPort(81), false)
		wait(time.Minute)
		check(Down)
	})
}

// A port outside of ports is not probed, and an address alone is no endpoint.
func TestNothingOutsidePortsIsProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := joinedAs(t, b.checkOf(), byRecords(PortRange{80, 80}, PortRange{8000, 8999}))
		for _, port := range []uint16{0, 1, 79, 81, 7999, 9000} {
			s.Seen(atPort(port))
			if allowed := s.Allows(atPort(port)); allowed != (port == 0) || !s.Awaited(atPort(port)).IsZero() {
				t.Errorf("port %d: allowed %v, awaited %v", port, allowed, s.Awaited(atPort(port)))
			}
		}
		for _, port := range []uint16{80, 8000, 8999} {
			s.Seen(atPort(port))
		}
		wait(time.Minute)
		if len(b.probes) != 3 {
			t.Errorf("probed %v, want three ports", b.probes)
		}
	})
}

// A check with its own port does not look at those of records.
func TestPortsOfRecordsAreForSRVOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := joined(t, b.checkOf())
		s.Seen(atPort(80))
		s.Seen(atPort(81))
		wait(time.Second)
		if known, ok := s.Peek(atPort(82)); len(b.probes) != 1 || !ok || known.At != a1 {
			t.Errorf("probed %v, want the address at the check's own port", b.probes)
		}
	})
}

// Looking up an address alone does not keep its ports known, or one that is gone from the records
// would decide about it for ever.
func TestAnAddressAloneKeepsNoPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := joinedAs(t, b.checkOf(), byRecords(PortRange{1, 65535}))
		b.fail(atPort(80), false)
		s.Seen(atPort(80))
		s.Seen(atPort(81))
		for range 20 {
			wait(time.Minute)
			s.Seen(a1)
		}
		if got := s.Seen(a1); got != Down {
			t.Fatalf("the address is %v, want what the port that is left is", got)
		}
		for range 70 {
			wait(time.Minute)
			s.Seen(a1)
		}
		if got := s.Seen(a1); got != Unknown || len(s.pool.table.byAddress.at(a1.Addr())) > 0 {
			t.Errorf("the address is %v, want unknown: none of its ports is known any more", got)
		}
	})
}

// A reload with fewer ports keeps the verdicts on those that stay, and forgets the others.
func TestReloadWithOtherPorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.checkOf()
		before := pools.Join(c, byRecords(PortRange{80, 81}))
		b.fail(atPort(81), false)
		before.Seen(atPort(80))
		before.Seen(atPort(81))
		wait(time.Second)
		now := joinedAs(t, c, byRecords(PortRange{81, 82}))
		before.Leave()
		if got := now.Seen(a1); got != Down || now.scope.size.Load() != 1 {
			t.Errorf("the address is %v with %d endpoints, want down with one", got, now.scope.size.Load())
		}
	})
}
