// SPDX-License-Identifier: Apache-2.0

package health

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
)

// An index finds what is there and nothing else, whatever came and went before.
func TestPairs(t *testing.T) {
	var p pairs
	there := make(map[netip.AddrPort]*endpoint)
	for range 20_000 {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(rand.N(200))}), uint16(rand.N(4)))
		if e := there[at]; e != nil {
			p.remove(e)
			delete(there, at)
		} else {
			there[at] = newEndpoint(at)
			p.add(there[at])
		}
		if got := p.find(at); got != there[at] {
			t.Fatalf("find(%s) = %v, want %v", at, got, there[at])
		}
	}
	for at, e := range there {
		if p.find(at) != e {
			t.Errorf("%s was lost", at)
		}
	}
	if size := len(*p.slots.Load()); size > 8*len(there) {
		t.Errorf("%d slots for %d endpoints, want at most 8 each", size, len(there))
	}
	if p.find(netip.AddrPort{}) != nil {
		t.Error("found the zero endpoint")
	}
}

// A reader finds an endpoint that stays, and none that never was, while others come and go.
func TestPairsWhileTheyChange(t *testing.T) {
	var p pairs
	stays := newEndpoint(netip.MustParseAddrPort("[2001:db8::1]:80"))
	p.add(stays)
	never := netip.MustParseAddrPort("[2001:db8::2]:80")
	var changed atomic.Bool
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for !changed.Load() {
				if p.find(stays.at) != stays {
					t.Error("an endpoint that stays was not found")
					return
				}
				if e := p.find(never); e != nil {
					t.Errorf("found %s, want nothing", e.name())
					return
				}
			}
		})
	}
	for range 200 {
		var some []*endpoint
		for i := range 300 {
			some = append(some, newEndpoint(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), 0)))
			p.add(some[i])
		}
		for _, e := range some {
			p.remove(e)
		}
	}
	changed.Store(true)
	readers.Wait()
}

func BenchmarkFind(b *testing.B) {
	var t table
	for i := range 10_000 {
		t.add(newEndpoint(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 0)))
	}
	at := netip.MustParseAddrPort("10.0.0.77:0")
	b.ReportAllocs()
	for b.Loop() {
		if t.find(at) == nil {
			b.Fatal("not found")
		}
	}
}
