// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"slices"

	"github.com/seed-f1518d44/balance/tools/internal/report"
)

// of returns the samples of a server with a work, by round.
func (r *Results) of(server, work string) []Sample {
	var some []Sample
	for _, s := range r.Samples {
		if s.Server == server && s.Work == work {
			some = append(some, s)
		}
	}
	slices.SortFunc(some, func(a, b Sample) int { return a.Round - b.Round })
	return some
}

// spread returns that of a value of samples.
func spread(samples []Sample, value func(Sample) float64) report.Spread {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = value(s)
	}
	return report.SpreadOf(values)
}

// ratio returns the spread of processor time a query over that of another server in the same round,
// so that what drifts from round to round does not count.
func (r *Results) ratio(server, over, work string) report.Spread {
	base := make(map[int]float64)
	for _, s := range r.of(over, work) {
		base[s.Round] = s.CPU
	}
	var ratios []float64
	for _, s := range r.of(server, work) {
		if base[s.Round] > 0 {
			ratios = append(ratios, s.CPU/base[s.Round])
		}
	}
	return report.SpreadOf(ratios)
}

// clientBound reports whether the client was the limit, not the server.
func clientBound(samples []Sample) bool {
	const saturated = 0.95
	busy := spread(samples, func(s Sample) float64 { return s.Busy }).Median
	client := spread(samples, func(s Sample) float64 { return s.Client }).Median
	return busy < saturated && client > busy
}

// foreign returns the largest share of the server's processor that other programs used in the
// middle round of any server.
func (r *Results) foreign() float64 {
	worst := 0.0
	for _, e := range r.Servers {
		for _, w := range r.Works {
			worst = max(worst, spread(r.of(e.Name, w.Name), func(s Sample) float64 { return s.Foreign }).Median)
		}
	}
	return worst
}
