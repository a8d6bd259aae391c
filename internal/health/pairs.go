// SPDX-License-Identifier: Apache-2.0

package health

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"

	"github.com/seed-f1518d44/balance/internal/schedule"
)

// pairs finds endpoints by address and port: a hash table with linear probing. Safe for one writer
// and any number of readers. It takes about 16 bytes an endpoint, a sync.Map ten times as much.
type pairs struct {
	slots atomic.Pointer[[]atomic.Pointer[endpoint]] // a power of two; at least a quarter are nil
	known int                                        // endpoints
	// Slots that are not nil, those of removed endpoints included.
	taken int
}

// removed marks the slot of an endpoint that was removed. A search goes on past it, because
// endpoints that collided with the removed one are in later slots. Nobody searches for the mark's
// own address.
var removed = &endpoint{at: netip.AddrPortFrom(netip.IPv6Unspecified().WithZone("removed"), 0)}

// hashSeed keeps others from choosing addresses that collide.
var hashSeed = rand.Uint64() //nolint:gosec // no secret

const fewestPairs = 16 // slots

// slotOf returns the slot at which the search for an endpoint begins.
func slotOf(at netip.AddrPort, slots int) int {
	addr := at.Addr().As16()
	h := schedule.Mix(hashSeed ^ binary.LittleEndian.Uint64(addr[:8]) ^ uint64(at.Port())<<48)
	return int(schedule.Mix(h^binary.LittleEndian.Uint64(addr[8:])) & uint64(slots-1))
}

// find returns an endpoint, nil if it is not there.
func (p *pairs) find(at netip.AddrPort) *endpoint {
	if slots := p.slots.Load(); slots != nil {
		e, _ := search(*slots, at)
		return e
	}
	return nil
}

// search returns an endpoint and its slot, or nil and the empty slot at which the search ends. A
// reader must not look into that slot again: another endpoint may be there by then.
func search(slots []atomic.Pointer[endpoint], at netip.AddrPort) (e *endpoint, slot int) {
	i := slotOf(at, len(slots))
	for {
		if e := slots[i].Load(); e == nil || e.at == at {
			return e, i
		}
		i = (i + 1) & (len(slots) - 1)
	}
}

// add adds an endpoint that is not there yet.
func (p *pairs) add(e *endpoint) {
	if slots := p.slots.Load(); slots == nil || 4*(p.taken+1) > 3*len(*slots) {
		p.rebuild()
	}
	slots := *p.slots.Load()
	_, slot := search(slots, e.at)
	slots[slot].Store(e)
	p.known++
	p.taken++
}

// remove removes an endpoint that is there.
func (p *pairs) remove(e *endpoint) {
	slots := *p.slots.Load()
	_, slot := search(slots, e.at)
	slots[slot].Store(removed)
	p.known--
}

// rebuild makes room for more, and drops the marks of removed endpoints. Readers may still use the
// old slots.
func (p *pairs) rebuild() {
	size := fewestPairs
	for size < 2*(p.known+1) {
		size *= 2
	}
	slots := make([]atomic.Pointer[endpoint], size)
	if before := p.slots.Load(); before != nil {
		for i := range *before {
			if e := (*before)[i].Load(); e != nil && e != removed {
				_, slot := search(slots, e.at)
				slots[slot].Store(e)
			}
		}
	}
	p.slots.Store(&slots)
	p.taken = p.known
}
