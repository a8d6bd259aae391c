// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// only returns what a host admits that is allowed one endpoint.
func only(at netip.AddrPort) func(netip.AddrPort) bool {
	return func(other netip.AddrPort) bool { return other == at }
}

// A host that admits more than before gets what was refused at once.
func TestReconsider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 3)
		all := endpoints(30)
		strict := w.nodes[2]
		strict.allow = only(all[0])
		for _, at := range all {
			w.nodes[0].see(at)
		}
		w.down = func(_ *node, at netip.AddrPort) bool { return at == all[7] }
		w.run(20 * time.Second)
		if len(strict.slots) != 1 {
			t.Fatalf("%d endpoints are known, want 1", len(strict.slots))
		}
		strict.allow = nil
		strict.share.Reconsider()
		strict.awake.Store(true)
		w.run(100 * time.Millisecond)
		w.agree(all[7], Down)
		w.agree(all[8], Up)
	})
}

// A rule may subscribe, and admit endpoints, after the state of another replica has come.
func TestStateBeforeRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 3)
		all := endpoints(30)
		for _, at := range all {
			w.nodes[0].see(at)
		}
		w.down = func(_ *node, at netip.AddrPort) bool { return at == all[7] }
		w.run(20 * time.Second)
		state := w.nodes[0].fleet.State(true)
		late := w.join("late", "")
		late.allow = only(all[0])
		w.cut = func(a, b *node) bool { return a == late || b == late }
		late.fleet.Merge(state, true)
		w.run(2 * time.Second)
		late.allow = nil
		late.share.Reconsider()
		late.awake.Store(true)
		late.work()
		if late.on(all[7]) != Down || late.on(all[8]) != Up {
			t.Errorf("the joiner says %v and %v, want down and up", late.on(all[7]), late.on(all[8]))
		}
	})
}

// However often a host admits more, the others are asked once a second.
func TestReconsiderIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 3)
		all := endpoints(100)
		strict := w.nodes[2]
		strict.allow = only(all[0])
		for _, at := range all {
			w.nodes[0].see(at)
		}
		w.run(20 * time.Second)
		before := strict.fleet.Snapshot().Sent
		for range 3000 {
			strict.share.Reconsider()
			strict.share.Work()
		}
		w.run(time.Second / 2)
		if n := strict.fleet.Snapshot().Sent - before; n > 6 {
			t.Errorf("%d messages in half a second, want a question to each of two", n)
		}
	})
}

// What is kept of states until it can be taken over is bounded, and is not kept for long.
func TestStateIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 2)
		w.run(time.Second)
		n := w.nodes[0]
		n.allow = only(netip.AddrPort{})
		state := header{1, keyOf("r1"), 0}.bytes()
		for check := range uint64(2 * maxPending) {
			state = appendSection(state, kindKnown, func(to []byte) []byte {
				e := entry{at: endpoints(1)[0], flags: flagDeparted}
				to = append(append(to, 0, 0, 0, 0, 0, 0, byte(check>>8), byte(check)), 0, 0, 0)
				return e.append(to, 0, false)
			})
		}
		n.fleet.Merge(state, true)
		w.run(time.Second)
		kept := func() int {
			n.fleet.mu.Lock()
			defer n.fleet.mu.Unlock()
			return len(n.fleet.pending)
		}
		if kept() != maxPending || n.share.state == nil {
			t.Errorf("the states of %d checks are kept, want %d; refused: %v", kept(), maxPending, n.share.state)
		}
		w.run(pendingFor + time.Second)
		if kept() != 0 || n.share.state != nil {
			t.Errorf("the states of %d checks are kept for long; refused: %v", kept(), n.share.state)
		}
	})
}

// If a state has no room for all endpoints, those that are down are in it, the log has the numbers,
// and heartbeats bring the rest.
func TestStateIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		w := newNetwork(t, 3)
		all := endpoints(3000)
		for _, at := range all {
			w.nodes[0].see(at)
		}
		dead := all[2000:2020]
		w.down = func(_ *node, at netip.AddrPort) bool {
			return !at.Addr().Less(dead[0].Addr()) && at.Addr().Less(all[2020].Addr())
		}
		w.run(30 * time.Second)
		w.nodes[0].fleet.config.Log = &log
		w.nodes[0].fleet.maxState = maxStateRest + 10_000
		late := w.join("late", "")
		late.work()
		for _, at := range dead {
			if late.on(at) != Down {
				t.Errorf("the joiner says %v of %s, want down", late.on(at), at)
			}
		}
		if n := len(late.slots); n < 200 || n > 1000 {
			t.Errorf("a state of 10 kB has %d endpoints", n)
		}
		const want = "fleet test: tcp:80: the state that a replica takes over when it joins is full at 1058576 bytes and lacks "
		if len(log.with(want)) != 1 {
			t.Errorf("the log says %q", log.all)
		}
		w.run(6 * time.Second)
		if len(late.slots) != len(all) {
			t.Errorf("the joiner knows %d endpoints, want %d", len(late.slots), len(all))
		}
		w.agree(all[2999], Up)
	})
}

// What one replica refuses for good costs nothing while other endpoints come.
func TestRefusedCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 3)
		all := endpoints(3000)
		strict := w.nodes[2]
		strict.allow = func(at netip.AddrPort) bool { return at.Addr().As4()[3]%2 == 0 }
		for _, at := range all[:2000] {
			w.nodes[0].see(at)
		}
		w.run(20 * time.Second)
		before := strict.fleet.Snapshot()
		for _, at := range all[2000:2120] {
			w.nodes[0].see(at)
			w.run(500 * time.Millisecond)
		}
		after := strict.fleet.Snapshot()
		w.run(3 * time.Second)
		if n := (after.ReceivedBytes - before.ReceivedBytes) / 60; n > 1500 {
			t.Errorf("%d bytes a second, want at most 1500", n)
		}
		for i := range strict.share.peers[1:] {
			if p := &strict.share.peers[1+i]; p.comparing.waits {
				t.Errorf("it still asks %s", p.name)
			}
		}
	})
}
