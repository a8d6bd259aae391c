// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// One replica sees an endpoint; all know it, three probe it, and all have its verdict.
func TestOneSees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 5)
		w.run(time.Second)
		for _, at := range endpoints(20) {
			w.nodes[0].see(at)
		}
		w.run(2 * time.Second)
		for _, at := range endpoints(20) {
			w.agree(at, Up)
			if n := w.probers(at); n != 3 {
				t.Errorf("%d replicas probe %s, want 3", n, at)
			}
		}
	})
}

// A death is known everywhere.
func TestDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 5)
		all := endpoints(20)
		for _, at := range all {
			w.nodes[0].see(at)
		}
		w.run(10 * time.Second)
		w.down = func(_ *node, at netip.AddrPort) bool { return at == all[3] }
		w.run(7 * time.Second)
		w.agree(all[3], Down)
		w.agree(all[4], Up)
		if text := w.nodes[0].verdicts[3].Text; text != "connection refused" {
			t.Errorf("the reason is %q", text)
		}
		w.down = func(*node, netip.AddrPort) bool { return false }
		w.run(7 * time.Second)
		w.agree(all[3], Up)
	})
}

// One replica's path is cut. It says down of all, the others say up, and that is the verdict
// everywhere, on that replica too. If all backends are dead, all say so.
func TestPathCut(t *testing.T) {
	for _, size := range []int{2, 3, 5, 9} {
		synctest.Test(t, func(t *testing.T) {
			w := newNetwork(t, size)
			all := endpoints(30)
			for _, at := range all {
				w.nodes[1].see(at)
			}
			w.run(10 * time.Second)
			w.down = func(from *node, _ netip.AddrPort) bool { return from == w.nodes[0] }
			w.each = func() {
				for _, at := range all {
					w.agree(at, Up)
				}
			}
			w.run(time.Minute)
			if size > 2 && !w.nodes[0].share.Doubts() {
				t.Errorf("%d replicas: the one that is cut does not doubt itself", size)
			}
			w.each = nil
			w.down = func(*node, netip.AddrPort) bool { return false }
			w.run(15 * time.Second)
			if w.nodes[0].share.Doubts() {
				t.Errorf("%d replicas: it still doubts itself", size)
			}
			w.down = func(*node, netip.AddrPort) bool { return true }
			w.run(15 * time.Second)
			for _, at := range all {
				w.agree(at, Down)
			}
			for _, n := range w.nodes {
				if n.share.Doubts() {
					t.Errorf("%s doubts itself although nobody contradicts it", n.name)
				}
			}
		})
	}
}

// Of two replicas one is killed while an endpoint dies: the other's vote decides.
func TestTwoOneKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 2)
		all := endpoints(10)
		for _, at := range all {
			w.nodes[0].see(at)
		}
		w.run(10 * time.Second)
		w.kill(w.nodes[1])
		w.down = func(_ *node, at netip.AddrPort) bool { return at == all[0] }
		w.run(10 * time.Second)
		w.agree(all[0], Down)
		w.agree(all[1], Up)
	})
}

// Of ten replicas seven leave in order: nobody is alone.
func TestSevenLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 10)
		all := endpoints(10)
		for _, at := range all {
			w.nodes[9].see(at)
		}
		w.run(2 * time.Minute)
		for i := range 7 {
			w.leave(w.nodes[i])
			w.run(time.Second)
		}
		w.each = func() {
			for _, n := range w.live() {
				if n.fleet.Alone() {
					t.Fatal("alone")
				}
			}
		}
		w.run(time.Minute)
		for _, at := range all {
			w.agree(at, Up)
			if n := w.probers(at); n != 3 {
				t.Errorf("%d replicas probe %s, want 3", n, at)
			}
		}
	})
}

// Two halves are cut. Both go on with their own votes, and agree again within a heartbeat when the
// cut ends.
func TestEvenSplit(t *testing.T) {
	for _, probers := range []int{1, 2, 3, 5} {
		synctest.Test(t, func(t *testing.T) {
			w := newNetwork(t, 0)
			w.config.Probers = probers
			half := make(map[*node]bool)
			for i := range 10 {
				half[w.join(string(rune('a'+i)), "")] = i < 5
			}
			all := endpoints(40)
			for _, at := range all {
				w.nodes[2].see(at)
				w.nodes[7].see(at)
			}
			w.run(2 * time.Minute)
			w.cut = func(a, b *node) bool { return half[a] != half[b] }
			w.down = func(from *node, at netip.AddrPort) bool { return at.Addr().As4()[3]%2 == 0 && half[from] }
			w.run(30 * time.Second)
			for _, n := range w.nodes {
				if n.fleet.Alone() {
					t.Errorf("%s is alone", n.name)
				}
				for i, at := range all {
					want := Up
					if i%2 == 0 && half[n] {
						want = Down
					}
					if got := n.on(at); got != want {
						t.Errorf("%s says %v of %s, want %v", n.name, got, at, want)
					}
				}
			}
			w.cut = nil
			w.run(time.Second + w.check.Interval + 2*time.Second)
			for _, at := range all {
				w.agree(at, w.nodes[0].on(at))
			}
		})
	}
}

// A replica that is cut from all others goes by its own probes, and is back when the cut ends.
func TestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 5)
		all := endpoints(40)
		for _, at := range all {
			w.nodes[0].see(at)
		}
		w.run(2 * time.Minute)
		w.cut = func(a, b *node) bool { return (a == w.nodes[0]) != (b == w.nodes[0]) }
		w.down = func(from *node, at netip.AddrPort) bool { return from == w.nodes[0] && at == all[0] }
		before := w.nodes[0].probes
		w.run(20 * time.Second)
		if !w.nodes[0].fleet.Alone() || w.nodes[1].fleet.Alone() {
			t.Errorf("alone: %v and %v, want only the first", w.nodes[0].fleet.Alone(), w.nodes[1].fleet.Alone())
		}
		if w.nodes[0].on(all[0]) != Down || w.nodes[1].on(all[0]) != Up {
			t.Errorf("verdicts %v and %v, want down and up", w.nodes[0].on(all[0]), w.nodes[1].on(all[0]))
		}
		if n := w.nodes[0].probes - before; n > 40*5 {
			t.Errorf("%d probes in 20s, that is a burst", n)
		}
		w.cut = nil
		w.run(8 * time.Second)
		w.agree(all[0], Up)
		w.run(time.Minute)
		for _, at := range all {
			if n := w.probers(at); n != 3 {
				t.Errorf("%d replicas probe %s, want 3", n, at)
			}
		}
	})
}

// A replica that joins has all verdicts at once, and probes what it takes over within an interval.
func TestJoiner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 3)
		all := endpoints(50)
		for _, at := range all {
			w.nodes[0].see(at)
		}
		w.down = func(_ *node, at netip.AddrPort) bool { return at == all[7] }
		w.run(time.Minute)
		n := w.join("late", "")
		w.step()
		for i, at := range all {
			want := Up
			if i == 7 {
				want = Down
			}
			if n.on(at) != want {
				t.Errorf("the joiner says %v of %s, want %v", n.on(at), at, want)
			}
		}
		if i := n.byPair[all[7]]; n.verdicts[i].Text != "connection refused" || n.verdicts[i].Age != time.Minute || string(n.verdicts[i].Memory) != "memory" {
			t.Errorf("decision %+v", n.verdicts[i])
		}
		w.run(20 * time.Second)
		for _, at := range all {
			if n := w.probers(at); n != 3 {
				t.Errorf("%d replicas probe %s, want 3", n, at)
			}
		}
		for _, n := range w.nodes {
			if n.flips > len(all) {
				t.Errorf("%s changed %d verdicts", n.name, n.flips)
			}
		}
	})
}

// A replica that leaves and joins again, as after a change of its sockets, is not alone meanwhile.
func TestStartAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 5)
		w.run(2 * time.Minute)
		n := w.nodes[0]
		n.fleet.Stop(t.Context())
		n.fleet.Start(n)
		n.fleet.Members([]Replica{{Name: n.name, Versions: Understood}})
		if n.fleet.Alone() {
			t.Error("alone")
		}
		n.members()
		w.run(10 * time.Second)
		if s := n.fleet.Snapshot(); s.Alone || len(s.Members) != 5 || s.Checks[0].Replicas != 5 {
			t.Errorf("%+v", s)
		}
	})
}

// Messages that are lost are made up for.
func TestLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 5)
		w.loss, w.delay, w.jitter = 0.2, 100*time.Millisecond, 200*time.Millisecond
		all := endpoints(300)
		for _, at := range all {
			w.nodes[w.rand.IntN(5)].see(at)
		}
		w.run(time.Minute)
		for range 5 {
			dead := make(map[netip.AddrPort]bool)
			for range 50 {
				dead[all[w.rand.IntN(len(all))]] = true
			}
			w.down = func(_ *node, at netip.AddrPort) bool { return dead[at] }
			w.run(40 * time.Second) // several heartbeats in a row may be lost
			for _, at := range all {
				want := Up
				if dead[at] {
					want = Down
				}
				w.agree(at, want)
			}
		}
		w.loss = 0
		w.run(15 * time.Second)
		for _, n := range w.nodes {
			for i := range n.share.peers[1:] {
				p := &n.share.peers[1+i]
				for _, other := range w.nodes {
					if other.name == p.name && other.share.peers[0].sum != p.sum {
						t.Errorf("%s holds other claims of %s than that has", n.name, p.name)
					}
				}
			}
		}
	})
}

// What a keeper saves is there as soon as a replica has joined, and reaches the others in the
// exchanges that follow. Those hold no votes.
func TestKeepers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 2)
		w.nodes[0].notes.own = "tier 2"
		w.nodes[0].see(endpoints(1)[0])
		w.run(time.Second)
		joined := w.join("r2", "")
		if got := joined.notes.told["r0"]; got != "tier 2" || len(joined.notes.told) != 1 {
			t.Errorf("a replica that joined was told %q", joined.notes.told)
		}
		w.nodes[0].notes.own = "tier 3"
		state := w.nodes[0].fleet.State(false)
		w.nodes[1].fleet.Merge(state, false)
		if got := w.nodes[1].notes.told["r0"]; got != "tier 3" {
			t.Errorf("an exchange told %q", got)
		}
		if len(state) > 50 {
			t.Errorf("an exchange of %d bytes", len(state))
		}
	})
}

// A keeper is called neither for another name nor for what is too large, and its own words go out
// only if they are not too large.
func TestKeptIsBounded(t *testing.T) {
	saying := func(name, own string) *Fleet {
		f := New(Config{Name: "test", Replica: "other", Log: quiet{}})
		f.Keep(name, &notes{own: own})
		return f
	}
	var n notes
	f := New(Config{Name: "test", Replica: "here", Log: quiet{}})
	f.Keep("notes", &n)
	f.Merge(saying("else", "x").State(true), true)
	f.Merge(saying("notes", strings.Repeat("x", MaxKept+1)).State(true), true)
	if len(n.told) != 0 {
		t.Errorf("told by %d replicas, want none", len(n.told))
	}
	f.Merge(saying("notes", strings.Repeat("x", MaxKept)).State(true), true)
	if len(n.told["other"]) != MaxKept {
		t.Errorf("told %d bytes, want %d", len(n.told["other"]), MaxKept)
	}
}

// A replica that was sent a state is not ready before its checks have taken it over.
func TestTakingOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 2)
		w.run(10 * time.Second)
		a, b := w.nodes[0].fleet, w.nodes[1].fleet
		if b.Merge(a.State(true), true); !b.TakingOver() {
			t.Error("has taken over what it has not read")
		}
		if w.run(time.Second); b.TakingOver() {
			t.Error("still takes over")
		}
	})
}
