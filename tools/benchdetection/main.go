// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command benchdetection measures how long a dead backend stays in the answers: of CoreDNS with
// balance, with and without hold, and of the servers from Debian that check health too. "make
// bench-detection" runs it; docs/performance.md has results.
//
// It runs in a network namespace of its own, which has loopback and nothing else, and so takes root
// or a kernel that lets users make namespaces. Backends are processes (backends.go) that are killed
// or stopped at random times; each server is started with a configuration of ours (systems.go),
// asked every millisecond from then on until an answer lacks the backend (rounds.go), and what came
// of it is a Markdown table (report.go).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/seed-f1518d44/balance/tools/internal/netns"
)

// options are those of a run.
type options struct {
	coredns string // the binary to measure
	rounds  int    // backends that are killed, and that are frozen, in every case
	many    int    // endpoints of the cases with many
	only    string // part of the names of cases
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "benchdetection:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) > 0 && args[0] == backendRole {
		return beBackends(args[1:])
	}
	var o options
	flags := flag.NewFlagSet("benchdetection", flag.ContinueOnError)
	flags.StringVar(&o.coredns, "coredns", ".cache/coredns", "`file` of a CoreDNS with balance")
	flags.IntVar(&o.rounds, "rounds", 7, "backends to kill, and to freeze, in every case")
	flags.IntVar(&o.many, "many", 10_000, "endpoints in the cases with many")
	flags.StringVar(&o.only, "only", "", "part of the `name` of the cases to measure; all without")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || o.rounds < 1 || o.rounds > 50 || o.many < 200 || o.many > 60_000 {
		return fmt.Errorf("bad arguments %q: want flags only, 1 to 50 rounds and 200 to 60000 endpoints", args)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if os.Getenv(apartVariable) == "" {
		return runApart(ctx, args)
	}
	if err := errors.Join(netns.LoopbackUp(), moreDescriptors()); err != nil {
		return err
	}
	return measureAll(ctx, o, out)
}

// apartVariable is set in the environment of the process that has a network namespace of its own.
const apartVariable = "BENCHDETECTION_APART"

// runApart runs this program again, in a network namespace of its own.
func runApart(ctx context.Context, args []string) error {
	c, err := netns.Apart(ctx, 0, args...)
	if err != nil {
		return err
	}
	c.Env, c.Stdout = append(c.Env, apartVariable+"=1"), os.Stdout
	return netns.Explain(c.Run())
}

// moreDescriptors raises the limit of descriptors for this process and those that it starts as far
// as possible. Each endpoint needs one in the server and two in the backends.
func moreDescriptors() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	limit.Cur = limit.Max
	return os.NewSyscallError("setrlimit", syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
}

// measureAll measures all cases and prints the table.
func measureAll(ctx context.Context, o options, out io.Writer) error {
	dir, err := os.MkdirTemp("", "benchdetection")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // temporary
	var results []result
	for i, c := range cases(o) {
		if !strings.Contains(c.String(), o.only) {
			continue
		}
		if missing := c.missing(); missing != "" {
			fmt.Fprintf(os.Stderr, "%s: %s is not installed\n", c, missing)
			results = append(results, result{Case: c, Missing: missing})
			continue
		}
		r, err := c.measure(ctx, o, filepath.Join(dir, strconv.Itoa(i)))
		if err != nil { // what was measured until then may have taken long
			return errors.Join(fmt.Errorf("%s: %w", c, err), printTable(out, o, results))
		}
		fmt.Fprintf(os.Stderr, "%s: killed %s, frozen %s\n", c, r.Killed, r.Frozen)
		results = append(results, r)
	}
	return printTable(out, o, results)
}
