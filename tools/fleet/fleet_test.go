// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fleet

import (
	"testing"
	"time"

	"github.com/seed-f1518d44/balance/internal/testserver"
	"github.com/seed-f1518d44/balance/tools/internal/netns"
	"github.com/seed-f1518d44/balance/tools/internal/testbed"
)

// However many replicas there are, three of them probe each backend.
func TestProbesAreShared(t *testing.T) {
	b := newBed(t, testbed.Options{Replicas: 5, Backends: 10})
	b.start()
	b.together()
	testserver.Eventually(t, "three replicas probe each backend", func() bool {
		before := b.probes()
		time.Sleep(4 * time.Second) // what is counted is what happens in some intervals
		for i, after := range b.probes() {
			if busy(before[i], after) != 3 {
				return false
			}
		}
		return true
	})
	b.right()
}

// probes returns how often each backend was probed by each replica.
func (b *bed) probes() (counts [][]int) {
	for _, backend := range b.Backends {
		counts = append(counts, backend.Probes())
	}
	return counts
}

// busy returns how many replicas have probed in between.
func busy(before, after []int) (n int) {
	for i := range after {
		if after[i] > before[i] {
			n++
		}
	}
	return n
}

// If all backends are dead, all replicas say so, even one that could not reach any of them before.
func TestAllDead(t *testing.T) {
	b := newBed(t, testbed.Options{Replicas: 3, Backends: 6})
	b.start()
	b.together()
	b.BetweenBackends(b.Replicas[0], netns.Faults{Cut: true})
	for _, backend := range b.Backends {
		backend.Kill()
	}
	b.agree(b.Replicas...)
	b.BetweenBackends(b.Replicas[0], netns.Faults{})
	for _, backend := range b.Backends {
		b.must(backend.Revive())
	}
	b.agree(b.Replicas...)
	b.right()
}

// Of two replicas one dies while a backend does. The vote of the other one decides.
func TestLastOfTwo(t *testing.T) {
	b := newBed(t, testbed.Options{Replicas: 2, Backends: 4})
	b.start()
	b.together()
	b.Backends[0].Kill()
	b.Replicas[0].Kill()
	b.agree(b.Replicas[1])
	b.right()
}

// A replica that starts takes over what the others know before it says that it is ready: it never
// answers with what they know to be dead.
func TestRollingRestart(t *testing.T) {
	b := newBed(t, testbed.Options{Replicas: 3, Backends: 6})
	b.start()
	b.together()
	dead := b.Backends[:2]
	for _, backend := range dead {
		backend.Silence()
	}
	b.agree(b.Replicas...)
	for _, r := range b.Replicas {
		b.must(r.Leave())
		b.must(r.Start())
		for _, backend := range dead {
			if has, err := r.Has(backend); err != nil || has {
				t.Errorf("the first answer of %s has backend %d: %v, %v; want it left out", r, backend.Number, has, err)
			}
		}
		b.together()
		b.agree(b.Replicas...)
	}
	b.right()
}

// Most replicas leave, one after the other and in order. Nobody believes that it is cut off.
func TestMostLeave(t *testing.T) {
	b := newBed(t, testbed.Options{Replicas: 5, Backends: 4})
	b.start()
	b.together()
	staying := b.Replicas[3:]
	for _, r := range b.Replicas[:3] {
		b.must(r.Leave())
	}
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		for _, r := range staying {
			if alone, err := r.Metric("coredns_balance_fleet_alone{"); err != nil || alone != 0 {
				t.Fatalf("%s is alone: %v, %v", r, alone, err)
			}
		}
	}
	b.Backends[0].Kill()
	b.agree(staying...)
	b.right()
}
