// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command bench measures what an answer costs: CoreDNS with balance beside CoreDNS without it,
// CoreDNS with its own loadbalance, and other balancing name servers. "make bench" runs it;
// docs/performance.md says how, and has results.
//
// The server has one processor, the client (dnsperf) another. One server runs at a time; in each
// round each is started anew, in random order, so that what drifts on the machine drifts for all:
//
//	work.go       names, addresses and weights that are asked for
//	servers.go    what is measured; coredns.go, peers.go, floor.go how each is started
//	process.go    a server on its processor, and what it used of it
//	backends.go   what health checks connect to
//	verify.go     whether a server answers as it should: what does not is not measured
//	dnsperf.go    load, and what came of it
//	rounds.go     the order of it all, with progress
//	compare.go    the same server with other settings of Go's runtime, or built with a profile
//	profile.go    a CPU profile for the compiler
//	results.go    what is kept; summary.go medians and ratios, report.go tables, plot.go the chart
//	machine.go    what it ran on
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
)

// Options are the flags.
type Options struct {
	Command     string // what was typed
	Rounds      int
	Seconds     float64 // of a closed loop; half as long at half the load
	Only        *regexp.Regexp
	Quick       bool
	Out         string // directory
	CoreDNS     string // program
	CoreDNSPGO  string // program, built with a profile
	Compare     string // "", "gc" or "pgo"
	Profile     string // file
	Report      string // directory of results to put into Document
	Document    string
	Clients     int
	Outstanding int
}

func main() {
	if done, err := playRole(); done {
		exitOn(err)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exitOn(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func exitOn(err error) {
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run does what the flags say. Results go to out, progress to progress.
func run(ctx context.Context, args []string, out, progress io.Writer) error {
	o, err := parse(args, progress)
	if err != nil {
		return err
	}
	switch {
	case o.Report != "":
		return insertReport(o.Report, o.Document)
	case o.Profile != "":
		return gatherProfile(ctx, o, progress)
	}
	r, err := measure(ctx, o, progress)
	if r == nil {
		return err
	}
	if len(r.Servers) == 0 {
		return fmt.Errorf("-only %q: leaves nothing to measure", o.Only)
	}
	if err := r.save(o.Out); err != nil {
		return err
	}
	_, _ = io.WriteString(out, r.markdown())
	_, _ = fmt.Fprintf(progress, "written to %s: results.md, results.svg, results.json\n", o.Out)
	return errors.Join(err, r.refusals())
}

func parse(args []string, usage io.Writer) (*Options, error) {
	o := &Options{Command: strings.Join(append([]string{"benchsuite"}, args...), " ")}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.IntVar(&o.Rounds, "rounds", 5, "rounds, in each of which every server is started and measured once")
	flags.Float64Var(&o.Seconds, "seconds", 0.8, "seconds of a closed loop; half as many at half the load follow")
	only := flags.String("only", "", "`regexp` of \"server/work\", to measure some")
	flags.BoolVar(&o.Quick, "quick", false, "see whether all works: one short round, each server with one work; for no document")
	flags.StringVar(&o.Out, "out", ".cache/bench", "`directory` for results.md, results.svg and results.json")
	flags.StringVar(&o.CoreDNS, "coredns", ".cache/coredns", "`program` built from cmd/coredns")
	flags.StringVar(&o.CoreDNSPGO, "coredns-pgo", ".cache/coredns-pgo", "`program` built from cmd/coredns with a profile, for -compare pgo")
	flags.StringVar(&o.Compare, "compare", "", "gc: settings of the garbage collector and stacks; pgo: built with a profile and without")
	flags.StringVar(&o.Profile, "profile", "", "gather a CPU profile for the compiler into `file`, and measure nothing")
	flags.StringVar(&o.Report, "report", "", "`directory` of results to put into the document, measuring nothing")
	flags.StringVar(&o.Document, "document", "bench/results/answers.md", "`file` for -report; the chart goes beside it")
	flags.IntVar(&o.Clients, "clients", 4, "sockets of dnsperf (-c)")
	flags.IntVar(&o.Outstanding, "outstanding", 100, "queries of dnsperf under way at once (-q)")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected %q: want flags only", flags.Arg(0))
	}
	var err error
	if o.Only, err = regexp.Compile(*only); err != nil {
		return nil, fmt.Errorf("-only %q: want a regular expression: %w", *only, err)
	}
	if o.Quick {
		o.Rounds, o.Seconds = 1, 0.2
	}
	return o, o.validate()
}

func (o *Options) validate() error {
	switch {
	case o.Rounds < 1:
		return fmt.Errorf("-rounds %d: want 1 or more", o.Rounds)
	case o.Seconds < 0.1:
		return fmt.Errorf("-seconds %g: want 0.1 or more", o.Seconds)
	case o.Compare != "" && comparisons[o.Compare] == nil:
		return fmt.Errorf("-compare %q: want gc or pgo", o.Compare)
	case o.Clients < 1, o.Outstanding < 1:
		return fmt.Errorf("-clients %d, -outstanding %d: want 1 or more", o.Clients, o.Outstanding)
	}
	return nil
}
