// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/seed-f1518d44/balance/internal/fleet"
)

// Replicas that look for one of them find all, take over its state, and know where the others are.
func TestReplicasFindEachOther(t *testing.T) {
	virtual(t, func(t *testing.T, n *network) {
		a := n.join(1, func(o *Options) { o.Locality = "zone-a" })
		b := n.join(2, nil, 1)
		c := n.join(3, nil, 1)
		defer leave(a, b, c)
		for _, r := range []*replica{a, b, c} {
			within(t, 5*time.Second, r.name+" knows all", func() bool { return r.names() == "r1 r2 r3" })
		}
		want := fleet.Replica{Name: "r1", Locality: "zone-a", Addr: addrOf(1), Versions: fleet.Understood}
		if got := c.first(); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if got := b.tookOver(); got != "state of r1" {
			t.Errorf("the state that r2 took over: %q", got)
		}
	})
}

func TestMessages(t *testing.T) {
	virtual(t, func(t *testing.T, n *network) {
		a, b, c := n.join(1, nil), n.join(2, nil, 1), n.join(3, nil, 1)
		defer leave(a, b, c)
		within(t, 5*time.Second, "all there", func() bool { return a.names() == "r1 r2 r3" && c.names() == a.names() })
		large := strings.Repeat("large ", fleet.MaxMessage/6)
		a.Tell("r2", []byte("to r2"))
		a.Tell("nobody", []byte("to nobody"))
		a.TellAll([]byte("to all"))
		c.TellAll([]byte(large))
		time.Sleep(time.Second)
		for message, want := range map[string]string{"to r2": "0 1 0", "to nobody": "0 0 0", "to all": "0 1 1", large: "1 1 0"} {
			if got := fmt.Sprint(a.times(message), b.times(message), c.times(message)); got != want {
				t.Errorf("%.20q was heard %s times, want %s", message, got, want)
			}
		}
	})
}

// Who leaves in order says so; who dies is found out.
func TestLeaving(t *testing.T) {
	virtual(t, func(t *testing.T, n *network) {
		a, b, c := n.join(1, nil), n.join(2, nil, 1), n.join(3, nil, 1)
		defer leave(a, b)
		within(t, 5*time.Second, "all there", func() bool { return a.names() == "r1 r2 r3" && b.names() == a.names() && c.names() == a.names() })
		began := time.Now()
		leave(c)
		if took := time.Since(began); took > defaultLeave {
			t.Errorf("leaving took %v", took)
		}
		within(t, time.Second, "r3 is gone", func() bool { return a.names() == "r1 r2" && b.names() == "r1 r2" })
		if a.end("r3") != "in order" || b.end("r3") != "in order" {
			t.Errorf("r3 left: %s, %s; want in order", a.end("r3"), b.end("r3"))
		}
		n.sever(func(x, y netip.AddrPort) bool { return x == addrOf(2) || y == addrOf(2) })
		within(t, 15*time.Second, "r2 is gone", func() bool { return a.names() == "r1" })
		if a.end("r2") != "dead" {
			t.Errorf("r2 left: %s; want dead", a.end("r2"))
		}
		n.sever(nil)
	})
}

// Leaving takes no longer than its context, also for a replica that has not even started.
func TestLeavingIsBounded(t *testing.T) {
	virtual(t, func(t *testing.T, n *network) {
		a, b := n.join(1, nil), n.join(2, nil, 1)
		within(t, 5*time.Second, "both there", func() bool { return a.names() == "r1 r2" })
		n.sever(func(netip.AddrPort, netip.AddrPort) bool { return true })
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		b.Leave(ctx)
		b.Leave(ctx)
		if took := time.Since(began); took > 150*time.Millisecond {
			t.Errorf("leaving took %v", took)
		}
		a.Leave(ctx)
	})
}

// The halves of a fleet that was cut go on, and find each other when the network is whole again.
func TestHalvesFindEachOther(t *testing.T) {
	virtual(t, func(t *testing.T, n *network) {
		var all []*replica
		for i := range 4 {
			all = append(all, n.join(i+1, nil, 1, 2, 3, 4))
		}
		defer leave(all...)
		for _, r := range all {
			within(t, 10*time.Second, "all there", func() bool { return r.names() == "r1 r2 r3 r4" })
		}
		half := func(a netip.AddrPort) bool { return a.Addr().As4()[3] < 3 }
		n.sever(func(x, y netip.AddrPort) bool { return half(x) != half(y) })
		within(t, 30*time.Second, "two halves", func() bool { return all[0].names() == "r1 r2" && all[3].names() == "r3 r4" })
		time.Sleep(10 * time.Minute) // memberlist forgets the dead
		n.sever(nil)
		for _, r := range all {
			within(t, seekSeldom+5*time.Second, "whole again", func() bool { return r.names() == "r1 r2 r3 r4" })
		}
	})
}

// With 200 ms of delay each way and a fifth of the packets lost, the fleet is whole almost always.
func TestBadNetwork(t *testing.T) {
	virtual(t, func(t *testing.T, n *network) {
		n.delay, n.loss = 200*time.Millisecond, 0.2
		var all []*replica
		for i := range 5 {
			all = append(all, n.join(i+1, nil, 1, 2, 3, 4, 5))
		}
		defer leave(all...)
		for _, r := range all {
			within(t, time.Minute, "all there", func() bool { return r.count() == 5 })
		}
		looks, whole := 0, 0
		for range 10 * 60 {
			time.Sleep(time.Second)
			for _, r := range all {
				looks++
				if r.count() == 5 {
					whole++
				}
			}
		}
		if share := float64(whole) / float64(looks); share < 0.97 {
			t.Errorf("whole in %.3f of all looks", share)
		} else {
			t.Logf("whole in %.4f of all looks", share)
		}
	})
}

// A replica that finds nobody says so once, and when it finds somebody.
func TestNobodyFound(t *testing.T) {
	virtual(t, func(t *testing.T, n *network) {
		a := n.join(1, nil, 1, 2)
		time.Sleep(20 * time.Minute)
		if lines := a.said("no other replica"); len(lines) != 1 {
			t.Errorf("said %q", lines)
		}
		b := n.join(2, nil)
		defer leave(a, b)
		within(t, seekSeldom+time.Second, "both there", func() bool { return a.names() == "r1 r2" })
		if lines := a.said("joined"); len(lines) != 1 {
			t.Errorf("said %q", lines)
		}
	})
}

// A name that does not resolve yet is tried again soon.
func TestNameResolvesLater(t *testing.T) {
	virtual(t, func(t *testing.T, n *network) {
		began := time.Now()
		resolve := func(_ context.Context, name string) ([]netip.Addr, error) {
			if name != "fleet.example.org" || time.Since(began) < 3*time.Second {
				return nil, errors.New("SERVFAIL")
			}
			return []netip.Addr{addrOf(1).Addr(), addrOf(2).Addr()}, nil
		}
		byName := func(o *Options) { o.Resolve, o.Join = resolve, []Peer{{"fleet.example.org", DefaultPort}} }
		a, b := n.join(1, byName), n.join(2, byName)
		defer leave(a, b)
		within(t, 5*time.Second, "both there", func() bool { return a.names() == "r1 r2" && b.names() == "r1 r2" })
	})
}

// A new locality is known to all soon.
func TestLocalityChanges(t *testing.T) {
	virtual(t, func(t *testing.T, n *network) {
		a, b := n.join(1, nil), n.join(2, nil, 1)
		defer leave(a, b)
		within(t, 5*time.Second, "both there", func() bool { return a.names() == "r1 r2" && b.names() == "r1 r2" })
		a.SetLocality("zone-a")
		within(t, 3*time.Second, "the locality is known", func() bool { return b.first().Locality == "zone-a" })
		if a.first().Locality != "zone-a" {
			t.Errorf("r1 itself: %+v", a.first())
		}
	})
}

// An address that no replica advertises, such as that of a NAT or of its other family, is joined
// again only after a long time: each time, whole states are exchanged.
func TestAddressThatNobodyAdvertises(t *testing.T) {
	virtual(t, func(t *testing.T, n *network) {
		a := n.join(1, nil)
		n.translate(addrOf(101), addrOf(1))
		b := n.join(2, nil, 101)
		defer leave(a, b)
		within(t, 5*time.Second, "both there", func() bool { return a.names() == "r1 r2" && b.names() == "r1 r2" })
		time.Sleep(placeHolds - time.Minute)
		if n := b.takenOver(); n != 1 {
			t.Errorf("took over %d states, want 1", n)
		}
		time.Sleep(2 * time.Minute)
		if n := b.takenOver(); n != 2 {
			t.Errorf("took over %d states after %v, want 2", n, placeHolds)
		}
	})
}

// An address that led to the replica itself may lead to another one later, as that of a load
// balancer: a replica that is alone tries it again.
func TestAddressLeadsElsewhere(t *testing.T) {
	virtual(t, func(t *testing.T, n *network) {
		a := n.join(1, nil)
		n.translate(addrOf(101), addrOf(1))
		a.SetJoin([]Peer{{addrOf(101).Addr().String(), DefaultPort}})
		time.Sleep(time.Minute)
		b := n.join(2, nil)
		n.translate(addrOf(101), addrOf(2))
		defer leave(a, b)
		within(t, seekSeldom+time.Second, "both there", func() bool { return a.names() == "r1 r2" })
	})
}

// A replica that starts again where another was gets messages for that one, and knows all replicas
// before it has joined one. It still takes a state over before it says that it has joined.
func TestKnowsAllBeforeItJoins(t *testing.T) {
	virtual(t, func(t *testing.T, n *network) {
		a, b, old := n.join(1, nil), n.join(2, nil, 1), n.join(3, nil, 1)
		defer leave(a, b, old)
		within(t, 5*time.Second, "all there", func() bool { return a.names() == "r1 r2 r3" && b.names() == a.names() })
		n.sever(func(x, _ netip.AddrPort) bool { return x == addrOf(3) }) // nothing of it gets out
		restarted := n.join(3, func(o *Options) { o.Replica = "r3b" }, 1)
		defer leave(restarted)
		b.SetLocality("zone-b")
		a.SetLocality("zone-a") // news, which go to r3's address too
		within(t, 10*time.Second, "knows others", func() bool { return restarted.count() > 1 })
		if restarted.Joined() {
			t.Error("has joined without a state")
		}
		n.sever(nil)
		within(t, 15*time.Second, "has joined", restarted.Joined) // an attempt takes up to 10 s
		if restarted.takenOver() == 0 {
			t.Error("has joined without a state")
		}
	})
}

// Messages that cannot be sent are counted.
func TestLost(t *testing.T) {
	virtual(t, func(t *testing.T, n *network) {
		a, b := n.join(1, nil), n.join(2, nil, 1)
		defer leave(a, b)
		within(t, 5*time.Second, "both there", func() bool { return a.names() == "r1 r2" })
		n.sever(func(netip.AddrPort, netip.AddrPort) bool { return true })
		large := make([]byte, fleet.MaxMessage)
		for range 3 {
			a.Tell("r2", large)
		}
		within(t, time.Minute, "three are lost", func() bool { return a.lostNow() == 3 })
	})
}
