// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// deck deals the faults of a lane, each once before any comes again, in an order that follows from
// the seed. Owned by one goroutine at a time.
type deck struct {
	lane   string
	faults []fault
	lots   *rand.Rand
	order  []int
}

// newDecks returns the decks of all lanes.
func newDecks(table []fault, seed uint64) (decks []*deck) {
	for _, f := range table {
		at := slices.IndexFunc(decks, func(d *deck) bool { return d.lane == f.lane })
		if at < 0 {
			h := fnv.New64a()
			h.Write([]byte(f.lane)) //nolint:errcheck,gosec // never fails
			at = len(decks)
			decks = append(decks, &deck{lane: f.lane, lots: rand.New(rand.NewPCG(seed, h.Sum64()))}) //nolint:gosec // no secret
		}
		decks[at].faults = append(decks[at].faults, f)
	}
	return decks
}

// next deals a fault.
func (d *deck) next() fault {
	if len(d.order) == 0 {
		d.order = d.lots.Perm(len(d.faults))
	}
	f := d.faults[d.order[0]]
	d.order = d.order[1:]
	return f
}

// schedule is the course of a soak.
type schedule struct {
	mixed time.Duration // for which the lanes' faults happen in a cycle, all lanes at the same time
	alone int           // faults that happen alone in a cycle
}

// cycle makes faults happen, then checks what they left behind. The last one ends at until, or soon
// after.
func (s schedule) cycle(ctx context.Context, w *world, decks []*deck, until time.Time) {
	alone := s.alone
	rest := timing.upWithin(w.busy())
	deadline := time.Now().Add(s.mixed)
	if last := until.Add(-rest - time.Duration(alone)*8*time.Second); last.Before(deadline) {
		deadline = last
	}
	var lanes sync.WaitGroup
	var last *deck
	for _, d := range decks {
		if d.lane == laneAlone {
			last = d
			continue
		}
		lanes.Go(func() {
			for f := d.next(); ctx.Err() == nil; f = d.next() {
				w.happen(ctx, f, d.lots)
				if pause(ctx, 500*time.Millisecond) != nil || !time.Now().Add(f.hold).Before(deadline) {
					return
				}
			}
		})
	}
	lanes.Wait()
	if pause(ctx, timing.upWithin(w.busy())) != nil || last == nil {
		return
	}
	for range alone {
		w.happen(ctx, last.next(), last.lots)
		if pause(ctx, time.Second) != nil {
			return
		}
	}
}

// happen makes a fault happen.
func (w *world) happen(ctx context.Context, f fault, lots *rand.Rand) {
	if f.needs != "" {
		w.count.skipped(f.name, f.needs)
		return
	}
	name := f.name
	if f.lane == laneReload {
		name += ", " + w.reloader.String()
	}
	w.count.begin(name)
	defer w.count.end(name)
	began := time.Now()
	end, err := f.inject(ctx, w, lots)
	if err == nil {
		err = pause(ctx, f.hold)
	}
	if end != nil {
		if endErr := end(); err == nil {
			err = endErr
		}
	}
	if err != nil && ctx.Err() == nil {
		w.violation("the soak itself fails", "%s: %v", name, err)
	}
	w.count.lasted(name, time.Since(began))
}

// progressLine says how far the soak is.
func (w *world) progressLine() string {
	c := w.count
	c.mu.Lock()
	asked, lost := c.sum()
	violations := len(c.violations)
	c.mu.Unlock()
	return fmt.Sprintf("%6.1fs asked %d, lost %d, kinds of violations %d; now: %s", time.Since(w.began).Seconds(), asked, lost, violations, c.activeText())
}
