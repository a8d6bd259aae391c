// SPDX-License-Identifier: Apache-2.0

// Package spread is "balancectl spread": it shows how a DNS server spreads its answers: it asks for
// a name many times and says which member led how often, against what was wanted. It works against
// any server.
//
//	balancectl spread [flags] NAME [TYPE] [@SERVER[:PORT]]
//
// What happens, from top to bottom:
//
//	readOptions    what to ask, whom, and what is wanted       options.go, series.go, wanted.go
//	asker.askAll   asks, several questions at a time           asker.go
//	tally.add      counts a reply: who led, who followed       tally.go, members.go
//	judge          compares the leads with what is wanted      judge.go
//	newReport      puts all of it together                     report.go
//	               shows it as text, JSON or SVG               table.go, bar.go, svg.go
//
// With -watch there is no verdict, but a line whenever a member comes or goes: watch.go,
// presence.go. progress.go draws on it while questions are asked.
package spread

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/seed-f1518d44/balance/cmd/balancectl/terminal"
)

// Exit statuses, as -h tells them.
const (
	exitAsWanted    = 0
	exitNotAsWanted = 1
	exitNoVerdict   = 2
)

// Run carries out "balancectl spread" and returns the exit status.
func Run(ctx context.Context, args []string, out, problems *os.File) int {
	return run(ctx, args, streams{
		out: out, err: problems,
		screen: screen{terminal.Of(out, os.Getenv)}, progress: screen{terminal.Of(problems, os.Getenv)},
	})
}

// screen is what a stream can show, and how tables are drawn there.
type screen struct{ terminal.Screen }

// streams is where a run writes to.
type streams struct {
	out, err         io.Writer
	screen, progress screen // what out and err can show
}

// run carries out a command line and returns the exit status.
func run(ctx context.Context, args []string, s streams) int {
	status, err := carryOut(ctx, args, s)
	if errors.Is(err, flag.ErrHelp) {
		return exitAsWanted
	}
	if err != nil {
		_, _ = fmt.Fprintln(s.err, "balancectl spread:", err)
		return exitNoVerdict
	}
	return status
}

func carryOut(ctx context.Context, args []string, s streams) (status int, err error) {
	o, err := readOptions(args, s.err)
	if err != nil {
		return 0, err
	}
	if o.watch {
		return exitAsWanted, watch(ctx, o, s)
	}
	r := measure(ctx, o, s)
	return r.exitStatus(), show(r, o, s)
}

// measure asks all that is to be asked, or as much as there is time for before ctx is done.
func measure(ctx context.Context, o *options, s streams) *report {
	t := newTally(o.question())
	p := newProgress(s.err, s.progress, o.count)
	start := time.Now()
	newAsker(o).askAll(ctx, o.count, func(r reply) {
		t.add(r)
		p.draw(t, time.Now())
	})
	p.clear()
	return newReport(o, t, time.Since(start))
}

// show writes a report in the form that was asked for, even if it cannot be drawn: it may have taken
// long to get.
func show(r *report, o *options, s streams) error {
	err := write(s.out, r, o.json, s.screen)
	if o.svg != "" {
		err = errors.Join(err, writeSVG(o.svg, r))
	}
	return err
}

func write(out io.Writer, r *report, asJSON bool, on screen) error {
	if !asJSON {
		_, err := io.WriteString(out, r.table(on))
		return err
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}
