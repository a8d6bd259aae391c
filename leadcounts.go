// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// leadCounts counts which members lead the answers for an RRset. Only rules with the option status
// have it. Safe for concurrent use.
type leadCounts struct {
	entry   *entry
	members []member        // of the plan
	leads   []atomic.Uint32 // by member
	others  atomic.Uint32   // answers that no member led
}

// newLeadCounts returns the counts for a plan. Members that were in the state before keep theirs.
func newLeadCounts(e *entry, p *plan, before *state) *leadCounts {
	l := &leadCounts{entry: e, members: p.members, leads: make([]atomic.Uint32, len(p.members))}
	if before == nil || before.leads == nil {
		return l
	}
	l.others.Store(before.leads.others.Load())
	counts := alignedTo(p.members, before.leads.members, before.leads.counts())
	for i := range counts {
		l.leads[i].Store(counts[i])
	}
	return l
}

// count counts an answer that a member led.
func (l *leadCounts) count(member uint16) {
	l.use()
	l.leads[member].Add(1)
}

// countOther counts an answer that no member led.
func (l *leadCounts) countOther() {
	l.use()
	l.others.Add(1)
}

// use has the RRset listed among those in use, from before the answer that is about to be counted.
func (l *leadCounts) use() {
	if !l.entry.listed.Load() {
		inUse.announce(l)
	}
}

// read returns the counts as they are now.
func (l *leadCounts) read(now time.Time) mark {
	return mark{now, l.members, l.counts(), l.others.Load()}
}

func (l *leadCounts) counts() []uint32 {
	counts := make([]uint32, len(l.leads))
	for i := range l.leads {
		counts[i] = l.leads[i].Load()
	}
	return counts
}

// alignedTo returns the counts of some members as those of others, 0 if they have none. Both are
// sorted.
func alignedTo(members, counted []member, counts []uint32) []uint32 {
	aligned := make([]uint32, len(members))
	for i, j := 0, 0; i < len(members) && j < len(counted); {
		switch c := members[i].compare(&counted[j]); {
		case c < 0:
			i++
		case c > 0:
			j++
		default:
			aligned[i] = counts[j]
			i, j = i+1, j+1
		}
	}
	return aligned
}

const (
	maxListed    = 1000   // RRsets that are listed
	maxMembers   = 50_000 // of them together, at 52 bytes
	maxAnnounced = 1024   // that wait to be
	leadWindow   = time.Minute
	markInterval = 5 * time.Second // between two readings of the counts
)

// listing holds the RRsets in use of the rules that have the option status. A query puts an RRset
// that is not listed onto arrivals, without a lock. The next update lists it. Safe for concurrent
// use.
type listing struct {
	arrivals  atomic.Pointer[announcement]
	announced atomic.Int32

	sync.Mutex
	names   map[listedKey]*listedName
	members int       // of all names
	marked  time.Time // when the counts were last read
}

var inUse = &listing{names: make(map[listedKey]*listedName)}

type announcement struct {
	entry   *entry
	from    mark // what is counted from
	earlier *announcement
}

type listedKey struct {
	scope uint64
	key   turnKey
	owner string
}

// listedName is an RRset in use. Owned by the listing.
type listedName struct {
	entry *entry
	used  time.Time
	marks []mark // oldest first; the first is what is counted from
}

// mark is the counts of an RRset at a time. Immutable.
type mark struct {
	at      time.Time
	members []member
	leads   []uint32
	others  uint32
}

// announce puts an RRset onto the list of those that want to be listed, if there is room.
func (l *listing) announce(counts *leadCounts) {
	if l.announced.Load() >= maxAnnounced || !counts.entry.listed.CompareAndSwap(false, true) {
		return // another query was faster, or will be
	}
	l.announced.Add(1)
	a := &announcement{entry: counts.entry, from: counts.read(time.Now())}
	for {
		a.earlier = l.arrivals.Load()
		if l.arrivals.CompareAndSwap(a.earlier, a) {
			return
		}
	}
}

// update lists what was announced, and reads the counts if that is due.
func (l *listing) update(now time.Time) {
	l.Lock()
	defer l.Unlock()
	l.admit(now)
	if now.Sub(l.marked) < markInterval {
		return
	}
	l.marked = now
	for key, n := range l.names {
		before := n.size()
		if !n.mark(now) {
			l.drop(key)
			continue
		}
		if l.members += n.size() - before; l.members > maxMembers {
			l.drop(key)
		}
	}
}

// admit lists what was announced. If there is no room, it drops the RRsets that were unused for
// longest, but none that was used within the window.
func (l *listing) admit(now time.Time) {
	full := false // of names in use
	for a := l.arrivals.Swap(nil); a != nil; a = a.earlier {
		l.announced.Add(-1)
		key := listedKey{a.entry.scope, a.entry.key, a.entry.owner}
		if l.names[key] != nil {
			l.drop(key) // its entry was evicted, and a new one made
		}
		for !full && (len(l.names) >= maxListed || l.members+len(a.from.members) > maxMembers) {
			full = !l.makeRoom(now)
		}
		if full {
			a.entry.listed.Store(false)
			continue
		}
		l.names[key] = &listedName{entry: a.entry, used: now, marks: []mark{a.from}}
		l.members += len(a.from.members)
	}
}

// makeRoom drops the RRset that was unused for longest, and reports whether there was one.
func (l *listing) makeRoom(now time.Time) bool {
	var oldest *listedName
	for _, n := range l.names {
		if oldest == nil || n.used.Before(oldest.used) {
			oldest = n
		}
	}
	if oldest == nil || now.Sub(oldest.used) < leadWindow {
		return false
	}
	l.drop(listedKey{oldest.entry.scope, oldest.entry.key, oldest.entry.owner})
	return true
}

func (l *listing) drop(key listedKey) {
	n := l.names[key]
	n.entry.listed.Store(false)
	l.members -= n.size()
	delete(l.names, key)
}

// size returns the number of members that were last seen.
func (n *listedName) size() int { return len(n.marks[len(n.marks)-1].members) }

// forget empties the listing, because no page shows it any more.
func (l *listing) forget() {
	l.Lock()
	defer l.Unlock()
	l.admit(time.Now())
	for key := range l.names {
		l.drop(key)
	}
}

// all returns the RRsets that are listed.
func (l *listing) all() []listedName {
	l.Lock()
	defer l.Unlock()
	all := make([]listedName, 0, len(l.names))
	for _, n := range l.names {
		all = append(all, listedName{n.entry, n.used, slices.Clone(n.marks)})
	}
	return all
}

// mark reads the counts, and reports whether there are any. It drops the marks from before the
// window, except the last of them.
func (n *listedName) mark(now time.Time) bool {
	s := n.entry.state.Load()
	if s == nil || s.leads == nil {
		return false
	}
	m, last := s.leads.read(now), n.marks[len(n.marks)-1]
	if m.others != last.others || !slices.Equal(m.leads, last.leads) {
		n.used = now
	}
	n.marks = append(n.marks, m)
	for len(n.marks) > 1 && now.Sub(n.marks[1].at) >= leadWindow {
		n.marks = slices.Delete(n.marks, 0, 1)
	}
	return true
}

// inWindow returns how often each member of a state led within the window, and how many answers had
// no member in the lead.
func (n *listedName) inWindow(s *state) (leads []uint32, others uint32) {
	leads, others = s.leads.counts(), s.leads.others.Load()
	from := n.marks[0]
	for i, before := range alignedTo(s.leads.members, from.members, from.leads) {
		leads[i] = since(before, leads[i])
	}
	return leads, since(from.others, others)
}

// since returns by how much a count grew, even if it overflowed. A count that was restarted seems
// to have grown by more than is possible within the window; then it is returned whole.
func since(before, now uint32) uint32 {
	if grown := now - before; grown < 1<<31 {
		return grown
	}
	return now
}
