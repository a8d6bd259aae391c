// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/seed-f1518d44/balance/tools/internal/report"
	"github.com/seed-f1518d44/balance/tools/internal/testbed"
)

// stopwatch times how long dead backends stay in the answers of each replica. Safe for concurrent
// use.
type stopwatch struct {
	mu   sync.Mutex
	died map[int]time.Time             // by the number of the backend
	gone map[int]map[int]time.Duration // by the numbers of backend and replica
	back int                           // answers that hold a backend that had been gone
}

func newStopwatch() *stopwatch {
	return &stopwatch{died: make(map[int]time.Time), gone: make(map[int]map[int]time.Duration)}
}

// kill kills a backend and starts to time that.
func (s *stopwatch) kill(b *testbed.Backend) {
	s.mu.Lock()
	s.died[b.Number], s.gone[b.Number] = time.Now(), make(map[int]time.Duration)
	s.mu.Unlock()
	b.Kill()
}

// hear looks for dead backends in an answer.
func (s *stopwatch) hear(a testbed.Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for number, died := range s.died {
		i := number - a.First
		if i < 0 || i >= len(a.In) || a.Asked.Before(died) {
			continue
		}
		_, gone := s.gone[number][a.Replica.Number]
		switch {
		case !gone && !a.In[i]:
			s.gone[number][a.Replica.Number] = a.Heard.Sub(died)
		case gone && a.In[i]:
			s.back++
		}
	}
}

// until waits until dead backends are out of the answers of some replicas.
func (s *stopwatch) until(replicas []*testbed.Replica) error {
	return eventually("no answer holds a dead backend", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for number := range s.died {
			for _, r := range replicas {
				if _, gone := s.gone[number][r.Number]; !gone {
					return false
				}
			}
		}
		return true
	})
}

// times returns, for each dead backend, when the first and the last of some replicas answered
// without it.
func (s *stopwatch) times(replicas []*testbed.Replica) (first, last, between []float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, gone := range s.gone {
		var all []time.Duration
		for _, r := range replicas {
			all = append(all, gone[r.Number])
		}
		first = append(first, float64(slices.Min(all)))
		last = append(last, float64(slices.Max(all)))
		between = append(between, float64(slices.Max(all)-slices.Min(all)))
	}
	return first, last, between
}

// quantiles returns p50, p99 and the most of some times.
func quantiles(times []float64) string {
	slices.Sort(times)
	at := func(q float64) string { return report.Short(time.Duration(report.Quantile(times, q))) }
	return fmt.Sprintf("%s, %s, %s", at(0.5), at(0.99), at(1))
}

func p99(times []float64) time.Duration {
	slices.Sort(times)
	return time.Duration(report.Quantile(times, 0.99))
}

// forget ends the timing of all that has died.
func (s *stopwatch) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.died)
	clear(s.gone)
}
