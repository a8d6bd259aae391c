// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// fault is something that goes wrong. To add one, add it to the table.
type fault struct {
	name string
	lane string // faults of one lane happen one after the other, those of others at the same time
	// inject makes it happen and returns what ends it. r is its only source of randomness.
	inject func(ctx context.Context, w *world, r *rand.Rand) (end func() error, err error)
	hold   time.Duration // how long it lasts
	needs  string        // why it cannot happen here; "": it can
}

// Lanes beside those of the farms, which have one each.
const (
	laneReload   = "reload"
	laneFiles    = "files"
	laneUpstream = "upstream"
	laneFlood    = "flood"
	lanePage     = "status page"
	laneAlone    = "alone" // such faults happen while no other does
)

// faults returns the table of faults.
func faults(w *world) (all []fault) {
	all = append(all, reloadFaults()...)
	all = append(all, fileFaults(w.asNobody)...)
	all = append(all, limitFaults()...)
	all = append(all, floodFaults()...)
	all = append(all, pageFaults()...)
	for _, q := range quirks {
		all = append(all, fault{name: "upstream: " + q.name, lane: laneUpstream, hold: 3 * time.Second, inject: func(_ context.Context, w *world, _ *rand.Rand) (func() error, error) {
			return misbehave(w, q)
		}})
	}
	for _, f := range w.farms {
		switch {
		case f.held:
			all = append(all, holdFaults(f)...)
		case f.name == farmOfTargets:
			all = append(all, targetFaults(f)...)
		default:
			all = append(all, backendFaults(f)...)
		}
	}
	if w.hostsNeed != "" {
		all = append(all, fault{name: "backends: all of icmp", lane: laneOf(farmOfHosts), needs: w.hostsNeed})
	}
	return all
}

// laneOf returns the lane of a farm.
func laneOf(farm string) string { return "backends " + farm }

// misbehave gives the upstream a quirk.
func misbehave(w *world, q *quirk) (end func() error, err error) {
	w.quirk.set(q)
	return func() error {
		err := w.upstream.become(nil)
		w.quirk.set(nil)
		return err
	}, w.upstream.become(q)
}

// backendHold is how long backends stay bad: until they must be out of the answers, and some time
// more.
func backendHold() time.Duration { return timing.downWithin(silent, 0) + 2*time.Second }

// backendFaults returns the faults of a farm: those of some backends, one kind at a time, all at
// once, and flapping.
func backendFaults(f *farm) (all []fault) {
	lane := laneOf(f.name)
	for _, m := range mannersOf(f.protocol) {
		all = append(all, fault{name: "backends: " + m.name, lane: lane, hold: backendHold(), inject: func(ctx context.Context, w *world, r *rand.Rand) (func() error, error) {
			some := pick(r, f.backends, 1+r.IntN(len(f.backends)-1))
			if m.health == healthy { // they must stay in, so they have to be in before
				if err := w.awaitUp(ctx, some); err != nil {
					return nil, err
				}
			}
			return spoil(some, m)
		}})
	}
	all = append(all, fault{name: "backends: all die", lane: lane, hold: backendHold(), inject: func(context.Context, *world, *rand.Rand) (func() error, error) {
		return spoil(f.backends, closed)
	}})
	return append(all, fault{name: "backends: flap", lane: lane, hold: 5 * time.Second, inject: func(ctx context.Context, _ *world, r *rand.Rand) (func() error, error) {
		return flap(ctx, f.backends[r.IntN(len(f.backends))], time.Duration(100+r.IntN(900))*time.Millisecond), nil
	}})
}

// farmOfTargets is the farm that SRV, MX and HTTPS records lead to, and that the members of the
// signed and of the observed zone are.
const farmOfTargets = "targets"

// targetFaults returns the faults of that farm.
func targetFaults(f *farm) (all []fault) {
	add := func(name string, hold time.Duration, choose func(r *rand.Rand) []*backend, m *manner) {
		all = append(all, fault{name: "targets: " + name, lane: laneOf(f.name), hold: hold, inject: func(_ context.Context, _ *world, r *rand.Rand) (func() error, error) {
			return spoil(choose(r), m)
		}})
	}
	some := func(n int) func(r *rand.Rand) []*backend {
		return func(r *rand.Rand) []*backend { return pick(r, f.backends, n) }
	}
	dead, mute := timing.downWithin(refusing, 0)+2*time.Second, timing.downWithin(silent, 0)+2*time.Second
	add("one dies", dead, some(1), closed)
	add("all of an MX die", dead, func(r *rand.Rand) []*backend { i := 2 * r.IntN(len(f.backends)/2); return f.backends[i : i+2] }, closed)
	add("all but one die", dead, some(len(f.backends)-1), closed)
	add("all die", dead, some(len(f.backends)), closed)
	add("some swallow connections", mute, some(2), swallows)
	return append(all, fault{name: "targets: one flaps", lane: laneOf(f.name), hold: 5 * time.Second, inject: func(ctx context.Context, _ *world, r *rand.Rand) (func() error, error) {
		return flap(ctx, f.backends[r.IntN(len(f.backends))], time.Duration(100+r.IntN(900))*time.Millisecond), nil
	}})
}

// pick draws some of all.
func pick[T any](r *rand.Rand, all []T, n int) (some []T) {
	for _, i := range r.Perm(len(all))[:n] {
		some = append(some, all[i])
	}
	return some
}

// spoil makes backends behave badly.
func spoil(some []*backend, m *manner) (end func() error, err error) {
	for _, b := range some {
		if err := b.become(m); err != nil {
			return nil, fmt.Errorf("%s: %w", b.addr, err)
		}
	}
	return heal(some), nil
}

// awaitUp waits until backends must be in the answers.
func (w *world) awaitUp(ctx context.Context, some []*backend) error {
	for _, b := range some {
		for now := time.Now(); b.farm.timing.expect(b.history, now, now, w.busy()) != mustAnswer; now = time.Now() {
			if err := pause(ctx, 100*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

// heal returns what makes backends well.
func heal(some []*backend) (end func() error) {
	return func() error {
		for _, b := range some {
			if err := b.become(well); err != nil {
				return fmt.Errorf("%s: %w", b.addr, err)
			}
		}
		return nil
	}
}

// flap makes a backend die and return, over and over.
func flap(ctx context.Context, b *backend, period time.Duration) (end func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	b.history.set(murky)
	go func() {
		var err error
		for m := closed; err == nil && pause(ctx, period) == nil; {
			b.end()
			b.manner.Store(m)
			err = b.listen()
			m = map[*manner]*manner{closed: well, well: closed}[m]
		}
		done <- err
	}()
	return func() error {
		cancel()
		if err := <-done; err != nil {
			return err
		}
		return b.become(well)
	}
}
