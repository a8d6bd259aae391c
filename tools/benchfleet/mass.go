// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"time"

	"github.com/seed-f1518d44/balance/tools/internal/report"
	"github.com/seed-f1518d44/balance/tools/internal/testbed"
)

// slow is the interval with many endpoints. detected is how long a dead one may then stay in the
// answers of a replica without a fleet.
const (
	slow     = 30 * time.Second
	detected = slow + 2*fastInterval + time.Second
	perName  = 50
)

// measureMass kills a tenth of thousands of endpoints at once.
func measureMass(o options, table *report.Table) error {
	const replicas = 5
	watch := newStopwatch()
	b := testbed.Options{
		Replicas: replicas + 1, Extra: 1, Backends: o.many, PerName: perName, Often: o.many / 10 / perName, Every: 10 * time.Millisecond,
		Check: "interval 30s\n timeout 2s\n",
	}
	return o.with(b, watch.hear, func(bed *testbed.Bed) error {
		fleet, single := bed.Replicas[:replicas], bed.Replicas[replicas:]
		time.Sleep(slow + slow/2) // until probes are where they would be
		if err := traffic(bed, fleet, "at rest", time.Minute, table); err != nil {
			return err
		}
		for _, victim := range bed.Backends[:o.many/10] {
			watch.kill(victim)
		}
		if err := traffic(bed, fleet, "in the minute after a tenth died", time.Minute, table); err != nil {
			return err
		}
		if err := watch.until(bed.Replicas); err != nil {
			return err
		}
		first, last, between := watch.times(fleet)
		_, alone, _ := watch.times(single)
		what := fmt.Sprintf("%d of %d endpoints die at once, until they are out of the answers of ", o.many/10, o.many)
		table.Row(what+"a replica without a fleet: p50, p99, most", quantiles(alone), "at most "+detected.String())
		table.Row(what+fmt.Sprintf("one of %d replicas: p50, p99, most", replicas), quantiles(first), "")
		table.Row(what+fmt.Sprintf("each of %d replicas: p50, p99, most", replicas), quantiles(last), "at most "+report.Short(detected+2*time.Second))
		table.Row("of which between the first replica and the last: p50, p99, most", quantiles(between), "at most 2s")
		return nil
	})
}

// traffic measures what the replicas of a fleet send to each other for a while.
func traffic(b *testbed.Bed, fleet []*testbed.Replica, when string, length time.Duration, table *report.Table) error {
	wireBefore, oursBefore, err := sent(b, fleet)
	if err != nil {
		return err
	}
	began := time.Now()
	time.Sleep(length)
	wire, ours, err := sent(b, fleet)
	if err != nil {
		return err
	}
	each := time.Since(began).Seconds() * float64(len(fleet))
	table.Row(fmt.Sprintf("%d endpoints, %d replicas, %s: bytes a second and replica, ours; all, with memberlist's and IP headers", len(b.Backends), len(fleet), when),
		fmt.Sprintf("%.0f; %.0f", (ours-oursBefore)/each, (wire-wireBefore)/each), "")
	return nil
}

// sent returns how many bytes the replicas of a fleet have sent: with the headers of the network,
// and without.
func sent(b *testbed.Bed, fleet []*testbed.Replica) (wire, ours float64, err error) {
	for _, r := range fleet {
		n, err := r.Metric(`coredns_balance_fleet_bytes_total{direction="sent"`)
		if err != nil {
			return 0, 0, err
		}
		wire, ours = wire+float64(b.FleetBytes(r)), ours+n
	}
	return wire, ours, nil
}
