// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"os"
	"testing"
	"time"
)

// TestMain lets this test's own processes play their roles.
func TestMain(m *testing.M) {
	if done, err := playRole(); done {
		exitOn(err)
		return
	}
	os.Exit(m.Run())
}

// short runs of the scenarios. They assert nothing about speed, because machines that run tests are
// busy.
var smokes = []Scenario{
	{Name: "tcp", Check: "tcp"},
	{Name: "hold", Check: "tcp", Hold: true},
	{Name: "http", Check: "http"},
	{Name: "silent", Check: "http", Silent: true},
	{Name: "hostile", Check: "http", Hostile: 50},
}

func TestSmoke(t *testing.T) {
	for _, s := range smokes {
		t.Run(s.Name, func(t *testing.T) {
			s.Endpoints, s.Interval, s.Timeout = 2000, 2*time.Second, time.Second
			s.MaxInFlight, s.Rounds, s.Warmup = 64, 3, time.Second
			if s.Silent { // they must get through within their time
				s.Endpoints, s.Timeout, s.MaxInterval = 500, 50*time.Millisecond, 2*time.Second
			}
			s.QueryRate, s.QueryTime = 100, 500*time.Millisecond
			m, err := measureApart(t.Context(), s.with(Scenario{}))
			if err != nil {
				t.Fatal(err)
			}
			checkCounts(t, m)
			checkBounds(t, m)
		})
	}
}

// checkCounts asserts that every endpoint has the right verdict.
func checkCounts(t *testing.T, m *Measurement) {
	t.Helper()
	s, p := &m.Scenario, &m.Probes
	if p.Total() == 0 {
		t.Error("no probe was made")
	}
	switch {
	case s.Silent && (p.Passed > 0 || p.Down != s.Endpoints):
		t.Errorf("%d probes passed and %d endpoints are down, want none and %d", p.Passed, p.Down, s.Endpoints)
	case s.Hostile > 0: // some kinds are up
		if p.Up < s.Endpoints-s.Hostile*len(hostile) {
			t.Errorf("%d endpoints are up, want the healthy ones at least", p.Up)
		}
	case !s.Silent && (p.Failed > 0 || p.Up != s.Endpoints):
		t.Errorf("%d probes failed and %d endpoints are up, want none and %d", p.Failed, p.Up, s.Endpoints)
	}
}

// checkBounds asserts that what is bounded does not grow, and that nothing is left behind.
func checkBounds(t *testing.T, m *Measurement) {
	t.Helper()
	const constant = 60 // CoreDNS' own, for queries and listeners, and ends of timeouts under way
	inFlight := m.Scenario.MaxInFlight
	if m.Scenario.Silent { // a timeout that fires takes a goroutine or two for a moment
		inFlight *= 3
	}
	if most := inFlight + m.GoroutinesBefore + constant; m.PeakGoroutines > most {
		t.Errorf("%d goroutines, want at most %d", m.PeakGoroutines, most)
	}
	if most := m.Scenario.MaxInFlight + m.Scenario.held() + m.DescriptorsBefore + constant; m.PeakDescriptors > most {
		t.Errorf("%d descriptors, want at most %d", m.PeakDescriptors, most)
	}
	if m.GoroutinesLeft > 3 || m.DescriptorsLeft > 0 || m.ConnectionsLeft > 0 {
		t.Errorf("%d goroutines, %d descriptors and %d connections stay behind", m.GoroutinesLeft, m.DescriptorsLeft, m.ConnectionsLeft)
	}
	if m.PeakDescriptors < m.Scenario.held() {
		t.Errorf("%d descriptors, want one for each of the %d connections held", m.PeakDescriptors, m.Scenario.held())
	}
	const each, some = 2 << 10, 4 << 20 // bytes an endpoint, many times the target, and for all else
	if grown := m.HeapAfter - m.HeapBefore; grown > each*m.Scenario.Endpoints+some {
		t.Errorf("the heap grew by %d bytes with %d endpoints", grown, m.Scenario.Endpoints)
	}
}
