// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// counts is what happened. Safe for concurrent use.
type counts struct {
	mu         sync.Mutex
	faults     map[string]*occurrences
	running    map[string]int // faults
	queries    map[traffic]*fates
	violations map[string]*findings
}

// occurrences is how often a fault happened.
type occurrences struct {
	times int
	total time.Duration
	needs string

	asked, lost, violations int // while it happened, others perhaps at the same time
}

// traffic is the key under which queries are counted.
type traffic struct{ zone, network string }

// fates are the results of queries.
type fates struct {
	asked, excused int            // excused: answered as the upstream's fault explains
	again          int            // asked once more, because a reload closed the connection
	lost           map[string]int // by what explains it, "" for nothing
}

// findings are violations of a kind.
type findings struct {
	times int
	first []string
}

const (
	keptFindings   = 5       // violations of a kind that are shown
	longestFinding = 4 << 10 // bytes of one
)

func newCounts() *counts {
	return &counts{faults: map[string]*occurrences{}, running: map[string]int{}, queries: map[traffic]*fates{}, violations: map[string]*findings{}}
}

// entry returns what a map has for a key, and adds a new value if it has nothing.
func entry[K comparable, V any](m map[K]*V, key K) *V {
	if m[key] == nil {
		m[key] = new(V)
	}
	return m[key]
}

func (c *counts) begin(fault string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	entry(c.faults, fault).times++
	c.running[fault]++
}

func (c *counts) end(fault string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running[fault]--; c.running[fault] == 0 {
		delete(c.running, fault)
	}
}

func (c *counts) lasted(fault string, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	entry(c.faults, fault).total += d
}

func (c *counts) skipped(fault, needs string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	entry(c.faults, fault).needs = needs
}

// active returns the faults that happen now.
func (c *counts) active() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.running))
}

func (c *counts) activeText() string {
	return cmp.Or(strings.Join(c.active(), ", "), "no fault")
}

func (c *counts) query(zone, network string, excused bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := entry(c.queries, traffic{zone, network})
	f.asked++
	if excused {
		f.excused++
	}
	c.meanwhile(func(o *occurrences) { o.asked++ })
}

// meanwhile counts something for every fault that happens now. Call it with the lock held.
func (c *counts) meanwhile(count func(o *occurrences)) {
	for fault := range c.running {
		count(entry(c.faults, fault))
	}
}

func (c *counts) reconnected(network string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	entry(c.queries, traffic{"all", network}).again++
}

func (c *counts) lost(zone, network, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := entry(c.queries, traffic{zone, network})
	f.asked++
	if f.lost == nil {
		f.lost = make(map[string]int)
	}
	f.lost[why]++
	c.meanwhile(func(o *occurrences) { o.asked++; o.lost++ })
}

// violation counts a violation and reports whether it is one of the first of its kind.
func (c *counts) violation(class, text string) (first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := entry(c.violations, class)
	f.times++
	c.meanwhile(func(o *occurrences) { o.violations++ })
	text = text[:min(len(text), longestFinding)]
	if len(f.first) < keptFindings {
		f.first = append(f.first, text)
		return true
	}
	return false
}

// sum returns how many queries were asked and how many lost. Call it with the lock held.
func (c *counts) sum() (asked, lost int) {
	for _, f := range c.queries {
		asked += f.asked
		for _, n := range f.lost {
			lost += n
		}
	}
	return asked, lost
}

// print writes the report, in Markdown.
func (c *counts) print(out io.Writer, start, end resources) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := func(format string, args ...any) { fmt.Fprintf(out, format, args...) } //nolint:errcheck // for people
	p("| fault | times | lasted, seconds | queries meanwhile | lost | violations |\n|---|---|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(c.faults)) {
		f := c.faults[name]
		if f.needs != "" {
			p("| %s | none: needs %s | | | | |\n", name, f.needs)
			continue
		}
		p("| %s | %d | %.1f | %d | %d | %d |\n", name, f.times, f.total.Seconds(), f.asked, f.lost, f.violations)
	}
	p("\n| queries for | over | asked | failed by the upstream's fault | connected again | lost |\n|---|---|---|---|---|---|\n")
	order := func(a, b traffic) int { return cmp.Or(cmp.Compare(a.zone, b.zone), cmp.Compare(a.network, b.network)) }
	for _, t := range slices.SortedFunc(maps.Keys(c.queries), order) {
		f := c.queries[t]
		p("| %s | %s | %d | %d | %d | %s |\n", t.zone, t.network, f.asked, f.excused, f.again, lostText(f.lost))
	}
	p("\n| of the server, at rest | at the start | at the end | at most |\n|---|---|---|---|\n")
	after := end.rows(start.limits())
	for i, u := range start.rows(resources{}) {
		p("| %s | %d | %d | %s |\n", u.what, u.value, after[i].value, atMost(after[i].limit))
	}
	p("\n| violations | times | such as |\n|---|---|---|\n")
	for _, class := range slices.Sorted(maps.Keys(c.violations)) {
		p("| %s | %d | %s |\n", class, c.violations[class].times, strings.ReplaceAll(c.violations[class].first[0], "\n", " "))
	}
	asked, lost := c.sum()
	p("\n%d queries, %d lost, %d kinds of violations\n", asked, lost, len(c.violations))
}

func atMost(limit int) string {
	if limit == math.MaxInt {
		return ""
	}
	return strconv.Itoa(limit)
}

func lostText(lost map[string]int) string {
	if len(lost) == 0 {
		return "0"
	}
	var parts []string
	for _, why := range slices.Sorted(maps.Keys(lost)) {
		parts = append(parts, fmt.Sprintf("%d: %s", lost[why], cmp.Or(why, "unexplained")))
	}
	return strings.Join(parts, ", ")
}
