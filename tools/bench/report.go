// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-f1518d44/balance/tools/internal/report"
)

// markdown returns the machine, how it was measured, and a table for each work.
func (r *Results) markdown() string {
	var b strings.Builder
	r.writeWarnings(&b)
	r.writeMachine(&b)
	for _, w := range r.Works {
		r.writeTable(&b, w)
	}
	r.writeNotes(&b)
	return b.String()
}

// quiet is the largest share of the server's processor that other programs may have used.
const quiet = 0.03

// writeWarnings says why the numbers might not be good.
func (r *Results) writeWarnings(b *strings.Builder) {
	warn := func(format string, args ...any) { fmt.Fprintf(b, "> **"+format+"**\n\n", args...) }
	if r.Quick {
		warn("Made with -quick: it shows that the suite works, the numbers mean nothing.")
	}
	if !r.Finished {
		warn("Not finished: %d of the samples were taken.", len(r.Samples))
	}
	if f := r.foreign(); f > quiet {
		warn("The machine was not quiet: others had up to %.0f %% of the server's processor in the middle round of a server.", 100*f)
	}
	if r.Machine.ServerOn == r.Machine.ClientOn {
		warn("There is one processor: client and server shared it.")
	}
}

func (r *Results) writeMachine(b *strings.Builder) {
	m := r.Machine
	kind := ""
	if m.Hypervisor {
		kind = ", a virtual machine"
	}
	fmt.Fprintf(b, "%s, %d processors%s; %s, Linux %s; %s; balance %s. Servers on processor %d, dnsperf on %d. Load before: %s.\n\n",
		m.Processor, m.Processors, kind, m.System, m.Kernel, m.Go, m.Commit, m.ServerOn, m.ClientOn, m.Load)
	var versions []string
	for _, program := range slices.Sorted(maps.Keys(m.Versions)) {
		versions = append(versions, fmt.Sprintf("%s: %s", program, m.Versions[program]))
	}
	fmt.Fprintf(b, "%s.\n\n", strings.Join(versions, "; "))
	fmt.Fprintf(b, "`%s`, %s, took %s: %d rounds, each with every server started anew, in random order; %g s of a closed loop (dnsperf -c %d -q %d), then %g s at half of what it brought.\n\n",
		r.Command, r.Began.UTC().Format("2006-01-02 15:04 UTC"), r.Took.Round(time.Second), r.Rounds, r.Seconds, r.Clients, r.Outstanding, r.Seconds/2)
}

// column is one of a table.
type column struct {
	title string
	value func(r *Results, e Entry, w Work, s []Sample) string
}

// columns returns those of the tables.
func (r *Results) columns() []column {
	columns := []column{
		{"records", func(_ *Results, e Entry, w Work, _ []Sample) string { return strconv.Itoa(e.recordsOf(w)) }},
		{"µs a query", func(_ *Results, _ Entry, _ Work, s []Sample) string {
			return show(spread(s, func(s Sample) float64 { return s.CPU }), "%.2f")
		}},
	}
	if r.Compare != "" {
		columns = append(columns, column{"ratio to the first", func(r *Results, e Entry, w Work, _ []Sample) string {
			return show(r.ratio(e.Name, e.Base, w.Name), "%.3f")
		}})
	} else {
		columns = append(columns, ratioColumn("× file", fileServer), ratioColumn("× loadbalance", loadbalanceServer))
	}
	return append(columns,
		column{"queries/s", func(_ *Results, _ Entry, _ Work, s []Sample) string {
			mark := ""
			if clientBound(s) {
				mark = " †"
			}
			return show(spread(s, func(s Sample) float64 { return s.QPS }), "%.0f") + mark
		}},
		column{"busy, %", func(_ *Results, _ Entry, _ Work, s []Sample) string {
			return fmt.Sprintf("%.0f / %.0f", 100*spread(s, func(s Sample) float64 { return s.Busy }).Median, 100*spread(s, func(s Sample) float64 { return s.Client }).Median)
		}},
		column{"p50, µs", func(_ *Results, _ Entry, _ Work, s []Sample) string {
			return show(spread(s, func(s Sample) float64 { return s.P50 }), "%.0f")
		}},
		column{"p99, µs", func(_ *Results, _ Entry, _ Work, s []Sample) string {
			return show(spread(s, func(s Sample) float64 { return s.P99 }), "%.0f")
		}},
		column{"MiB", func(_ *Results, _ Entry, _ Work, s []Sample) string {
			return fmt.Sprintf("%.0f", spread(s, func(s Sample) float64 { return s.Memory }).Median)
		}},
	)
}

func ratioColumn(title, over string) column {
	return column{title, func(r *Results, e Entry, w Work, _ []Sample) string {
		ratio := r.ratio(e.Name, over, w.Name)
		if ratio.Median == 0 {
			return ""
		}
		return fmt.Sprintf("%.2f", ratio.Median)
	}}
}

func (e Entry) recordsOf(w Work) int {
	if e.Records > 0 {
		return e.Records
	}
	return w.Addresses
}

// show writes the median, and how far the least and the most are apart.
func show(s report.Spread, format string) string {
	if s.Median == 0 {
		return ""
	}
	return fmt.Sprintf(format+" ("+format+" to "+format+")", s.Median, s.Low, s.High)
}

func (r *Results) writeTable(b *strings.Builder, w Work) {
	columns := r.columns()
	titles := []string{"server"}
	for _, c := range columns {
		titles = append(titles, c.title+":") // numbers
	}
	var table report.Table
	table.Head(titles...)
	rows := 0
	for _, e := range r.Servers {
		samples := r.of(e.Name, w.Name)
		why := r.unmeasured(e, w)
		if len(samples) == 0 && why == "" {
			continue
		}
		cells := []string{e.Name + why}
		for _, c := range columns {
			value := ""
			if len(samples) > 0 {
				value = c.value(r, e, w, samples)
			}
			cells = append(cells, value)
		}
		table.Row(cells...)
		rows++
	}
	if rows > 0 {
		fmt.Fprintf(b, "### %s\n\n%s\n", w.About, table.String())
		r.writeProbing(b, w)
	}
}

// writeProbing says what probes add to a query: the two servers differ in nothing else.
func (r *Results) writeProbing(b *strings.Builder, w Work) {
	if ratio := r.ratio(probingServer, restingServer, w.Name); ratio.Median > 0 {
		fmt.Fprintf(b, "10,000 endpoints probed every %d s, × the same at rest: %s\n\n", probeInterval, show(ratio, "%.2f"))
	}
}

// unmeasured says what was not measured.
func (r *Results) unmeasured(e Entry, w Work) string {
	if e.Missing {
		return fmt.Sprintf(": **missing**, %s is not installed", e.Program)
	}
	if e.Next && w.many() && slices.ContainsFunc(r.Samples, func(s Sample) bool { return s.Work == w.Name }) {
		return ": as the next row"
	}
	refused, why := 0, ""
	for _, f := range r.Refused {
		if f.Server == e.Name && f.Work == w.Name {
			refused, why = refused+1, f.Why
		}
	}
	if refused == 0 {
		return ""
	}
	return fmt.Sprintf(": **refused** in %d of %d rounds, %s", refused, r.Rounds, strings.ReplaceAll(why, "|", "/"))
}

func (r *Results) writeNotes(b *strings.Builder) {
	b.WriteString("Medians of the rounds, least to most in brackets. *µs a query*: processor time of the server, in the kernel too, in the closed loop. ")
	if r.Compare == "" {
		b.WriteString("*× file*, *× loadbalance*: that time over the one of `" + fileServer + "` and of `" + loadbalanceServer + "` in the same round, the median. ")
	} else {
		b.WriteString("*Ratio to the first*: that time over the one of the first setting in the same round. ")
	}
	b.WriteString("*busy*: how much of their processors the server and dnsperf used. *p50*, *p99*: latency at half of the queries/s. *MiB*: the most memory that the process had by then.\n\n")
	for _, e := range r.Servers {
		for _, w := range r.Works {
			if clientBound(r.of(e.Name, w.Name)) {
				b.WriteString("† dnsperf was the limit, not the server, whose processor was not full: go by the processor time.\n\n")
				return
			}
		}
	}
}

// insertReport puts the tables of results between the markers of a document, and the chart beside
// it.
func insertReport(dir, document string) error {
	r, err := loadResults(dir)
	if err != nil {
		return err
	}
	section := r.section()
	text, err := os.ReadFile(filepath.Clean(document))
	if err != nil {
		return err
	}
	chart := strings.TrimSuffix(filepath.Base(document), filepath.Ext(document)) + "-" + section + ".svg"
	tables := fmt.Sprintf("![Processor time a query](%s)\n\n%s", chart, r.markdown())
	replaced, err := between(text, section, tables)
	if err != nil {
		return fmt.Errorf("%s: %w", document, err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(document), chart), []byte(r.chart()), 0o644); err != nil { //nolint:gosec // a document
		return err
	}
	return os.WriteFile(filepath.Clean(document), replaced, 0o644) //nolint:gosec // a document
}

// section is the name of the markers that the results belong between.
func (r *Results) section() string {
	if r.Compare == "" {
		return "servers"
	}
	return r.Compare
}

// between returns a text with what stands between the markers of a section replaced.
func between(text []byte, section, by string) ([]byte, error) {
	from, to := fmt.Appendf(nil, "<!-- bench %s -->\n", section), fmt.Appendf(nil, "<!-- end of bench %s -->", section)
	before, rest, ok := bytes.Cut(text, from)
	_, after, ok2 := bytes.Cut(rest, to)
	if !ok || !ok2 {
		return nil, fmt.Errorf("no lines %q and %q: want the tables between them", bytes.TrimSpace(from), to)
	}
	return slices.Concat(before, from, []byte("\n"), []byte(by), to, after), nil
}
