// SPDX-License-Identifier: Apache-2.0

package health

import (
	"net/netip"
	"sync/atomic"
)

// table finds the endpoints of a pool and numbers them. Queries look endpoints up without a lock
// and put new ones on a list, which the pool empties. Only the pool adds and removes.
type table struct {
	byPair    pairs
	byAddress addressIndex
	slots     atomic.Pointer[[]atomic.Pointer[endpoint]]
	free      []uint32 // slots that are empty
	used      uint32   // slots that are or were taken

	arrivals atomic.Pointer[arrival] // newest first
	wake     chan struct{}           // receives when there are arrivals
}

// arrival is an endpoint in an answer that is not yet a member of the subscription's scope.
type arrival struct {
	at           netip.AddrPort
	subscription *Subscription
	earlier      *arrival
}

// find returns an endpoint, nil if it is not known.
func (t *table) find(at netip.AddrPort) *endpoint { return t.byPair.find(at) }

// numbered returns the endpoint with a number, nil if there is none any more.
func (t *table) numbered(n uint32) *endpoint {
	if slots := t.slots.Load(); slots != nil && int(n) < len(*slots) {
		return (*slots)[n].Load()
	}
	return nil
}

// known returns the number of endpoints.
func (t *table) known() int { return int(t.used) - len(t.free) }

// arrive puts an endpoint onto the list, and wakes the pool.
func (t *table) arrive(at netip.AddrPort, s *Subscription) {
	a := &arrival{at: at, subscription: s}
	for {
		a.earlier = t.arrivals.Load()
		if t.arrivals.CompareAndSwap(a.earlier, a) {
			break
		}
	}
	if a.earlier == nil {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

func (t *table) add(e *endpoint) {
	if last := len(t.free) - 1; last >= 0 {
		e.number, t.free = t.free[last], t.free[:last]
	} else {
		e.number = t.used
		t.used++
	}
	t.slotFor(e.number).Store(e)
	t.byPair.add(e)
	t.byAddress.add(e)
}

// slotFor returns the slot of a number, and makes room for it.
func (t *table) slotFor(n uint32) *atomic.Pointer[endpoint] {
	before := t.slots.Load()
	if before != nil && int(n) < len(*before) {
		return &(*before)[n]
	}
	slots := make([]atomic.Pointer[endpoint], max(16, 2*n))
	if before != nil {
		for i := range *before {
			slots[i].Store((*before)[i].Load())
		}
	}
	t.slots.Store(&slots)
	return &slots[n]
}

func (t *table) remove(e *endpoint) {
	t.byPair.remove(e)
	t.byAddress.remove(e)
	t.slotFor(e.number).Store(nil)
	t.free = append(t.free, e.number)
}
