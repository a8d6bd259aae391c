// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// reloader is how Corefiles are loaded: by the reload plugin at first, and by signals afterwards.
// Not by both: a signal removes the plugin's hook (Caddy purges all), and CoreDNS cannot handle two
// reloads at once. Used by one goroutine at a time.
type reloader struct {
	bySignal bool
	serial   int // of what was written: the plugin loads no Corefile that means what the last did
}

// String says which way.
func (r *reloader) String() string {
	if r.bySignal {
		return "by signal"
	}
	return "by the reload plugin"
}

// trigger writes a Corefile and makes the server load it. It returns the place in the log from
// which on the result will be.
func (w *world) trigger(v variant) (from int64, err error) {
	w.reloader.serial++
	v.reload, v.serial = !w.reloader.bySignal, w.reloader.serial
	from = w.server.log.mark()
	if err := writeWhole(w.server.corefile, v.corefile(w.dir, w.disk, w.farms)); err != nil {
		return 0, err
	}
	if w.reloader.bySignal {
		return from, w.server.signal(syscall.SIGUSR1)
	}
	return from, nil
}

// became waits until the log has the result of a reload.
func (w *world) became(ctx context.Context, v variant, from int64) (ok bool, err error) {
	says := []string{saysReloaded, saysFailed}
	if !w.reloader.bySignal {
		says = []string{saysReloaded, saysRefused}
		if v.broken != nil { // said every time that it looks, so perhaps of an earlier one
			says = append(says, saysUnread)
		}
	}
	line, err := w.server.log.await(ctx, from, says...)
	return strings.Contains(line, saysReloaded), err
}

// What the log says when a reload begins and when it is over.
const (
	saysBegun    = "[INFO] Reloading\n"
	saysReloaded = "Reloading complete"
	saysFailed   = "[ERROR] Restart failed: "
	saysRefused  = "Corefile changed but reload failed" // the reload plugin, after the line above
	saysUnread   = "Corefile parse failed"              // the reload plugin
)

// reloadFaults are good, changed and broken Corefiles.
func reloadFaults() (all []fault) {
	add := func(name string, inject func(ctx context.Context, w *world) error) {
		all = append(all, fault{name: "reload: " + name, lane: laneReload, hold: time.Second, inject: func(ctx context.Context, w *world, _ *rand.Rand) (func() error, error) {
			w.reloading.set(true)
			return func() error { return w.loadBase(ctx) }, inject(ctx, w)
		}})
	}
	add("the same Corefile", func(ctx context.Context, w *world) error { return w.load(ctx, variant{}) })
	for _, v := range slices.Concat(changes, breakages) {
		add(v.name, func(ctx context.Context, w *world) error { return w.load(ctx, v) })
	}
	add("no Corefile", func(ctx context.Context, w *world) error { return w.loadNothing(ctx) })
	add("ten at once", func(ctx context.Context, w *world) error { return w.loadMany(ctx, 10) })
	return all
}

// load makes the server load a Corefile. It is a violation if a good one is refused, or a bad one
// is not. A good one is refused while a file that it names is bad; then load tries again, as an
// operator would.
func (w *world) load(ctx context.Context, v variant) error {
	for ctx.Err() == nil {
		began := time.Now()
		from, err := w.trigger(v)
		if err != nil {
			return err
		}
		ok, err := w.became(ctx, v, from)
		if ok || err != nil || v.broken != nil || !w.filesWereBad(began) {
			w.expectLoad(v, ok, err)
			break
		}
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// filesWereBad reports whether a file that a Corefile names was bad at some time since.
func (w *world) filesWereBad(since time.Time) bool {
	return slices.Contains(w.filesBad.during(since, time.Now()), true)
}

// expectLoad compares the result of a reload with the expected one.
func (w *world) expectLoad(v variant, ok bool, err error) {
	switch {
	case errors.Is(err, context.Canceled):
	case err != nil:
		w.violation("a reload goes wrong", "%s: %v\n%s", v, err, w.server.log.tail(20))
	case ok && v.broken != nil:
		w.violation("a reload goes wrong", "a broken Corefile (%s) was loaded", v)
	case !ok && v.broken == nil:
		w.violation("a reload goes wrong", "a good Corefile (%s) was refused\n%s", v, w.server.log.tail(20))
	}
}

// loadBase goes back to the first Corefile.
func (w *world) loadBase(ctx context.Context) error {
	err := w.load(ctx, variant{})
	w.reloading.set(false)
	return err
}

// loadNothing has the server reload when there is no Corefile.
func (w *world) loadNothing(ctx context.Context) error {
	if err := os.Remove(w.server.corefile); err != nil {
		return err
	}
	if !w.reloader.bySignal {
		return pause(ctx, 3*time.Second) // it says nothing
	}
	from := w.server.log.mark()
	if err := w.server.signal(syscall.SIGUSR1); err != nil {
		return err
	}
	_, err := w.server.log.await(ctx, from, "SIGUSR1: loading updated Caddyfile")
	return err
}

// loadMany changes the Corefile several times, and asks for reloads, without waiting for their
// results.
func (w *world) loadMany(ctx context.Context, n int) error {
	from := w.server.log.mark()
	for i := range n {
		if _, err := w.trigger(changes[i%len(changes)]); err != nil {
			return err
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return w.quiet(ctx, from)
}

// quiet waits until all reloads in the log, from a mark on, are over, and none began for a while:
// the reload plugin looks every two seconds. One that waits for a slow upstream takes five seconds
// and more, and its result must not be taken for that of the next.
func (w *world) quiet(ctx context.Context, from int64) error {
	for before, still, until := -1, time.Now(), time.Now(); ; {
		begun, over := w.server.log.count(from, saysBegun), w.server.log.count(from, saysReloaded, saysFailed)
		now := time.Now()
		if over != before {
			before, still, until = over, now, now.Add(2*patience)
		}
		switch {
		case begun > over && now.After(until):
			w.violation("a reload goes wrong", "of %d that began %d are over\n%s", begun, over, w.server.log.tail(20))
			return nil
		case begun > over:
			still = now
		case now.Sub(still) > 3*time.Second+min(w.busy(), patience/2):
			return nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// turnToSignals stops the reload plugin: from now on Corefiles are loaded by signal.
func (w *world) turnToSignals(ctx context.Context) error {
	w.reloading.set(true)
	defer w.reloading.set(false)
	from := w.server.log.mark()
	if err := writeWhole(w.server.corefile, variant{}.corefile(w.dir, w.disk, w.farms)); err != nil {
		return err
	}
	if _, err := w.server.log.await(ctx, from, saysReloaded); err != nil {
		return err
	}
	w.reloader.bySignal = true
	return nil
}
