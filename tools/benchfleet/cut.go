// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/seed-f1518d44/balance/tools/internal/netns"
	"github.com/seed-f1518d44/balance/tools/internal/report"
	"github.com/seed-f1518d44/balance/tools/internal/testbed"
)

// measureCut cuts one replica after the other from the backends. All backends are up, so each one
// that an answer lacks is a false verdict.
func measureCut(o options, table *report.Table) error {
	const endpoints, cuts = 50, 3
	const length = 6 * interval // enough for rise and fall many times over
	for _, replicas := range []int{3, o.replicas} {
		var answers, wrong atomic.Int64
		hear := func(a testbed.Answer) {
			answers.Add(1)
			for _, in := range a.In {
				if !in {
					wrong.Add(1)
				}
			}
		}
		b := testbed.Options{Replicas: replicas, Backends: endpoints, Every: 50 * time.Millisecond}
		err := o.with(b, hear, func(bed *testbed.Bed) error {
			time.Sleep(interval)
			answers.Store(0)
			for _, r := range bed.Replicas[:cuts] {
				bed.BetweenBackends(r, netns.Faults{Cut: true})
				time.Sleep(length)
				bed.BetweenBackends(r, netns.Faults{})
				time.Sleep(2 * interval)
			}
			return nil
		})
		if err != nil {
			return err
		}
		table.Row(fmt.Sprintf("one replica of %d cut from all of %d backends for %s, %d times: members missing in answers", replicas, endpoints, length, cuts),
			fmt.Sprintf("%d, in %d answers of all replicas", wrong.Load(), answers.Load()), "0")
	}
	return nil
}
