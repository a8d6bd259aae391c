// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"time"

	"github.com/seed-f1518d44/balance/tools/internal/report"
	"github.com/seed-f1518d44/balance/tools/internal/testbed"
)

// measureProbes counts the probes that arrive at the backends, in fleets of several sizes.
func measureProbes(o options, table *report.Table) error {
	const (
		endpoints = 100
		interval  = time.Second
		time      = 30 * interval
	)
	for _, replicas := range []int{3, 5, o.replicas} {
		b := testbed.Options{Replicas: replicas, Backends: endpoints, Check: "interval 1s\n timeout 500ms\n fast_interval 500ms\n"}
		var each []float64
		err := o.with(b, func(testbed.Answer) {}, func(bed *testbed.Bed) error {
			each = probesEach(bed, interval, time)
			return nil
		})
		if err != nil {
			return err
		}
		total := 0.0
		for _, n := range each {
			total += n
		}
		s := report.SpreadOf(each)
		table.Row(fmt.Sprintf("probes an endpoint and interval, %d replicas: mean (least to most of %d endpoints)", replicas, endpoints),
			fmt.Sprintf("%.2f (%.2f to %.2f)", total/endpoints, s.Low, s.High), "3, within 5 %")
	}
	return nil
}

// probesEach returns how often each backend is probed in an interval, by all replicas together.
func probesEach(b *testbed.Bed, interval, length time.Duration) (each []float64) {
	time.Sleep(5 * interval) // until all replicas agree who probes
	before := make([]int, len(b.Backends))
	for i, backend := range b.Backends {
		before[i] = sum(backend.Probes())
	}
	began := time.Now()
	time.Sleep(length)
	intervals := float64(time.Since(began)) / float64(interval)
	for i, backend := range b.Backends {
		each = append(each, float64(sum(backend.Probes())-before[i])/intervals)
	}
	return each
}

func sum(counts []int) (total int) {
	for _, n := range counts {
		total += n
	}
	return total
}
