// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/seed-f1518d44/balance/tools/internal/ask"
)

// Backends that die, each a process, and those that stay.
var (
	mortal  = netip.MustParseAddr("127.1.0.1")
	staying = netip.MustParseAddr("127.2.0.1")
)

// perName is how many addresses each name has in a case with many endpoints.
const perName = 10

// lasting returns how many backends stay up.
func (c testCase) lasting(o options) int { return max(1, c.Endpoints-2*o.rounds) }

// result is that of a case.
type result struct {
	Case           testCase
	Missing        string
	Killed, Frozen times
}

// measure starts backends and the server, and kills and freezes backends at random times, one after
// the other, until each is out of the answers.
func (c testCase) measure(ctx context.Context, o options, dir string) (r result, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return r, err
	}
	const each = 4000 // of which a process can hold both the listener and a connection
	for first := 0; first < c.lasting(o); first += each {
		others, err := startBackends(ctx, addrOf(staying, first), min(each, c.lasting(o)-first))
		if err != nil {
			return r, err
		}
		defer end(others)
	}
	backends := make([]*exec.Cmd, 2*o.rounds)
	for i := range backends {
		if backends[i], err = startBackends(ctx, addrOf(mortal, i), 1); err != nil {
			return r, err
		}
		defer end(backends[i])
	}
	stop, err := c.start(ctx, o, dir)
	if err != nil {
		return r, err
	}
	defer stop()
	if err := c.ready(ctx, o); err != nil {
		return r, err
	}
	r.Case = c
	r.Killed, err = c.strike(ctx, backends, 0, o.rounds, syscall.SIGKILL)
	if err != nil || c.blind {
		return r, err
	}
	r.Frozen, err = c.strike(ctx, backends, o.rounds, 2*o.rounds, syscall.SIGSTOP)
	return r, err
}

// start starts the server.
func (c *testCase) start(ctx context.Context, o options, dir string) (stop func(), err error) {
	command, err := c.configure(c, o, dir)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(dir + "/log") //nolint:gosec // ours
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // the user's own
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() { end(cmd); _ = log.Close() }
	err = waitUntil(ctx, "the server answers", func() bool {
		_, err := addresses(name(0))
		return err == nil
	})
	if err != nil {
		stop()
		text, _ := os.ReadFile(dir + "/log") //nolint:gosec // ours
		return nil, fmt.Errorf("%w; it said %.2000s", err, text)
	}
	return stop, nil
}

// ready waits until all endpoints are known to be up, and an interval longer, until probes are
// spread as in a server that has run for long.
func (c testCase) ready(ctx context.Context, o options) error {
	for i := range (c.lasting(o) + perName - 1) / perName {
		if c.Endpoints > 0 {
			_, _ = addresses(fmt.Sprintf("n%d.example.org.", i))
		}
	}
	for i := range 2 * o.rounds {
		err := waitUntil(ctx, name(i)+" has two addresses", func() bool {
			n, err := addresses(name(i))
			return err == nil && len(n) == 2
		})
		if err != nil {
			return err
		}
	}
	if c.Server == "balance" {
		want := c.lasting(o) + 2*o.rounds
		err := waitUntil(ctx, "all are up and held", func() bool {
			up, held := known(ctx)
			return up == want && (held == want || !c.Hold)
		})
		if err != nil {
			return err
		}
	}
	return pause(ctx, c.interval+3*time.Second)
}

// strike sends a signal to some backends, one after the other at random times of their intervals,
// and returns how long they stayed in the answers.
func (c testCase) strike(ctx context.Context, backends []*exec.Cmd, from, to int, signal syscall.Signal) (took times, err error) {
	took = times{Patience: c.patience, Took: make([]time.Duration, to-from)}
	errs := make([]error, to-from)
	var watches sync.WaitGroup
	for i := from; i < to; i++ {
		if err := pause(ctx, max(c.interval, 500*time.Millisecond)/2+rand.N(max(c.interval, 500*time.Millisecond))); err != nil { //nolint:gosec // no secret
			return took, err
		}
		watches.Go(func() { took.Took[i-from], errs[i-from] = c.watch(ctx, backends[i], i, signal) })
	}
	watches.Wait()
	return took, errors.Join(errs...)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// watch sends a signal to a backend and asks for its name every millisecond until it is gone.
func (c testCase) watch(ctx context.Context, backend *exec.Cmd, i int, signal syscall.Signal) (time.Duration, error) {
	// Fast settings make mistakes at times.
	err := waitUntil(ctx, fmt.Sprintf("%s has %s", name(i), addrOf(mortal, i)), func() bool {
		addrs, err := addresses(name(i))
		return err == nil && addrs[addrOf(mortal, i)]
	})
	if err != nil {
		return 0, err
	}
	struck := time.Now()
	if err := backend.Process.Signal(signal); err != nil {
		return 0, err
	}
	return untilGone(ctx, struck, c.patience, func() (bool, error) {
		addrs, err := addresses(name(i))
		return addrs[addrOf(mortal, i)], err
	})
}

// untilGone asks every millisecond until an answer lacks a backend, and returns how long that took
// from some time on, 0 if it took longer than patience. A server that gives no answer at all
// meanwhile is an error: it does not keep the dead in its answers.
func untilGone(ctx context.Context, struck time.Time, patience time.Duration, there func() (bool, error)) (time.Duration, error) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	answered, problem := false, error(nil)
	for time.Since(struck) < patience {
		in, err := there()
		switch {
		case err != nil:
			problem = err
		case !in:
			return time.Since(struck), nil
		default:
			answered = true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	if !answered {
		return 0, fmt.Errorf("no answer in %s, the last question: %w", patience, problem)
	}
	return 0, nil
}

func name(i int) string { return fmt.Sprintf("t%d.example.org.", i) }

// addresses returns those of a name. It waits for a second at most.
func addresses(name string) (map[netip.Addr]bool, error) {
	_, found, err := ask.Addresses(context.Background(), server, name, netip.Addr{}, time.Second)
	addrs := make(map[netip.Addr]bool)
	for _, a := range found {
		addrs[a] = true
	}
	return addrs, err
}
