// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"sync"
	"time"
)

// timeline remembers which value was in force when, so that a reply can be compared with what was
// true while its query was in flight, and before, as long as the server may take to notice. Safe
// for concurrent use.
type timeline[T any] struct {
	mu     sync.Mutex
	values []dated[T] // oldest first
}

type dated[T any] struct {
	since time.Time
	value T
}

// remembered is how many values a timeline keeps: more than change while a query is under way.
const remembered = 256

// newTimeline returns a timeline whose first value was in force for ever.
func newTimeline[T any](first T) *timeline[T] {
	return &timeline[T]{values: []dated[T]{{value: first}}}
}

// set puts a value in force from now on.
func (t *timeline[T]) set(value T) { t.setFrom(time.Now(), value) }

// setFrom puts a value in force from a time on, which may be in the future. Values must be set in
// the order of their times.
func (t *timeline[T]) setFrom(since time.Time, value T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.values) == remembered {
		t.values = append(t.values[:0:0], t.values[remembered/2:]...)
	}
	t.values = append(t.values, dated[T]{since, value})
}

// during returns the values that were in force at any moment of a period.
func (t *timeline[T]) during(from, to time.Time) (all []T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, d := range t.values {
		if d.since.After(to) {
			break
		}
		if i+1 == len(t.values) || t.values[i+1].since.After(from) {
			all = append(all, d.value)
		}
	}
	return all
}

// now returns the last value, even if it comes into force later.
func (t *timeline[T]) now() T {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.values[len(t.values)-1].value
}
