// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// times is how long some dead backends stayed in the answers.
type times struct {
	Patience time.Duration
	Took     []time.Duration // 0: longer than patience
}

// String returns the median, the least and the most.
func (t times) String() string {
	if len(t.Took) == 0 {
		return "not seen by such a check"
	}
	sorted := slices.Clone(t.Took)
	for i := range sorted {
		if sorted[i] == 0 {
			sorted[i] = t.Patience
		}
	}
	slices.Sort(sorted)
	say := func(d time.Duration) string {
		if d >= t.Patience {
			return "over " + t.Patience.String()
		}
		return short(d)
	}
	upper, lower := sorted[len(sorted)/2], sorted[(len(sorted)-1)/2]
	return fmt.Sprintf("%s (%s to %s)", say((upper+lower)/2), say(sorted[0]), say(sorted[len(sorted)-1]))
}

// short rounds a time to what means something.
func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

// report prints the table.
func report(out io.Writer, o options, results []result) error {
	var b strings.Builder
	b.WriteString("| server | check | settings | endpoints | killed: median (least to most) | frozen: median (least to most) |\n|---|---|---|---|---|---|\n")
	for _, r := range results {
		c := r.Case
		server := c.Server
		if c.Hold {
			server += ", `hold`"
		}
		endpoints := c.Endpoints
		if endpoints == 0 {
			endpoints = 2*o.rounds + 1
		}
		killed, frozen := r.Killed.String(), r.Frozen.String()
		if r.Missing != "" {
			killed, frozen = r.Missing+" is not installed", ""
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %d | %s | %s |\n", server, c.Check, c.Settings, endpoints, killed, frozen)
	}
	_, err := io.WriteString(out, b.String())
	return err
}
