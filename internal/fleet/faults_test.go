// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// Whatever happens to messages and replicas: as long as fewer than half of an endpoint's probers
// see it down, no replica in touch with the others says so; and when the faults end, all say the
// same within a few heartbeats.
func TestRandomFaults(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { randomFaults(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func randomFaults(t *testing.T, rng *rand.Rand) {
	const replicas, all = 7, 40
	w := newNetwork(t, replicas)
	w.rand = rng
	for _, at := range endpoints(all) {
		w.nodes[rng.IntN(replicas)].see(at)
	}
	w.run(time.Minute)
	born := 0
	for round := range 6 {
		// One replica cannot reach the backends, all of which are up.
		blind := w.live()[rng.IntN(len(w.live()))]
		w.down = func(from *node, _ netip.AddrPort) bool { return from == blind }
		w.loss, w.delay, w.jitter = rng.Float64()*0.25, time.Duration(rng.IntN(200))*time.Millisecond, time.Duration(rng.IntN(300)+1)*time.Millisecond
		switch rng.IntN(4) {
		case 0:
			victim := w.live()[rng.IntN(len(w.live()))]
			w.kill(victim)
			born++
			w.join(fmt.Sprintf("again%d", born), "")
		case 1:
			victim := w.live()[rng.IntN(len(w.live()))]
			w.leave(victim)
			born++
			w.join(fmt.Sprintf("next%d", born), "")
		case 2:
			outsider := w.live()[rng.IntN(len(w.live()))]
			w.cut = func(a, b *node) bool { return (a == outsider) != (b == outsider) && outsider != blind }
		case 3:
			garbage(w, rng)
		}
		w.each = func() {
			for _, n := range w.live() {
				for _, at := range endpoints(all) {
					if n.on(at) == Down {
						t.Fatalf("round %d: %s says down of %s: %+v", round, n.name, at, n.share.Voters(at))
					}
				}
			}
		}
		w.run(30 * time.Second)
		w.each = nil
		// All is well again, and something dies.
		dead := endpoints(all)[rng.IntN(all)]
		w.cut, w.loss, w.jitter, w.delay = nil, 0, 0, time.Millisecond
		w.down = func(_ *node, at netip.AddrPort) bool { return at == dead }
		w.run(30 * time.Second)
		for _, at := range endpoints(all) {
			want := Up
			if at == dead {
				want = Down
			}
			w.agree(at, want)
			if n := w.probers(at); n != 3 {
				t.Errorf("round %d: %d replicas probe %s, want 3", round, n, at)
			}
		}
		w.down = func(*node, netip.AddrPort) bool { return false }
		w.run(15 * time.Second)
	}
}

// garbage sends every replica bytes that are not a message, and damaged messages.
func garbage(w *network, rng *rand.Rand) {
	for _, n := range w.live() {
		for range 200 {
			message := header{1, keyOf(w.nodes[0].name), w.check.ID}.bytes()
			for range rng.IntN(200) {
				message = append(message, byte(rng.Uint32()))
			}
			n.fleet.Hear(message[rng.IntN(3):])
		}
	}
}

// Messages that come twice, late or in another order do no lasting harm.
func TestReordered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 5)
		w.jitter = 2 * time.Second
		all := endpoints(30)
		for _, at := range all {
			w.nodes[0].see(at)
		}
		w.run(time.Minute)
		for i := range 20 {
			down := i%2 == 0
			w.down = func(_ *node, at netip.AddrPort) bool { return down && at == all[i] }
			w.run(3 * time.Second)
			for _, p := range w.queue[:len(w.queue)/2] {
				p.at += time.Second
				w.queue = append(w.queue, p)
			}
		}
		w.down = func(*node, netip.AddrPort) bool { return false }
		w.run(30 * time.Second)
		for _, at := range all {
			w.agree(at, Up)
		}
	})
}

// A death is known everywhere soon after the second of three probers has noticed it, even if one of
// them is killed in the same moment.
func TestHowSoon(t *testing.T) {
	const bound = 5*time.Second + time.Second // an interval, and one more probe to confirm
	for _, killed := range []bool{false, true} {
		var worst time.Duration
		synctest.Test(t, func(t *testing.T) {
			w := newNetwork(t, 9)
			all := endpoints(20)
			for _, at := range all {
				w.nodes[0].see(at)
			}
			w.run(time.Minute)
			for i, at := range all {
				if killed && i%5 == 0 {
					for _, v := range w.live()[0].share.Voters(at)[:1] {
						for _, n := range w.live()[1:] {
							if n.name == v.Replica {
								w.kill(n)
								w.join(fmt.Sprint("new", i), "")
							}
						}
					}
				}
				from := w.now()
				w.down = func(_ *node, other netip.AddrPort) bool { return other == at }
				for done := false; !done && w.now()-from < time.Minute; {
					w.run(10 * time.Millisecond)
					done = true
					for _, n := range w.live() {
						done = done && n.on(at) == Down
					}
				}
				worst = max(worst, w.now()-from)
				w.down = func(*node, netip.AddrPort) bool { return false }
				w.run(20 * time.Second)
			}
		})
		limit := bound + 300*time.Millisecond
		if killed {
			limit = bound + 10*time.Second
		}
		t.Logf("a prober is killed: %v: at worst %v", killed, worst)
		if worst > limit {
			t.Errorf("a prober is killed: %v: a death was known everywhere after %v, want %v", killed, worst, limit)
		}
	}
}

// A replica that starts again under the name that it had takes over and is believed as before.
func TestRestartsWithItsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 4)
		all := endpoints(50)
		for _, at := range all {
			w.nodes[0].see(at)
		}
		w.down = func(_ *node, at netip.AddrPort) bool { return at == all[3] }
		w.run(20 * time.Second)
		w.restart(w.nodes[1])
		w.run(12 * time.Second)
		w.agree(all[3], Down)
		w.agree(all[4], Up)
		w.down = func(_ *node, at netip.AddrPort) bool { return at == all[4] }
		w.run(8 * time.Second)
		w.agree(all[3], Up)
		w.agree(all[4], Down)
		for _, at := range all {
			if n := w.probers(at); n != 3 {
				t.Errorf("%d replicas probe %s, want 3", n, at)
			}
		}
	})
}

// Two replicas with one name are one voter, whatever each of them says.
func TestTwins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 5)
		all := endpoints(40)
		for _, at := range all {
			w.nodes[0].see(at)
		}
		w.run(10 * time.Second)
		twin := w.join("r4", "")
		w.down = func(from *node, at netip.AddrPort) bool {
			return at == all[0] || from == twin && at.Addr().As4()[3]%2 == 0
		}
		w.run(20 * time.Second)
		w.each = func() {
			for _, n := range w.nodes[:4] {
				for i, at := range all {
					want := Up
					if i == 0 {
						want = Down
					}
					if got := n.on(at); got != want {
						t.Fatalf("%s says %v of %s: %+v", n.name, got, at, n.share.Voters(at))
					}
				}
			}
		}
		w.run(30 * time.Second)
	})
}

// If votes that held a minority down are gone, the minority decides no sooner than a probe takes,
// however long it has disagreed.
func TestMinorityIsPatient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 3)
		all := endpoints(20)
		for _, at := range all {
			w.nodes[0].see(at)
		}
		w.down = func(from *node, at netip.AddrPort) bool { return from == w.nodes[0] && at == all[0] }
		w.run(time.Minute)
		for _, n := range w.nodes[1:] {
			n.probed[n.byPair[all[0]]].next = w.now() + 20*time.Second
			n.share.Vote(n.byPair[all[0]], Opinion{}, "")
			n.awake.Store(true)
		}
		w.run(w.check.Interval + w.check.Timeout - time.Second)
		w.agree(all[0], Up)
		w.run(3 * time.Second)
		w.agree(all[0], Down)
	})
}

// A heartbeat fits into a datagram, however many endpoints have no majority.
func TestBeatFitsIntoDatagram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 2)
		for i := range 200 {
			w.nodes[0].see(netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 1, 14: byte(i >> 8), 15: byte(i)}), 8080))
		}
		w.run(10 * time.Second)
		w.down = func(from *node, at netip.AddrPort) bool { return from == w.nodes[0] && at.Addr().As16()[15] > 0 }
		w.run(20 * time.Second) // TellAll looks at the sizes
		if n := w.nodes[0].fleet.Snapshot().Checks[0].Undecided; n < 190 {
			t.Errorf("%d endpoints are undecided, want nearly all", n)
		}
	})
}

// However endpoints come and go, and whatever is lost, late or refused: in the end each replica
// holds of the others' claims all that it admits, and asks for nothing.
func TestClaimsConverge(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { converges(t, rand.New(rand.NewPCG(seed, 3))) })
		})
	}
}

func converges(t *testing.T, rng *rand.Rand) {
	w := newNetwork(t, 4)
	w.rand, w.loss, w.jitter = rng, 0.3, 2*time.Second
	all := endpoints(200)
	for i, n := range w.nodes[1:] {
		n.allow = func(at netip.AddrPort) bool { return int(at.Addr().As4()[3])%4 != i }
	}
	w.down = func(from *node, at netip.AddrPort) bool { return rng.IntN(20) == 0 }
	for range 300 {
		for range rng.IntN(8) {
			n, at := w.nodes[rng.IntN(4)], all[rng.IntN(len(all))]
			switch i, known := n.byPair[at]; {
			case rng.IntN(3) > 0 && (n.allow == nil || n.allow(at)):
				n.see(at)
			case known && n.share.WantedElsewhere(i):
				n.share.SetWanted(i, false)
			default:
				n.forget(at)
			}
		}
		w.run(200 * time.Millisecond)
	}
	w.loss, w.jitter, w.delay = 0, 0, time.Millisecond
	w.down = func(_ *node, at netip.AddrPort) bool { return at == all[0] }
	w.run(30 * time.Second)
	for _, n := range w.nodes {
		for i := range n.share.peers[1:] {
			heldAreTold(t, n, uint16(1+i), w)
		}
	}
}

// heldAreTold fails the test unless a replica holds the claims of a peer that it admits, and no
// others.
func heldAreTold(t *testing.T, n *node, i uint16, w *network) {
	t.Helper()
	p := &n.share.peers[i]
	var other *node
	for _, one := range w.nodes {
		if one.name == p.name {
			other = one
		}
	}
	if p.comparing.waits || p.sum+p.refused.sum != other.share.peers[0].sum {
		t.Errorf("%s holds %x of %s and refuses %x, want %x; waits: %v", n.name, p.sum, p.name, p.refused.sum, other.share.peers[0].sum, p.comparing.waits)
	}
	for at, k := range other.byPair {
		told, wanted := other.share.ballots[k].of(0), other.share.peers[0].wants.has(k)
		m, known := n.byPair[at]
		switch {
		case !known && wanted && (n.allow == nil || n.allow(at)):
			t.Errorf("%s does not know %s, which %s wants", n.name, at, p.name)
		case known && (n.share.ballots[m].of(i) != told || p.wants.has(m) != wanted):
			t.Errorf("%s: %s says %v, wants it: %v; %s holds %v and %v", at, p.name, told, wanted, n.name, n.share.ballots[m].of(i), p.wants.has(m))
		}
	}
}
