// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fleet

import (
	"errors"
	"flag"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-f1518d44/balance/tools/internal/netns"
	"github.com/seed-f1518d44/balance/tools/internal/testbed"
)

// Replicas without a fleet find out by themselves what happens to backends. If this test fails, the
// others mean nothing.
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
	b.right()
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

// fault is something that goes wrong with a fleet for a while.
type fault struct {
	name string
	// strike makes it happen. It returns the replicas that must go on answering, if not all, and
	// what ends the fault.
	strike func(b *bed) (serving []*testbed.Replica, end func() error)
}

var faults = []fault{
	{"nothing", func(*bed) ([]*testbed.Replica, func() error) { return nil, nothing }},
	{"a replica is killed", func(b *bed) ([]*testbed.Replica, func() error) {
		b.Replicas[1].Kill()
		return b.without(1), b.Replicas[1].Start
	}},
	{"two replicas are killed", func(b *bed) ([]*testbed.Replica, func() error) {
		b.Replicas[0].Kill()
		b.Replicas[1].Kill()
		return b.Replicas[2:], func() error { return errors.Join(b.Replicas[0].Start(), b.Replicas[1].Start()) }
	}},
	{"a replica is stopped", func(b *bed) ([]*testbed.Replica, func() error) {
		b.must(b.Replicas[2].Pause())
		return b.without(2), b.Replicas[2].Resume
	}},
	{"a replica leaves", func(b *bed) ([]*testbed.Replica, func() error) {
		b.must(b.Replicas[0].Leave())
		return b.without(0), b.Replicas[0].Start
	}},
	{"the fleet falls in two", betweenReplicas(2, netns.Faults{Cut: true})},
	{"a replica is cut from the others", betweenReplicas(1, netns.Faults{Cut: true})},
	{"a replica is cut from the backends", betweenBackends(netns.Faults{Cut: true})},
	{"a fifth of what replicas say is lost", betweenReplicas(all, netns.Faults{Loss: 0.2})},
	{"a fifth of a replica's probes is lost", betweenBackends(netns.Faults{Loss: 0.2})},
	{"what replicas say is late", betweenReplicas(all, netns.Faults{Delay: 200 * time.Millisecond})},
	{"all reload", func(b *bed) ([]*testbed.Replica, func() error) {
		return nil, func() error { return b.each((*testbed.Replica).Reload) }
	}},
	{"a replica has another check", func(b *bed) ([]*testbed.Replica, func() error) {
		r := b.Replicas[0]
		before := r.Check
		r.Check = strings.Replace(before, "interval 1s", "interval 2s", 1)
		b.must(r.Reload())
		return nil, func() error { r.Check = before; return r.Reload() }
	}},
	{"strangers say anything", func(b *bed) ([]*testbed.Replica, func() error) {
		end := b.babble()
		return nil, func() error { end(); return nil }
	}},
	{"a peer says anything", func(b *bed) ([]*testbed.Replica, func() error) {
		peer := b.startPeer()
		return nil, func() error { peer.Kill(); return nil }
	}},
}

func nothing() error { return nil }

// all makes betweenReplicas mean all replicas.
const all = 0

// betweenReplicas returns a fault between each of the first replicas and all others, or between
// all.
func betweenReplicas(first int, f netns.Faults) func(*bed) ([]*testbed.Replica, func() error) {
	return func(b *bed) ([]*testbed.Replica, func() error) {
		group, others := b.Replicas, b.Replicas
		if first != all {
			group, others = b.Replicas[:first], b.Replicas[first:]
		}
		b.BetweenReplicas(group, others, f)
		return nil, func() error { b.BetweenReplicas(group, others, netns.Faults{}); return nil }
	}
}

// betweenBackends returns a fault between the first replica and all backends.
func betweenBackends(f netns.Faults) func(*bed) ([]*testbed.Replica, func() error) {
	return func(b *bed) ([]*testbed.Replica, func() error) {
		b.BetweenBackends(b.Replicas[0], f)
		return nil, func() error { b.BetweenBackends(b.Replicas[0], netns.Faults{}); return nil }
	}
}

// Flags, for "make soak-fleet".
var (
	replicas = flag.Int("replicas", 5, "replicas of the fleet that faults happen to; at least 3")
	lasting  = flag.Duration("for", 0, "how long faults happen, in a random order; 0: each happens once")
)

// During a fault and after it, dead backends leave the answers of every replica that answers, and
// live ones stay in. The clock of one replica is a day ahead all the time, and that of another a
// day behind.
func TestFaults(t *testing.T) {
	b := newBed(t, testbed.Options{Replicas: *replicas, Backends: 10})
	const day = 24 * time.Hour
	b.Replicas[1].ClockAhead, b.Replicas[2].ClockAhead = day, -day
	b.start()
	b.together()
	for i, f := range faults {
		t.Run(f.name, func(t *testing.T) { b.suffer(t, f, i) })
	}
	for end := time.Now().Add(*lasting); time.Now().Before(end) && !t.Failed(); {
		i := rand.IntN(len(faults))
		t.Run(faults[i].name, func(t *testing.T) { b.suffer(t, faults[i], rand.IntN(len(b.Backends))) })
	}
}

// suffer lets a fault happen, and backends die meanwhile and after it.
func (b *bed) suffer(t *testing.T, f fault, victim int) {
	b.t = t
	serving, end := f.strike(b)
	end = sync.OnceValue(end)
	defer end()
	if serving == nil {
		serving = b.Replicas
	}
	b.dieAndReturn(victim, serving)
	b.must(end())
	b.together()
	b.dieAndReturn(victim+5, b.Replicas)
	b.right()
}

// dieAndReturn lets two backends die and come back. All replicas that serve have to notice.
func (b *bed) dieAndReturn(i int, serving []*testbed.Replica) {
	b.t.Helper()
	one, other := b.Backends[i%len(b.Backends)], b.Backends[(i+1)%len(b.Backends)]
	one.Kill()
	other.Silence()
	b.agree(serving...)
	b.must(one.Revive())
	b.must(other.Revive())
	b.agree(serving...)
}
