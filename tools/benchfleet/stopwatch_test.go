// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/seed-f1518d44/balance/tools/internal/testbed"
)

// A backend is timed from its death to the first answer of each replica that lacks it. Answers to
// questions from before its death do not count.
func TestStopwatch(t *testing.T) {
	s := newStopwatch()
	died := time.Now()
	s.died[7], s.gone[7] = died, make(map[int]time.Duration)
	replicas := []*testbed.Replica{{Number: 0}, {Number: 1}}
	for _, a := range []struct {
		replica      int
		asked, heard time.Duration
		in           bool
	}{
		{0, -time.Second, time.Second, false},
		{0, time.Second, 2 * time.Second, true},
		{0, 3 * time.Second, 4 * time.Second, false},
		{0, 5 * time.Second, 6 * time.Second, false},
		{1, 6 * time.Second, 7 * time.Second, false},
		{1, 8 * time.Second, 9 * time.Second, true},
	} {
		s.hear(testbed.Answer{
			Replica: replicas[a.replica], Asked: died.Add(a.asked), Heard: died.Add(a.heard), First: 6, In: []bool{true, a.in},
		})
	}
	if err := s.until(replicas); err != nil {
		t.Fatal(err)
	}
	first, last, between := s.times(replicas)
	got := fmt.Sprint(first, last, between, s.back)
	want := fmt.Sprint([]float64{4e9}, []float64{7e9}, []float64{3e9}, 1)
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
	s.forget()
	if first, _, _ := s.times(replicas); first != nil {
		t.Errorf("%v is left, want nothing", first)
	}
}
