// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/seed-f1518d44/balance/tools/internal/report"
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
	all := make([]float64, len(t.Took))
	for i, took := range t.Took {
		all[i] = float64(took)
		if took == 0 {
			all[i] = float64(t.Patience)
		}
	}
	say := func(value float64) string {
		if d := time.Duration(value); d < t.Patience {
			return report.Short(d)
		}
		return "over " + t.Patience.String()
	}
	s := report.SpreadOf(all)
	return fmt.Sprintf("%s (%s to %s)", say(s.Median), say(s.Low), say(s.High))
}

// printTable prints the table.
func printTable(out io.Writer, o options, results []result) error {
	var table report.Table
	table.Head("server", "check", "settings", "endpoints", "killed: median (least to most)", "frozen: median (least to most)")
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
		table.Row(server, c.Check, c.Settings, strconv.Itoa(endpoints), killed, frozen)
	}
	_, err := io.WriteString(out, table.String())
	return err
}
