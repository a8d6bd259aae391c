// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fleet

import (
	"strings"
	"testing"
	"time"

	"github.com/seed-f1518d44/balance/tools/internal/testbed"
)

// Replicas without a fleet find by themselves whatever happens to backends. This is what the other
// tests build on: if this one fails, theirs say nothing.
func TestWithoutFleet(t *testing.T) {
	b := newBed(t, testbed.Options{Replicas: 3, Backends: 8, NoFleet: true})
	const day = 24 * time.Hour
	b.Replicas[2].ClockAhead = day
	b.start()
	b.Backends[0].Kill()
	b.Backends[1].Silence()
	if err := b.Backends[2].Freeze(); err != nil {
		t.Fatal(err)
	}
	b.agree(b.Replicas...)
	for _, dead := range b.Backends[:3] {
		if err := dead.Revive(); err != nil {
			t.Fatal(err)
		}
	}
	b.agree(b.Replicas...)
	b.right(t)
	for i, n := range b.Backends[3].Probes() {
		if n == 0 {
			t.Errorf("%s never probed backend 3", b.Replicas[i])
		}
	}
	page, err := b.Replicas[2].Get("http://127.0.0.1:9154/v1/status")
	if tomorrow := time.Now().UTC().Add(day).Format(time.DateOnly); err != nil || !strings.Contains(page, tomorrow) {
		t.Errorf("the page of %s is not of tomorrow, %s: %v\n%.200s", b.Replicas[2], tomorrow, err, page)
	}
}
