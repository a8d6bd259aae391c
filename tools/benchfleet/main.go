// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command benchfleet measures what a fleet of replicas does to probes, to the time until dead
// backends leave the answers of all replicas, and to the network. "make bench-fleet" runs it;
// docs/fleet.md has results.
//
// Replicas are processes in network namespaces, and this process is the network between them, the
// backends and the clients (package testbed). One more replica, which is in no fleet, sees the same
// backends in the same run: it is what a fleet is compared with.
//
//	main.go       the flags, and the measurements in their order
//	probes.go     how often an endpoint is probed
//	kills.go      how long killed backends stay in the answers, also if a replica dies too
//	stopwatch.go  times that by the answers
//	cut.go        one replica that cannot reach the backends
//	mass.go       thousands of endpoints, of which many die at once; what the fleet says meanwhile
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/seed-f1518d44/balance/tools/internal/netns"
	"github.com/seed-f1518d44/balance/tools/internal/report"
	"github.com/seed-f1518d44/balance/tools/internal/testbed"
)

// options are those of a run.
type options struct {
	coredns  string
	replicas int // of the largest fleet
	kills    int
	doubles  int // kills of a backend and a replica that probes it
	many     int // endpoints
	only     string
}

// apartVariable is set in the environment of the process that has a network namespace of its own.
const apartVariable = "BENCHFLEET_APART"

func main() {
	status, err := 0, error(nil)
	if os.Getenv(apartVariable) == "" {
		status, err = netns.Again(context.Background(), apartVariable, 0, os.Args[1:]...)
	} else {
		err = run(os.Args[1:], os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchfleet:", err)
		status = 1
	}
	os.Exit(status)
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("benchfleet", flag.ContinueOnError)
	flags.StringVar(&o.coredns, "coredns", ".cache/coredns", "`file` of a CoreDNS with balance")
	flags.IntVar(&o.replicas, "replicas", 9, "replicas of the largest fleet")
	flags.IntVar(&o.kills, "kills", 100, "backends to kill")
	flags.IntVar(&o.doubles, "doubles", 12, "backends to kill together with a replica that probes them")
	flags.IntVar(&o.many, "many", 5000, "endpoints where there are many")
	flags.StringVar(&o.only, "only", "", "part of the `name` of the measurements to make: probes, kills, doubles, cut, mass; all without")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.replicas < 3 || o.replicas > 12 || o.kills < 2 || o.kills > 200 || o.doubles < 1 || o.many < 500 || o.many > 20_000 {
		return o, errors.New("want flags only, 3 to 12 replicas, 2 to 200 kills, a double at least, and 500 to 20000 endpoints")
	}
	return o, nil
}

// run makes the measurements and prints a table.
func run(args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	var table report.Table
	table.Head("what", "measured", "target")
	for _, m := range []struct {
		name    string
		measure func(options, *report.Table) error
	}{{"probes", measureProbes}, {"kills", measureKills}, {"doubles", measureDoubles}, {"cut", measureCut}, {"mass", measureMass}} {
		if !strings.Contains(m.name, o.only) {
			continue
		}
		fmt.Fprintln(os.Stderr, m.name, "...")
		if err := m.measure(o, &table); err != nil { // what was measured until then took long
			_, _ = io.WriteString(out, table.String())
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	_, err = io.WriteString(out, table.String())
	return err
}

// with starts a testbed and calls a function with it, once its replicas know all backends and, in a
// fleet, each other.
func (o options) with(b testbed.Options, hear func(testbed.Answer), measure func(*testbed.Bed) error) error {
	dir, err := os.MkdirTemp("", "benchfleet")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // temporary
	b.CoreDNS, b.Dir = o.coredns, dir
	bed, err := testbed.New(b, hear)
	if err != nil {
		return err
	}
	defer bed.Close()
	if err := bed.Start(); err != nil {
		return err
	}
	if err := settled(bed); err != nil {
		return err
	}
	return measure(bed)
}

// settled waits until all replicas of a testbed know all backends and each other.
func settled(b *testbed.Bed) error {
	members := len(b.Replicas) - b.Extra
	for i, r := range b.Replicas {
		err := eventually(fmt.Sprintf("%s knows everything", r), func() bool {
			up, err := r.Metric(`coredns_balance_endpoints{state="up"`)
			seen, err2 := r.Metric("coredns_balance_fleet_members{")
			return err == nil && err2 == nil && int(up) == live(b) && (i >= members || int(seen) == members)
		})
		if err != nil {
			return fmt.Errorf("%w; it said\n%s", err, r.Log())
		}
	}
	return nil
}

// live returns how many backends of a testbed are up.
func live(b *testbed.Bed) (n int) {
	for _, backend := range b.Backends {
		if backend.Up() {
			n++
		}
	}
	return n
}

// eventually polls until done, for two minutes at most.
func eventually(what string, done func() bool) error {
	for deadline := time.Now().Add(2 * time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("never: %s", what)
		}
	}
	return nil
}
