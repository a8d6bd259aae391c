// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"math"
	"slices"
)

// Spread is the middle of some values, and how far they lie apart.
type Spread struct{ Median, Low, High float64 }

// spreadOf returns median, least and most; zeros of none.
func spreadOf(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	return Spread{Median: quantile(sorted, 0.5), Low: sorted[0], High: sorted[len(sorted)-1]}
}

// quantile returns the q-th quantile, 0 to 1, of sorted values, between two where it falls there; 0 of none.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := q * float64(len(sorted)-1)
	below := int(at)
	above := min(below+1, len(sorted)-1)
	return sorted[below] + (at-math.Floor(at))*(sorted[above]-sorted[below])
}

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
func spread(samples []Sample, value func(Sample) float64) Spread {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = value(s)
	}
	return spreadOf(values)
}

// ratio returns the spread of processor time a query over that of another server in the same round, so that what
// drifts from round to round does not count.
func (r *Results) ratio(server, over, work string) Spread {
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
	return spreadOf(ratios)
}

// clientBound reports whether the client was the limit, not the server.
func clientBound(samples []Sample) bool {
	const saturated = 0.95
	busy := spread(samples, func(s Sample) float64 { return s.Busy }).Median
	client := spread(samples, func(s Sample) float64 { return s.Client }).Median
	return busy < saturated && client > busy
}

// foreign returns the largest part of the server's processor that others had in the middle round of any server.
func (r *Results) foreign() float64 {
	worst := 0.0
	for _, e := range r.Servers {
		for _, w := range r.Works {
			worst = max(worst, spread(r.of(e.Name, w.Name), func(s Sample) float64 { return s.Foreign }).Median)
		}
	}
	return worst
}
