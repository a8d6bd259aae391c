// SPDX-License-Identifier: Apache-2.0

// Command balancectl shows what balance does, checks its files, and takes members out of the
// answers.
//
//	main.go      the commands
//	page.go      what the option "status" serves, as JSON
//	status.go    the same, as a table
//	why.go       the answer that a client would get, and why
//	check.go     what is wrong with a Corefile and its files, and has no effect
//	edit.go      drain, down, up, failback and clear: what they change
//	file.go      the overrides file: lock, validate, write, show the difference
//	guard.go     refuses what would leave a name without members
//	spread/      asks a server many times and judges its answers
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/seed-f1518d44/balance/cmd/balancectl/spread"
	"github.com/seed-f1518d44/balance/cmd/balancectl/terminal"
)

// Exit statuses, as the manual page lists them.
const (
	exitDone    = 0
	exitNot     = 1 // status, check: problems; an edit: refused, or not taken by the server
	exitFailure = 2
)

// streams is where a command writes to.
type streams struct {
	out, err io.Writer
	screen   terminal.Screen // what out can show
}

func (s streams) printf(format string, args ...any)   { _, _ = fmt.Fprintf(s.out, format, args...) }
func (s streams) complain(format string, args ...any) { _, _ = fmt.Fprintf(s.err, format, args...) }

// errRefused is in the chain of an error that means "no", not "it failed".
var errRefused = errors.New("refused")

// command is one of balancectl's.
type command struct {
	name, arguments, about string
	run                    func(ctx context.Context, args []string, s streams) (status int, err error)
}

// commands returns all but spread, which reads its own arguments.
func commands() []command {
	all := []command{
		{"status", "[flags]", "show names, members, verdicts and problems", runStatus},
		{"why", "NAME [TYPE] [from CLIENT] [at PAGE]", "show the answer that a client would get, and why", runWhy},
		{"check", "[COREFILE] [weights|overrides FILE]", "check configuration files", runCheck},
	}
	for _, what := range edits {
		all = append(all, command{what.name, what.arguments(), what.about, what.run})
	}
	return append(all, command{"completion", "bash|zsh", "write a completion script for a shell", runCompletion})
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:])
	stop()
	os.Exit(status)
}

func run(ctx context.Context, args []string) int {
	if len(args) > 0 && args[0] == "spread" {
		return spread.Run(ctx, args[1:], os.Stdout, os.Stderr)
	}
	return carryOut(ctx, args, streams{os.Stdout, os.Stderr, terminal.Of(os.Stdout, os.Getenv)})
}

// carryOut runs a command and returns the exit status.
func carryOut(ctx context.Context, args []string, s streams) int {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		s.printf("%s", usage())
		return exitDone
	}
	for _, c := range commands() {
		if c.name != args[0] {
			continue
		}
		status, err := c.run(ctx, args[1:], s)
		switch {
		case errors.Is(err, flag.ErrHelp):
			return exitDone
		case errors.Is(err, errRefused):
			status = exitNot
		case err != nil && status == exitDone:
			status = exitFailure
		}
		if err != nil {
			s.complain("balancectl %s: %v\n", c.name, err)
		}
		return status
	}
	s.complain("balancectl: unknown command %q: want one of %s\n", args[0], strings.Join(commandNames(), ", "))
	return exitFailure
}

func commandNames() (names []string) {
	for _, c := range commands() {
		names = append(names, c.name)
	}
	return append(names, "spread", "help")
}

func usage() string {
	var b strings.Builder
	b.WriteString("balancectl shows what balance does, checks its files, and takes members out of the answers.\n\n")
	line := func(name, arguments, about string) {
		fmt.Fprintf(&b, "  balancectl %-41s %s\n", name+" "+arguments, about)
	}
	for _, c := range commands() {
		line(c.name, c.arguments, c.about)
	}
	line("spread", "[flags] NAME [TYPE] [@SERVER]", "ask a server many times and judge its answers")
	b.WriteString("\n\"balancectl COMMAND -h\" lists the flags of a command.\n" +
		"Exit status: 0 done; 1 done with problems, or refused; 2 failed. spread -h has its own.\n")
	return b.String()
}

// flagSet is the flags of a command, and its help.
type flagSet struct {
	*flag.FlagSet
	help func()
}

func newFlags(name, arguments, about string, s streams) flagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	return flagSet{flags, func() {
		s.printf("%s\n\n  balancectl %s %s\n\n", about, name, arguments)
		flags.SetOutput(s.out)
		flags.PrintDefaults()
	}}
}

// words reads flags, which may stand anywhere, and returns the words between them.
func (flags flagSet) words(args []string) (words []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				flags.help()
			}
			return nil, err
		}
		if flags.NArg() == 0 {
			return words, nil
		}
		words, args = append(words, flags.Arg(0)), flags.Args()[1:]
	}
}
