// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/seed-f1518d44/balance/tools/internal/report"
)

// String returns the measurement as a Markdown table.
func (m *Measurement) String() string {
	out := new(strings.Builder)
	s := &m.Scenario
	hold := ""
	if s.Hold {
		hold = ", hold"
	}
	if s.Hostile > 0 {
		hold += fmt.Sprintf(", %d of each hostile kind", s.Hostile)
	}
	fmt.Fprintf(out, "### %s\n\n%d %s endpoints every %s, timeout %s, max_in_flight %d%s; %d rounds of %s\n\n",
		s.Name, s.Endpoints, s.Check, s.Interval, s.Timeout, s.MaxInFlight, hold, len(m.Rounds), s.RoundTime)
	var table report.Table
	table.Head("what", "measured", "target")
	row := func(what, measured, target string) { table.Row(what, measured, target) }
	m.printCosts(row)
	m.printProbes(row)
	m.printLeft(row)
	for _, q := range []struct {
		when string
		Latencies
	}{{"before", m.QueriesBefore}, {"while probing", m.QueriesProbing}, {"after", m.QueriesAfter}} {
		row("query p50 / p99 / max, "+q.when, fmt.Sprintf("%s / %s / %s (%d asked, %d lost)", report.Short(q.P50), report.Short(q.P99), report.Short(q.Max), q.Asked, q.Lost), "the same")
	}
	return out.String() + table.String() + "\n"
}

func (m *Measurement) printCosts(row func(what, measured, target string)) {
	s := &m.Scenario
	row("processor, cores: median (least to most)", spread(m.Rounds, "%.3f", func(r Round) float64 { return r.Cores }), limit(s.MaxCores, "at most %.2f"))
	row("processor a probe, µs", spread(m.Rounds, "%.1f", func(r Round) float64 { return r.Cores * 1e6 / max(r.ProbesPerSecond, 1) }), "")
	row("of the backends, µs a probe", fmt.Sprintf("%.1f", m.BackendS*1e6/float64(max(m.Probes.Total(), 1))), "")
	if m.BareS > 0 {
		row("of a bare loop of connect and close, µs, while probing", fmt.Sprintf("%.1f", m.BareS*1e6), "")
	}
	row("probes a second", spread(m.Rounds, "%.0f", func(r Round) float64 { return r.ProbesPerSecond }), fmt.Sprintf("%.0f asked for", float64(s.Endpoints)/s.Interval.Seconds()))
	row("heap at rest, bytes an endpoint", strconv.Itoa((m.HeapAfter-m.HeapBefore)/s.Endpoints), limit(float64(s.MaxHeapEndpoint), "at most %.0f"))
	if s.Silent {
		row("heap after the first and last round, MiB", fmt.Sprintf("%.1f, %.1f", mib(m.Rounds[0].Heap), mib(m.Rounds[len(m.Rounds)-1].Heap)), "flat")
	}
	row("goroutines, at most", fmt.Sprintf("%d, of which %d without health checks", m.PeakGoroutines, m.GoroutinesBefore), fmt.Sprintf("%d and a constant", s.MaxInFlight))
	row("descriptors, at most", fmt.Sprintf("%d, of which %d without health checks", m.PeakDescriptors, m.DescriptorsBefore), fmt.Sprintf("%d and a constant", s.MaxInFlight+s.held()))
}

// held is how many connections are held if every endpoint is up.
func (s *Scenario) held() int {
	if s.Hold {
		return s.Endpoints
	}
	return 0
}

func (m *Measurement) printProbes(row func(what, measured, target string)) {
	s := &m.Scenario
	p := &m.Probes
	wanted := "no failure"
	switch {
	case s.Silent:
		wanted = "no success"
	case s.Hostile > 0:
		wanted = "the hostile fail"
	}
	row("probes: success, failure, not counted", fmt.Sprintf("%d, %d, %d", p.Passed, p.Failed, p.Faults), wanted)
	row("endpoints: up, down; that went down", fmt.Sprintf("%d, %d; %d", p.Up, p.Down, p.WentDown), "")
	if m.Gaps.N == 0 {
		return
	}
	whose := ""
	if s.Hostile > 0 {
		whose = " of the healthy"
	}
	row("time between probes"+whose+": p50, p99, most", fmt.Sprintf("%s, %s, %s", report.Short(m.Gaps.P50), report.Short(m.Gaps.P99), report.Short(m.Gaps.Max)), "at most "+report.Short(s.Interval+s.Interval/10))
	row("probes later than that", fmt.Sprintf("%d of %d", m.Gaps.Late, m.Gaps.N), "none")
}

func (m *Measurement) printLeft(row func(what, measured, target string)) {
	row("left behind: goroutines, descriptors, connections", fmt.Sprintf("%d, %d, %d", m.GoroutinesLeft, m.DescriptorsLeft, m.ConnectionsLeft), "none")
	row("connections of ours in TIME-WAIT", strconv.Itoa(m.WaitingLeft), "")
	row("connections that the backends wait out, because they closed first", strconv.Itoa(m.BackendsLeft), "")
}

// spread returns the median, the least and the most of the rounds.
func spread(rounds []Round, format string, of func(Round) float64) string {
	var all []float64
	for _, r := range rounds {
		all = append(all, of(r))
	}
	s := report.SpreadOf(all)
	return fmt.Sprintf(format+" ("+format+" to "+format+")", s.Median, s.Low, s.High)
}

// limit returns a target, nothing for none.
func limit(value float64, format string) string {
	if value == 0 {
		return ""
	}
	return fmt.Sprintf(format, value)
}

func mib(bytes int) float64 { return float64(bytes) / (1 << 20) }
