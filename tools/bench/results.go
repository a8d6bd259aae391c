// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Sample is what one server did with one work in one round.
type Sample struct {
	Round  int
	Server string
	Work   string

	// In a closed loop: as many queries as were answered.
	QPS         float64
	CPU         float64 // µs a query, user and system
	Busy        float64 // the part of its processor that the server used
	Client      float64 // the same of dnsperf
	Foreign     float64 // the part of the server's processor that went to others
	AnswerBytes int
	Lost        int

	// At half that load.
	HalfQPS  float64
	HalfBusy float64
	P50, P99 float64 // µs
	HalfLost int

	Memory float64 // MiB, the most that the process had since it started
}

// Entry is a server as the results know it.
type Entry struct {
	Name    string
	Base    string // what it is compared with; "" for the references
	Records int    // in an answer; 0: all
	Program string // that it takes
	Missing bool   // the program is not installed
	Next    bool   // with many names it does what the next does
}

// Refusal says why something was not measured.
type Refusal struct {
	Round        int
	Server, Work string
	Why          string
}

// Results are those of a run.
type Results struct {
	Command              string
	Compare              string
	Quick                bool
	Rounds               int
	Seconds              float64
	Clients, Outstanding int
	Machine              Machine
	Began                time.Time
	Took                 time.Duration
	Finished             bool // every round was

	Servers []Entry
	Works   []Work
	Refused []Refusal
	Samples []Sample
}

// save writes the results, the tables and the chart into a directory.
func (r *Results) save(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"results.json": string(raw) + "\n",
		"results.md":   r.markdown(),
		"results.svg":  r.chart(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// load reads what save wrote.
func loadResults(dir string) (*Results, error) {
	raw, err := os.ReadFile(filepath.Join(filepath.Clean(dir), "results.json"))
	if err != nil {
		return nil, err
	}
	r := new(Results)
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return r, nil
}

// refusals returns an error if a server was not measured because its answers were wrong.
func (r *Results) refusals() error {
	if len(r.Refused) == 0 {
		return nil
	}
	first := r.Refused[0]
	return fmt.Errorf("%d measurements refused, the first %s/%s in round %d: %s", len(r.Refused), first.Server, first.Work, first.Round, first.Why)
}
