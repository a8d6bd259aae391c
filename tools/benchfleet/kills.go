// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/seed-f1518d44/balance/tools/internal/report"
	"github.com/seed-f1518d44/balance/tools/internal/testbed"
)

// The default timing of a check, and how long a killed backend may then stay in the answers of a
// replica without a fleet.
const (
	interval     = 5 * time.Second
	fastInterval = time.Second
	bound        = interval + 2*fastInterval + time.Second
)

// killsOptions are those of a fleet, and a replica without one, whose backends will be killed.
func (o options) killsOptions(backends int) testbed.Options {
	return testbed.Options{Replicas: o.replicas + 1, Extra: 1, Backends: backends, Every: 10 * time.Millisecond}
}

// measureKills kills backends, one after the other.
func measureKills(o options, table *report.Table) error {
	watch := newStopwatch()
	return o.with(o.killsOptions(o.kills+1), watch.hear, func(b *testbed.Bed) error {
		time.Sleep(2 * interval) // until probes are where they would be
		for _, victim := range b.Backends[:o.kills] {
			time.Sleep(300*time.Millisecond + rand.N(500*time.Millisecond)) //nolint:gosec // no secret
			watch.kill(victim)
		}
		if err := watch.until(b.Replicas); err != nil {
			return err
		}
		fleet, single := b.Replicas[:o.replicas], b.Replicas[o.replicas:]
		_, all, between := watch.times(fleet)
		_, alone, _ := watch.times(single)
		table.Row(fmt.Sprintf("killed until out of the answers of one replica without a fleet, %d kills: p50, p99, most", o.kills),
			quantiles(alone), "at most "+bound.String())
		table.Row(fmt.Sprintf("killed until out of the answers of each of %d replicas: p50, p99, most", o.replicas),
			quantiles(all), "p99 at most "+report.Short(min(p99(alone), bound)+300*time.Millisecond)+", "+report.Short(bound+300*time.Millisecond)+" by the settings")
		table.Row("of which between the first replica and the last: p50, p99, most", quantiles(between), "")
		table.Row("answers that held a backend again that had been out", strconv.Itoa(watch.back), "0")
		return nil
	})
}

// measureDoubles kills a backend and, in the same moment, a replica that probes it.
func measureDoubles(o options, table *report.Table) error {
	watch := newStopwatch()
	return o.with(o.killsOptions(o.doubles+1), watch.hear, func(b *testbed.Bed) error {
		var all []float64
		fleet := b.Replicas[:o.replicas]
		for _, victim := range b.Backends[:o.doubles] {
			prober := fleet[proberOf(victim, len(fleet))]
			time.Sleep(rand.N(interval)) //nolint:gosec // no secret
			watch.kill(victim)
			prober.Kill()
			others := without(fleet, prober)
			if err := watch.until(others); err != nil {
				return err
			}
			_, last, _ := watch.times(others)
			all = append(all, last...)
			watch.forget()
			if err := errors.Join(prober.Start(), settled(b)); err != nil {
				return err
			}
		}
		table.Row(fmt.Sprintf("the same if a replica that probes it dies in the same moment, %d times: p50, p99, most", o.doubles),
			quantiles(all), "at most "+report.Short(bound+10*time.Second))
		return nil
	})
}

// proberOf returns the number of one of the replicas that probe a backend now.
func proberOf(b *testbed.Backend, replicas int) int {
	before := b.Probes()
	time.Sleep(interval + interval/2)
	var probers []int
	for i, n := range b.Probes()[:replicas] {
		if n > before[i] {
			probers = append(probers, i)
		}
	}
	return probers[rand.IntN(len(probers))] //nolint:gosec // no secret
}

func without(replicas []*testbed.Replica, one *testbed.Replica) (others []*testbed.Replica) {
	for _, r := range replicas {
		if r != one {
			others = append(others, r)
		}
	}
	return others
}
