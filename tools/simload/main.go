// SPDX-License-Identifier: Apache-2.0

// Command simload simulates load_weights: members of unequal power, clients behind caches, and
// reports that are late, wrong or missing. It writes the charts that docs/load.md shows, and prints
// the result of each scenario. The same code always writes the same charts.
//
//	model.go      traffic, caches and reports, around the plugin's own controller and schedule
//	scenarios.go  what is simulated
//	judge.go      the results; sim_test.go says what they must be
//	plot.go       the charts
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
)

func main() {
	out := flag.String("out", ".", "directory of the charts")
	flag.Parse()
	for _, c := range charts() {
		if err := os.WriteFile(filepath.Join(*out, c.file), []byte(c.svg()), 0o644); err != nil { //nolint:gosec // to be read by all
			log.Fatal(err)
		}
		for _, s := range c.scenarios {
			r := s.judge(s.run())
			fmt.Printf("%-45s settled after %4.1f TTLs, overshoot %2.0f %%, later at most %2.0f %% off, busiest %3.0f %%\n",
				s.name, r.settled, 100*r.overshoot, 100*r.rest, 100*r.highest)
		}
	}
}
