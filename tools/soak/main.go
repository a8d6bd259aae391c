// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command soak runs a whole CoreDNS with balance, built with the race detector, under constant load
// while all kinds of faults happen, and checks every answer. "make soak DURATION=1h" runs it;
// docs/reliability.md says what it checks.
//
//	the clients        ask over UDP, TCP and TLS, and judge every reply        asker.go, truth.go, forms.go
//	the onlooker       looks at the status page, and judges what it says       page.go, schema.go
//	the truth          what members there are, who is up, what is in force     world.go, health.go, operated.go, timeline.go
//	the order          what successive answers owe each other                  rotation.go
//	the faults         a table; adding one is adding an entry                  faults.go, faults_*.go
//	the surroundings   backends, hosts, an upstream, certificates              backends.go, grpc.go, hosts.go, upstream.go, pki.go, signing.go
//	the schedule       which fault when, by a seed                             schedule.go
//	what stays behind  goroutines, descriptors, memory, series                 settle.go
//	the report                                                                 report.go
//
// It runs in namespaces of its own (namespace.go): a network with nothing but loopback and its
// hosts, a disk that it can fill, and processes that end with it. It takes root, or a kernel that
// lets users make namespaces.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// options are what the flags say.
type options struct {
	server   string
	schema   string
	duration time.Duration
	seed     uint64
	load     int
	only     string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parseFlags(os.Args[1:])
	status := 2
	if err == nil && os.Getenv(insideVariable) == "" {
		status, err = runInside(ctx, o.args())
	} else if err == nil {
		status, err = run(ctx, o, os.Stdout, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err) //nolint:errcheck // for people
		status = 2
	}
	stop()
	os.Exit(status)
}

func parseFlags(args []string) (o options, err error) {
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.StringVar(&o.server, "server", ".cache/coredns-race", "the CoreDNS to test, a `file`")
	flags.StringVar(&o.schema, "schema", "docs/status.schema.json", "what the status page is to say, a JSON Schema `file`")
	flags.DurationVar(&o.duration, "duration", time.Minute, "how long, about")
	flags.Uint64Var(&o.seed, "seed", 0, "what the sequence of faults follows from; 0: another every time")
	flags.IntVar(&o.load, "load", 500, "queries a second, about, beside those of floods")
	flags.StringVar(&o.only, "only", "", "the faults whose names, or those of their lanes, hold this `text`, or one of some with commas")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected %q: want flags only", flags.Arg(0))
	}
	if o.load < 50 || o.load > 20_000 {
		return o, fmt.Errorf("load: found %d: want 50 to 20000 queries a second", o.load)
	}
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano()) % 1_000_000
	}
	return o, nil
}

// args returns the flags that say the same.
func (o options) args() []string {
	return []string{"-server", o.server, "-schema", o.schema, "-duration", o.duration.String(), "-seed", strconv.FormatUint(o.seed, 10), "-load", strconv.Itoa(o.load), "-only", o.only}
}

// run soaks in new namespaces and returns the exit status: 1 if there was a violation.
func run(ctx context.Context, o options, out, progress io.Writer) (status int, err error) {
	if err := furnish(); err != nil {
		return 2, err
	}
	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		return 2, err
	}
	defer os.RemoveAll(dir)                      //nolint:errcheck // what can be
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the server reads it
		return 2, err
	}
	fmt.Fprintf(progress, "soak: seed %d, %s\n", o.seed, o.duration) //nolint:errcheck // for people
	until := time.Now().Add(o.duration)
	w, err := newWorld(ctx, dir, o.server, o.load, progress)
	if w != nil {
		defer w.close()
	}
	if err != nil {
		return 2, err
	}
	s, err := readSchema(o.schema)
	if err != nil {
		return 2, err
	}
	start, end := w.soak(ctx, o, s, until)
	w.finish()
	fmt.Fprintf(out, "soak -seed %d -duration %s -load %d\n\n", o.seed, o.duration, o.load) //nolint:errcheck // for people
	w.count.print(out, start, end)
	fmt.Fprintln(out, w.lateness) //nolint:errcheck // for people
	if w.blind.Load() {
		fmt.Fprintln(out, "CoreDNS' prometheus lost its listener for lack of descriptors: what metrics say at the end is not known") //nolint:errcheck // for people
	}
	if len(w.count.violations) > 0 {
		fmt.Fprintf(out, "\nTo see it again: soak -seed %d -duration %s -load %d\n", o.seed, o.duration, o.load) //nolint:errcheck // for people
		return 1, ctx.Err()
	}
	return 0, ctx.Err()
}

// soak lets the clients ask and the faults happen until the time is over. It returns what the
// server used before and after.
func (w *world) soak(ctx context.Context, o options, s *schema, until time.Time) (start, end resources) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // without the server there is nothing to soak
		<-w.server.ended
		if !w.server.stopping.Load() {
			w.violation("the server ends", "%v\n%s", w.server.err, w.server.log.tail(100))
		}
		cancel()
	}()
	var asking, telling sync.WaitGroup
	quiet, hush := context.WithCancel(ctx)
	for _, a := range w.askers {
		asking.Go(func() { a.run(quiet) })
	}
	asking.Go(func() { newLooker(w, s).run(quiet) })
	telling.Go(func() { w.tell(quiet) })
	start = w.warmUp(ctx)
	end = start
	decks := newDecks(o.chosen(faults(w)), o.seed)
	half := time.Now().Add(time.Until(until) / 2)
	for cycle := (schedule{mixed: 30 * time.Second, alone: 2}); ctx.Err() == nil && len(decks) > 0; {
		w.chooseReloader(ctx, o, half)
		cycle.cycle(ctx, w, decks, until)
		if ctx.Err() == nil {
			end = w.settle(ctx, &start)
		}
		if time.Until(until) < cycle.mixed/2 {
			break
		}
	}
	hush()
	asking.Wait()
	telling.Wait()
	return start, end
}

// chooseReloader changes to signals in the second half of the time, or at once if the time is short
// and the seed odd.
func (w *world) chooseReloader(ctx context.Context, o options, half time.Time) {
	short := time.Until(half) < time.Minute && o.duration < 2*time.Minute
	if atOnce := short && o.seed%2 == 1; w.reloader.bySignal || time.Now().Before(half) && !atOnce {
		return
	}
	if err := w.turnToSignals(ctx); err != nil {
		w.violation("a reload goes wrong", "to a Corefile without the reload plugin: %v\n%s", err, w.server.log.tail(20))
	}
}

// chosen returns the faults that the flags ask for.
func (o options) chosen(all []fault) []fault {
	return slices.DeleteFunc(all, func(f fault) bool {
		return !slices.ContainsFunc(strings.Split(o.only, ","), func(text string) bool { return strings.Contains(f.name, text) || strings.Contains(f.lane, text) })
	})
}

// warmUp loads every Corefile once, so that what they need is allocated, and returns what the
// server uses.
func (w *world) warmUp(ctx context.Context) resources {
	for _, v := range append(slices.Clone(changes), variant{}) {
		w.reloading.set(true)
		if w.load(ctx, v) != nil {
			break
		}
	}
	w.reloading.set(false)
	if pause(ctx, time.Second) != nil {
		return resources{}
	}
	return w.settle(ctx, nil)
}

// tell prints the progress from time to time.
func (w *world) tell(ctx context.Context) {
	for pause(ctx, 10*time.Second) == nil {
		fmt.Fprintln(w.progress, w.progressLine()) //nolint:errcheck // for people
		w.server.log.mark()
	}
}

// finish checks what is only known at the end, and stops the server.
func (w *world) finish() {
	for _, s := range w.subjects {
		if s.tally != nil {
			if wrong := s.tally.uneven(); wrong != "" {
				w.violation("leads are uneven", "%s", wrong)
			}
		}
	}
	w.server.log.mark()
	select {
	case <-w.server.ended:
	default:
		if err := w.server.stop(); err != nil {
			w.count.violation("the server ends badly", fmt.Sprintf("%v\n%s", err, w.server.log.tail(50)))
		}
	}
	if text, err := w.server.raceReports(); err != nil || text != "" {
		w.count.violation("data races", fmt.Sprintf("%v%s", text, err))
		fmt.Fprintln(w.progress, text) //nolint:errcheck // for people
	}
}

// close ends everything that was started.
func (w *world) close() {
	if w.server != nil && !w.server.stopping.Load() {
		w.server.cmd.Process.Kill() //nolint:errcheck,gosec // may be over
	}
	unmount(filepath.Join(w.dir, "disk"))
}
