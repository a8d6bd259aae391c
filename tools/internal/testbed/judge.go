// SPDX-License-Identifier: Apache-2.0

//go:build linux

package testbed

import (
	"fmt"
	"sync"
	"time"
)

// Judge compares answers with what is true. A backend that is up must never be missing, and one
// that is down must be missing after a while. Safe for concurrent use.
type Judge struct {
	Grace time.Duration // for what has just changed, and for replicas that have just started

	mu     sync.Mutex
	last   map[seen]view
	wrong  []string
	number int // of wrong answers
}

type seen struct{ replica, backend int }

// view is what a replica last said about a backend.
type view struct {
	asked time.Time
	in    bool
}

// maxWrong bounds the wrong answers that are kept.
const maxWrong = 20

// Hear judges an answer.
func (j *Judge) Hear(a Answer) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.last == nil {
		j.last = make(map[seen]view)
	}
	for i, in := range a.In {
		backend := a.Replica.bed.Backends[a.First+i]
		j.last[seen{a.Replica.Number, backend.Number}] = view{a.Asked, in}
		s := backend.state.Load()
		changed := s.since
		if started := *a.Replica.since.Load(); started.After(changed) {
			changed = started
		}
		if old := a.Asked.Sub(changed); in != s.up && old > j.Grace {
			j.note(a, backend, s, old)
		}
	}
}

func (j *Judge) note(a Answer, b *Backend, s *state, old time.Duration) {
	if j.number++; j.number > maxWrong {
		return
	}
	what := "lacks backend %d, which has been up for %s"
	if !s.up {
		what = "has backend %d, which has been down for %s"
	}
	j.wrong = append(j.wrong, fmt.Sprintf("at %s an answer of %s "+what, a.Asked.Format("15:04:05.000"), a.Replica, b.Number, old.Round(time.Millisecond)))
}

// Wrong returns what was wrong since it was last called.
func (j *Judge) Wrong() (answers []string, number int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	answers, number = j.wrong, j.number
	j.wrong, j.number = nil, 0
	return answers, number
}

// Agree reports whether the latest answers of some replicas are right, and were asked for after
// everything that has happened to backends and these replicas.
func (j *Judge) Agree(replicas ...*Replica) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range replicas {
		for _, b := range r.bed.Backends {
			v, s := j.last[seen{r.Number, b.Number}], b.state.Load()
			if v.in != s.up || v.asked.Before(s.since) || v.asked.Before(*r.since.Load()) {
				return false
			}
		}
	}
	return true
}
