// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-f1518d44/balance/tools/internal/report"
)

// load is what dnsperf is to do.
type load struct {
	port        int
	queries     string  // file
	seconds     float64 // 0: until every query of the file was sent once
	rate        int     // queries a second; 0: as many as are answered
	clients     int
	outstanding int
}

// outcome is the result of a load.
type outcome struct {
	Sent, Completed, Lost int
	NoError               int     // answers with that rcode
	AnswerBytes           int     // on average
	Seconds               float64 // that it took
	QPS                   float64
	latencies             []float64 // µs, sorted; only with a rate
	client                float64   // the part of its processor that dnsperf used
}

// run has dnsperf ask.
func (l load) run(ctx context.Context, dir string) (*outcome, error) {
	args := []string{
		"-s", "127.0.0.1", "-p", strconv.Itoa(l.port), "-d", l.queries, "-e", "-W", "-T", "1",
		"-c", strconv.Itoa(l.clients), "-q", strconv.Itoa(l.outstanding),
	}
	if l.seconds > 0 {
		args = append(args, "-l", fmt.Sprint(l.seconds))
	} else {
		args = append(args, "-n", "1")
	}
	if l.rate > 0 {
		args = append(args, "-v", "-Q", strconv.Itoa(l.rate)) // -v: the latency of every query
	}
	printed := filepath.Join(dir, "dnsperf")
	out, err := os.Create(printed) //nolint:gosec // in our own directory
	if err != nil {
		return nil, err
	}
	defer out.Close()                                 //nolint:errcheck // read below
	c := exec.CommandContext(ctx, "dnsperf", args...) //nolint:gosec // our own flags
	c.Stdout, c.Stderr = out, out
	began := time.Now()
	if err := c.Run(); err != nil {
		text, _ := os.ReadFile(printed) //nolint:gosec // likewise
		return nil, fmt.Errorf("dnsperf: %w: %s", err, tail(string(text)))
	}
	took := time.Since(began)
	o, err := readOutcome(printed)
	if err != nil {
		return nil, err
	}
	o.client = (c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Seconds() / took.Seconds()
	return o, o.check()
}

// readOutcome reads what dnsperf printed.
func readOutcome(file string) (*outcome, error) {
	f, err := os.Open(file) //nolint:gosec // likewise
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	o := new(outcome)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if err := o.take(lines.Text()); err != nil {
			return nil, fmt.Errorf("dnsperf printed %q: %w", lines.Text(), err)
		}
	}
	if o.Sent == 0 || o.Seconds == 0 {
		return nil, fmt.Errorf("dnsperf printed no statistics in %s", file)
	}
	slices.Sort(o.latencies)
	return o, lines.Err()
}

// take takes a line that dnsperf printed.
func (o *outcome) take(line string) error {
	if rest, ok := strings.CutPrefix(line, "> "); ok { // > NOERROR w3.bench. A 0.000076
		fields := strings.Fields(rest)
		if seconds, err := strconv.ParseFloat(fields[len(fields)-1], 64); err == nil && len(fields) == 4 {
			o.latencies = append(o.latencies, seconds*1e6)
		}
		return nil
	}
	what, value, ok := strings.Cut(strings.TrimSpace(line), ":")
	fields := strings.Fields(value)
	if !ok || len(fields) == 0 {
		return nil
	}
	var err error
	switch what {
	case "Queries sent":
		o.Sent, err = strconv.Atoi(fields[0])
	case "Queries completed":
		o.Completed, err = strconv.Atoi(fields[0])
	case "Queries lost":
		o.Lost, err = strconv.Atoi(fields[0])
	case "Response codes": // NOERROR 12909 (100.00%), SERVFAIL ...
		if i := slices.Index(fields, "NOERROR"); i >= 0 && i+1 < len(fields) {
			o.NoError, err = strconv.Atoi(fields[i+1])
		}
	case "Average packet size": // request 37, response 109
		o.AnswerBytes, err = strconv.Atoi(fields[len(fields)-1])
	case "Run time (s)":
		o.Seconds, err = strconv.ParseFloat(fields[0], 64)
	case "Queries per second":
		o.QPS, err = strconv.ParseFloat(fields[0], 64)
	}
	return err
}

// check says what is wrong with the answers.
func (o *outcome) check() error {
	switch {
	case o.NoError != o.Completed || o.Completed == 0:
		return fmt.Errorf("%d of %d answers are NOERROR", o.NoError, o.Completed)
	case o.Lost*1000 > o.Sent: // a busy machine loses some
		return fmt.Errorf("%d of %d queries were lost", o.Lost, o.Sent)
	}
	return nil
}

// percentile returns a latency in µs, 0 if there is none.
func (o *outcome) percentile(p float64) float64 { return report.Quantile(o.latencies, p/100) }
