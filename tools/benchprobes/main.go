// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command benchprobes measures what health checks cost and whether they are on time, with a whole
// CoreDNS and real sockets on 127.0.0.0/8. "make bench-probes" runs it; docs/probing.md has
// results.
//
// Every scenario runs in processes of its own, so that what is measured is the prober's alone:
//
//	benchprobes     starts a prober per scenario and prints the table          main.go, report.go
//	prober          is CoreDNS with balance, and measures itself               prober.go, server.go, measure.go
//	backends        accept what the prober opens, and time it                  backends.go
//	asker           asks the prober's CoreDNS at a constant rate               asker.go
//
// They run in a network namespace that is made for them, which has a loopback interface and nothing
// else: one listener on every address serves all of 127.0.0.0/8, nobody else can reach it, and
// limits such as the range of local ports can be set without touching the machine. It takes root,
// or a kernel that lets users make namespaces.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/seed-f1518d44/balance/tools/internal/netns"
)

// Scenario is what a prober is to do.
type Scenario struct {
	Name   string
	Check  string // tcp or http
	Silent bool   // the backends never answer
	Hold   bool   // with the option hold, and backends that leave closing to the prober
	// Backends of each hostile kind, the last of the endpoints; the others are healthy.
	Hostile     int
	Endpoints   int
	Interval    time.Duration
	Timeout     time.Duration
	MaxInterval time.Duration // 0: the default
	MaxInFlight int
	Rounds      int           // that are measured, each of RoundTime
	RoundTime   time.Duration // 0: Interval
	Warmup      time.Duration // before them, once every endpoint was probed; 0: two intervals
	QueryRate   int           // per second
	QueryTime   time.Duration

	// Limits to print beside what is measured; 0: none.
	MaxCores        float64
	MaxHeapEndpoint int

	CPUProfile, HeapProfile string // files
}

// RecordsPerName is how many addresses one name has.
const RecordsPerName = 10

var scenarios = map[string]Scenario{
	"tcp100k": {
		Check: "tcp", Endpoints: 100_000, Interval: 10 * time.Second, Timeout: 2 * time.Second, MaxInFlight: 256,
		Rounds: 5, MaxCores: 0.6, MaxHeapEndpoint: 512,
	},
	"tcp10k": { // without hold, for what hold10k costs beyond it
		Check: "tcp", Endpoints: 10_000, Interval: 5 * time.Second, Timeout: 2 * time.Second, MaxInFlight: 256,
		Rounds: 8,
	},
	"hold10k": {
		Check: "tcp", Hold: true, Endpoints: 10_000, Interval: 5 * time.Second, Timeout: 2 * time.Second, MaxInFlight: 256,
		Rounds: 8,
	},
	"http10k": {
		Check: "http", Endpoints: 10_000, Interval: 5 * time.Second, Timeout: 2 * time.Second, MaxInFlight: 256,
		Rounds: 8, MaxCores: 0.35,
	},
	"timeout10k": {
		Check: "http", Silent: true, Endpoints: 10_000, Interval: 5 * time.Second, Timeout: 250 * time.Millisecond,
		MaxInterval: 5 * time.Second, MaxInFlight: 256,
		Rounds: 10, RoundTime: 10 * time.Second, // 256 in flight, four times a second each
	},
	"hostile": { // 500 of each kind beside 1,000 healthy ones
		Check: "http", Hostile: 500, Endpoints: 1000 + 500*len(hostile), Interval: 5 * time.Second, Timeout: time.Second,
		MaxInterval: 5 * time.Second, MaxInFlight: 256,
		Rounds: 8,
	},
	"healthy": { // the same without the hostile ones
		Check: "http", Endpoints: 1000, Interval: 5 * time.Second, Timeout: time.Second, MaxInFlight: 256,
		Rounds: 8,
	},
	"overload": {
		Check: "http", Endpoints: 30_000, Interval: time.Second, Timeout: 500 * time.Millisecond, MaxInFlight: 256,
		Rounds: 5, RoundTime: 5 * time.Second,
	},
	"overload5k": { // so many at once that they wait for a processor longer than for the backends
		Check: "http", Endpoints: 30_000, Interval: time.Second, Timeout: 200 * time.Millisecond, MaxInFlight: 5000,
		Rounds: 5, RoundTime: 5 * time.Second,
	},
}

func main() {
	if done, err := playRole(); done {
		exitOn(err)
		return
	}
	exitOn(run(os.Args[1:], os.Stdout))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchprobes:", err)
		os.Exit(1)
	}
}

// run measures the scenarios that the flags name, and prints the table of each.
func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("benchprobes", flag.ContinueOnError)
	names := flags.String("scenario", "all", "one of "+strings.Join(slices.Sorted(maps.Keys(scenarios)), ", ")+", or all, or some with commas")
	var override Scenario
	flags.IntVar(&override.Endpoints, "endpoints", 0, "number of endpoints, if not the scenario's")
	flags.DurationVar(&override.Interval, "interval", 0, "interval, if not the scenario's")
	flags.DurationVar(&override.Timeout, "timeout", 0, "timeout, if not the scenario's")
	flags.IntVar(&override.MaxInFlight, "max-in-flight", 0, "max_in_flight, if not the scenario's")
	flags.IntVar(&override.Rounds, "rounds", 0, "rounds to measure, if not the scenario's")
	flags.StringVar(&override.CPUProfile, "cpuprofile", "", "`file` for a profile of the measured rounds")
	flags.StringVar(&override.HeapProfile, "memprofile", "", "`file` for a profile of the heap at rest")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected %q: want flags only", flags.Arg(0))
	}
	chosen := strings.Split(*names, ",")
	if *names == "all" {
		chosen = slices.Sorted(maps.Keys(scenarios))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	for _, name := range chosen {
		s, ok := scenarios[name]
		if !ok {
			return fmt.Errorf("unknown scenario %q: want one of %s", name, strings.Join(slices.Sorted(maps.Keys(scenarios)), ", "))
		}
		s.Name = name
		m, err := measureApart(ctx, s.with(override))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if _, err := io.WriteString(out, m.String()); err != nil {
			return err
		}
	}
	return nil
}

// with returns the scenario with what the flags say, and with defaults for what it leaves out.
func (s Scenario) with(o Scenario) Scenario {
	override(&s.Endpoints, o.Endpoints)
	override(&s.Interval, o.Interval)
	override(&s.Timeout, o.Timeout)
	override(&s.MaxInFlight, o.MaxInFlight)
	override(&s.Rounds, o.Rounds)
	override(&s.CPUProfile, o.CPUProfile)
	override(&s.HeapProfile, o.HeapProfile)
	orElse(&s.RoundTime, s.Interval)
	orElse(&s.Warmup, 2*s.Interval)
	orElse(&s.QueryRate, 1000)
	orElse(&s.QueryTime, 10*time.Second)
	return s
}

func override[T comparable](value *T, by T) {
	var zero T
	if by != zero {
		*value = by
	}
}

func orElse[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}

// roleVariable tells a process that this program started what it is; scenarioVariable, what to do.
const (
	roleVariable     = "BENCHPROBES_ROLE"
	scenarioVariable = "BENCHPROBES_SCENARIO"
)

// playRole does what this process was started for, if it was started by this program.
func playRole() (done bool, err error) {
	switch role := os.Getenv(roleVariable); role {
	case "":
		return false, nil
	case "prober":
		return true, playProber()
	case "backends":
		return true, serve(&Backends{})
	case "asker":
		return true, serve(&Asker{})
	default:
		return true, fmt.Errorf("unknown role %q", role)
	}
}

// measureApart measures a scenario in a process with a network namespace of its own.
func measureApart(ctx context.Context, s Scenario) (*Measurement, error) {
	order, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	prober, err := netns.Apart(ctx, 0)
	if err != nil {
		return nil, err
	}
	prober.Env = append(prober.Env, roleVariable+"=prober", scenarioVariable+"="+string(order))
	result, err := prober.Output()
	if err != nil {
		return nil, netns.Explain(err)
	}
	m := new(Measurement)
	return m, json.Unmarshal(result, m)
}

// reexec returns this program as a command that plays a role. It ends with ctx.
func reexec(ctx context.Context, role string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, self) //nolint:gosec // ourselves
	c.Env = append(os.Environ(), roleVariable+"="+role)
	c.Stderr = os.Stderr
	return c, nil
}
