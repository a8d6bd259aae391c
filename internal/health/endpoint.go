// SPDX-License-Identifier: Apache-2.0

package health

import (
	"container/heap"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// endpoint is an address that a check probes. What is atomic is read by queries and scrapes; all
// else is owned by its pool.
type endpoint struct {
	at netip.AddrPort // IPv4 as such, also if a record spelled it as IPv6; port 0: the check's own

	status  atomic.Pointer[status]
	seen    atomic.Int64            // when an answer last held it, as the pool counts time
	zones   atomic.Uint64           // bits of the subscribers in whose answers it was
	failing atomic.Bool             // its last probe failed
	holding atomic.Pointer[holding] // the connection held to it; nil for none

	history atomic.Pointer[history] // nil without the option status

	tracker tracker
	faults  uint8         // probes in a row that could not be made
	busy    uint8         // probes in a row, of those made, that were left out for we were too busy
	place   int32         // in the queue; -1 while it is not there
	next    time.Duration // when the next probe is due, as the pool counts time
}

// status is a verdict as queries see it. Immutable.
type status struct {
	verdict Verdict
	since   time.Time
	problem string // why down; before the first verdict and where up, empty
}

// phase is the endpoint's place in an interval: the same for ever, and evenly spread.
func (e *endpoint) phase(interval time.Duration) time.Duration {
	const prime = 0x100000001b3
	h := uint64(0xcbf29ce484222325)
	b, port := e.at.Addr().As16(), e.at.Port()
	for _, c := range append(b[:], byte(port>>8), byte(port)) {
		h = (h ^ uint64(c)) * prime // FNV-1a
	}
	h ^= h >> 32
	return time.Duration(h * prime >> 1 % uint64(interval)) //nolint:gosec // positive
}

// name returns the endpoint for people: the address, and the port if it is not the check's own.
func (e *endpoint) name() string { return nameOf(e.at) }

func nameOf(at netip.AddrPort) string {
	if at.Port() == 0 {
		return at.Addr().String()
	}
	return at.String()
}

// jitter returns d, more or less some.
func jitter(d, some time.Duration) time.Duration {
	return d - some + rand.N(2*some+1) //nolint:gosec // no secret
}

// table finds the endpoints of a pool. Queries look them up without a lock and leave addresses that
// are new on a list, which the pool takes in. Safe for concurrent use but for admit and remove.
type table struct {
	byAddr sync.Map // netip.AddrPort to *endpoint
	size   atomic.Int64
	limit  int // of size

	arrivals atomic.Pointer[arrival] // newest first
	arrived  atomic.Int64            // how many
	wake     chan struct{}           // has one when there are arrivals
}

// arrival is an address that was seen and has no endpoint.
type arrival struct {
	at         netip.AddrPort
	subscriber *Subscription
	earlier    *arrival
}

// known returns the number of endpoints.
func (t *table) known() int { return int(t.size.Load()) }

// find returns an endpoint, nil if it is not known.
func (t *table) find(at netip.AddrPort) *endpoint {
	found, _ := t.byAddr.Load(at)
	e, _ := found.(*endpoint)
	return e
}

// look returns the verdict on an address that a subscriber saw at some time, in an answer. One that
// is new is unknown, and will be probed.
func (t *table) look(at netip.AddrPort, s *Subscription, now time.Duration) Verdict {
	e := t.find(at)
	if e == nil {
		t.arrive(at, s)
		return Unknown
	}
	e.seen.Store(int64(now))
	if bits := e.zones.Load(); bits&s.bit == 0 {
		e.zones.Or(s.bit)
	}
	return e.status.Load().verdict
}

// arrive puts an address onto the list, unless more wait there than the table could hold.
func (t *table) arrive(at netip.AddrPort, s *Subscription) {
	if t.known() >= t.limit || int(t.arrived.Load()) >= 2*t.limit {
		s.full.Inc()
		return
	}
	t.arrived.Add(1)
	a := &arrival{at: at, subscriber: s}
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

// admit makes endpoints of the arrivals, as many as the table may hold, and returns them, with the bits
// of those whose arrivals had become endpoints meanwhile.
func (t *table) admit(now time.Duration) (fresh []*endpoint, joined uint64) {
	for a := t.arrivals.Swap(nil); a != nil; a = a.earlier {
		t.arrived.Add(-1)
		if a.subscriber.gone.Load() {
			continue
		}
		if known := t.find(a.at); known != nil {
			known.zones.Or(a.subscriber.bit)
			joined |= a.subscriber.bit
			continue
		}
		if t.known() >= t.limit {
			a.subscriber.full.Inc()
			continue
		}
		e := &endpoint{at: a.at}
		e.status.Store(&status{since: time.Now()})
		e.seen.Store(int64(now))
		e.zones.Store(a.subscriber.bit)
		t.add(e)
		fresh = append(fresh, e)
	}
	return fresh, joined
}

func (t *table) add(e *endpoint) {
	t.byAddr.Store(e.at, e)
	t.size.Add(1)
}

func (t *table) remove(e *endpoint) {
	t.byAddr.Delete(e.at)
	t.size.Add(-1)
}

// each calls f for every endpoint.
func (t *table) each(f func(e *endpoint)) {
	t.byAddr.Range(func(_, found any) bool {
		f(found.(*endpoint))
		return true
	})
}

// queue holds endpoints, the one that is due first in front. It is a heap.
type queue []*endpoint

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].next < q[j].next }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = int32(i), int32(j) //nolint:gosec // an index
}

// Push implements heap.Interface.
func (q *queue) Push(e any) {
	e.(*endpoint).place = int32(len(*q)) //nolint:gosec // an index
	*q = append(*q, e.(*endpoint))
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	e.place = -1
	return e
}

func (q *queue) add(e *endpoint) { heap.Push(q, e) }
func (q *queue) pop() *endpoint  { return heap.Pop(q).(*endpoint) }

func (q *queue) remove(e *endpoint) { heap.Remove(q, int(e.place)) }

// nextDue returns when the first endpoint is due, otherwise where there is none.
func (q queue) nextDue(otherwise time.Duration) time.Duration {
	if len(q) == 0 {
		return otherwise
	}
	return q[0].next
}
