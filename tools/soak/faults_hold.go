// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/seed-f1518d44/balance/tools/internal/fakes"
)

// farmHeld is the farm to whose backends the server holds connections. Its check stays the same
// through all reloads.
const farmHeld = "held"

// hasty is the manner of a healthy backend that closes idle connections soon.
var hasty = &manner{name: "closes idle connections", health: healthy, serve: func(_ *backend, c net.Conn) {
	write(c, fine)
	c.SetReadDeadline(time.Now().Add(300 * time.Millisecond)) //nolint:errcheck,gosec // the peer may be gone
	drain(c)
}}

// holdFaults returns what happens to held connections. If a process dies, its members have to leave
// at once, and to be held again when they return. If only a connection ends, no member leaves.
func holdFaults(f *farm) (all []fault) {
	add := func(name string, hold time.Duration, inject func(ctx context.Context, w *world, some []*backend) (func() error, error)) {
		all = append(all, fault{name: "hold: " + name, lane: laneOf(f.name), hold: hold, inject: func(ctx context.Context, w *world, r *rand.Rand) (func() error, error) {
			return inject(ctx, w, pick(r, f.backends, 1+r.IntN(len(f.backends)-1)))
		}})
	}
	killed := func(m *manner) func(ctx context.Context, w *world, some []*backend) (func() error, error) {
		return func(ctx context.Context, w *world, some []*backend) (func() error, error) {
			return w.mustBeHeldAgain(ctx, some, func() (func() error, error) { return spoil(some, m) })
		}
	}
	dead, mute := f.timing.downWithin(severed, 0)+2*time.Second, f.timing.downWithin(silent, 0)+2*time.Second
	add("backends killed", dead, killed(closed))
	add("all backends killed", dead, func(ctx context.Context, w *world, _ []*backend) (func() error, error) {
		return killed(closed)(ctx, w, f.backends)
	})
	add("backends killed, the port resets", dead, killed(mannerNamed("resets connections")))
	add("backends frozen", mute, func(ctx context.Context, w *world, some []*backend) (func() error, error) {
		return w.mustBeHeldAgain(ctx, some, func() (func() error, error) { return silence(some, (*backend).freeze) })
	})
	add("hosts without power", mute, func(ctx context.Context, w *world, some []*backend) (func() error, error) {
		return w.mustBeHeldAgain(ctx, some, func() (func() error, error) { return silence(some, (*backend).losePower) })
	})
	add("connections reset", 4*time.Second, func(_ context.Context, _ *world, some []*backend) (func() error, error) {
		return again(some, func(c net.Conn, _ time.Time) { reset(c) })
	})
	add("connections said too much", 4*time.Second, func(_ context.Context, _ *world, some []*backend) (func() error, error) {
		return again(some, func(c net.Conn, since time.Time) {
			if time.Since(since) > oldConnection {
				write(c, strings.Repeat(fine, 10_000))
			}
		})
	})
	add("connections closed when idle", 6*time.Second, func(_ context.Context, _ *world, some []*backend) (func() error, error) {
		for _, b := range some {
			b.manner.Store(hasty)
		}
		end, err := again(some, func(c net.Conn, since time.Time) {
			if time.Since(since) > oldConnection {
				c.Close() //nolint:errcheck,gosec // that is the fault
			}
		})
		return func() error {
			for _, b := range some {
				b.manner.Store(well)
			}
			return end()
		}, err
	})
	return append(all, fault{name: "hold: a backend flaps", lane: laneOf(f.name), hold: 5 * time.Second, inject: func(ctx context.Context, _ *world, r *rand.Rand) (func() error, error) {
		return flap(ctx, f.backends[r.IntN(len(f.backends))], time.Duration(100+r.IntN(900))*time.Millisecond), nil
	}})
}

// mannerNamed returns one of the bad manners.
func mannerNamed(name string) *manner {
	for _, m := range bad {
		if m.name == name {
			return m
		}
	}
	return closed
}

// freeze stops a backend as a debugger does: its connections stay, and nothing comes over them.
func (b *backend) freeze() error {
	b.history.set(murky)
	b.manner.Store(mannerNamed("accepts and says nothing"))
	b.history.set(silent)
	return nil
}

// losePower makes a backend vanish silently: its connections do not end either.
func (b *backend) losePower() (err error) {
	b.history.set(murky)
	b.deafen()
	_, b.deafen, err = fakes.BlackHole(b.addr)
	b.history.set(silent)
	return err
}

// silence silences backends until they become well.
func silence(some []*backend, how func(*backend) error) (end func() error, err error) {
	for _, b := range some {
		if err := how(b); err != nil {
			return nil, err
		}
	}
	return heal(some), nil
}

// again does something to all connections of backends, at once and then every 1.5 seconds.
func again(some []*backend, do func(c net.Conn, since time.Time)) (end func() error, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			for _, b := range some {
				b.conns.each(do)
			}
			if pause(ctx, 1500*time.Millisecond) != nil {
				return
			}
		}
	}()
	return func() error { cancel(); <-done; return nil }, nil
}

// mustBeHeldAgain fails unless backends that were held before a fault killed them are held again
// after it. If the death was not noticed, the pause after the previous connection may still last.
func (w *world) mustBeHeldAgain(ctx context.Context, some []*backend, inject func() (func() error, error)) (end func() error, err error) {
	held := slices.DeleteFunc(slices.Clone(some), func(b *backend) bool { return !b.isHeld() })
	over, err := inject()
	if err != nil {
		return over, err
	}
	return func() error {
		if err := over(); err != nil {
			return err
		}
		for _, b := range held {
			w.awaitHeld(ctx, b)
		}
		return nil
	}, nil
}

// awaitHeld waits until a backend that came back is held. After a lack of descriptors that takes a
// minute.
func (w *world) awaitHeld(ctx context.Context, b *backend) {
	for began := time.Now(); !b.isHeld(); {
		if bound := b.farm.timing.upWithin(w.busy()) + longer(b.farm.timing.interval) + oldConnection; time.Since(began) > bound {
			if !slices.Contains(w.starved.during(time.Now().Add(-2*time.Minute), time.Now()), true) {
				w.violation("a member is not held again", "%s, %s after it came back", b.addr, bound)
			}
			return
		}
		if pause(ctx, 50*time.Millisecond) != nil {
			return
		}
	}
}

// heldBy returns how many connections backends see held.
func (w *world) heldBy() (n int) {
	for _, f := range w.farms {
		for _, b := range f.backends {
			if f.held {
				n += b.conns.olderThan(oldConnection)
			}
		}
	}
	return n
}
