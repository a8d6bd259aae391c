// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"hash/maphash"
	"iter"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/seed-f1518d44/balance/internal/schedule"
)

// exactRRsets is how many RRsets in use keep their exact turn. An RRset is evicted only after more
// than that many others were answered since its own last answer.
const exactRRsets = 1 << 16

// exactMembers bounds the memory of RRsets with many members: those of 8 members and more are
// evicted after this many members of others, rather than after exactRRsets. Long names, groups,
// cycles of weights and records with a lowered TTL count as members too, by the memory that they
// take.
const exactMembers = 8 * exactRRsets

// allTurns holds the turns of the process. They belong to no Corefile, so a reload keeps them.
var allTurns = newTurnCache()

// turnKey says which RRset is counted, together with the owner's name and a rule's scope.
type turnKey struct {
	where    section
	priority uint16 // of the HTTPS or SVCB record that hints are in
	rrtype   uint16
	prefer   choice // each has an order of its own
	most     uint16 // the most members that fit the client's size; 0: all
}

// section is a section of a message that is balanced. An RRset has turns of its own in each, so
// that a client that alternates between SRV and A sees every lead of both.
type section uint8

const (
	inAnswer section = iota
	inExtra
	inHints // of HTTPS and SVCB records
	inGlue  // the additional section, beside records that are not balanced, such as NS
	inWatch // answers to lookups of the option watch, which take no turn
	inPast  // no section: the entry of the RRset's past

	inSpill = 8 // added to the others: the entry of the RRset's spillway
)

// sectionNames are what the status page calls them.
var sectionNames = [...]string{inAnswer: "answer", inExtra: "additional", inHints: "hints", inGlue: "glue", inWatch: "watch"}

// turnCache finds the turns of an RRset without a lock: entries are only added, by
// compare-and-swap, and evicted a generation at a time. An entry that is used moves to the youngest
// generation. When that is full, a new one begins and the oldest is dropped, with all entries that
// were not used since. Safe for concurrent use.
type turnCache struct {
	seed        maphash.Seed
	generations atomic.Pointer[generations]
}

// generations are those of a cache, the youngest first. The others are full and hold exactRRsets
// together. More generations keep fewer entries beyond that, but a miss searches all of them.
type generations [1 + olderGenerations]*generation

const olderGenerations = 4

// next returns the generations that follow when the youngest is full.
func (g *generations) next() *generations {
	next := generations{{number: g[0].number + 1}}
	copy(next[1:], g[:])
	return &next
}

// generation is a hash table with as many buckets as it will hold entries. They are made in chunks
// when they are needed, so that few entries cost little memory and little time of the garbage
// collector.
type generation struct {
	number  uint64 // 1 and more
	chunks  [chunkCount]atomic.Pointer[chunk]
	entries atomic.Int64
	members atomic.Int64
}

const (
	chunkCount = 256
	chunkSize  = exactRRsets / olderGenerations / chunkCount
)

type chunk [chunkSize]atomic.Pointer[node]

// node is a link of a bucket's list. Immutable.
type node struct {
	entry *entry
	next  *node
}

// entry holds the state of one RRset. Its names never change.
type entry struct {
	hash  uint64
	scope uint64
	key   turnKey
	owner string // lower case

	state atomic.Pointer[state]
	odd   atomic.Uint64 // hash of the last order that differed from the plan's

	listed atomic.Bool // in the list of RRsets in use

	spill atomic.Pointer[spillway] // nil unless the entry is for one
	past  atomic.Pointer[past]     // nil unless the entry is for one
}

// spillway returns the entry's spillway.
func (e *entry) spillway() *spillway {
	if e.spill.Load() == nil {
		e.spill.CompareAndSwap(nil, new(spillway))
	}
	return e.spill.Load()
}

// footprint is the memory of a plan, for all states that share it. Safe for concurrent use.
type footprint struct {
	cost    int64         // in members
	several atomic.Bool   // more than one RRset may use the plan
	in      atomic.Uint64 // number of the generation that counted it last
}

func newTurnCache() *turnCache {
	t := &turnCache{seed: maphash.MakeSeed()}
	var g generations
	for i := range g {
		g[i] = &generation{number: uint64(len(g) - i)}
	}
	t.generations.Store(&g)
	return t
}

// entry returns the entry of an RRset, which is new if there was none.
func (t *turnCache) entry(scope uint64, key turnKey, owner string) *entry {
	owner = strings.ToLower(owner)
	hash := maphash.String(t.seed, owner) ^ key.hash(scope)
	g := t.generations.Load()
	if e := g[0].find(hash, scope, key, owner); e != nil {
		return e
	}
	e := g.findOlder(hash, scope, key, owner)
	if e == nil {
		e = &entry{hash: hash, scope: scope, key: key, owner: strings.Clone(owner)}
	}
	e, added := g[0].add(e)
	if added {
		t.age(g)
	}
	return e
}

// known returns the entry of an RRset, nil if there is none. It leaves the entry in its generation.
func (t *turnCache) known(scope uint64, key turnKey, owner string) *entry {
	owner = strings.ToLower(owner)
	hash := maphash.String(t.seed, owner) ^ key.hash(scope)
	g := t.generations.Load()
	if e := g[0].find(hash, scope, key, owner); e != nil {
		return e
	}
	return g.findOlder(hash, scope, key, owner)
}

// pasts returns the past of each RRset once. The entry is the past's own, or one of the RRset if that
// was evicted.
func (t *turnCache) pasts() iter.Seq2[*entry, *past] {
	return func(yield func(*entry, *past) bool) {
		seen := make(map[pastOf]bool)
		for _, from := range []func(*entry) *past{(*entry).ownPast, (*entry).pastOfState} {
			for e := range t.generations.Load().all() {
				p, of := from(e), pastOf{e.scope, e.key.rrtype, e.owner}
				if p == nil || seen[of] {
					continue
				}
				if seen[of] = true; !yield(e, p) {
					return
				}
			}
		}
	}
}

// pastOf identifies an RRset that has a past.
type pastOf struct {
	scope  uint64
	rrtype uint16
	owner  string
}

// ownPast returns the past that an entry is for, nil if it is for none.
func (e *entry) ownPast() *past { return e.past.Load() }

// pastOfState returns the past that the entry's plan was made with, nil for none.
func (e *entry) pastOfState() *past {
	if s := e.state.Load(); s != nil {
		return s.past
	}
	return nil
}

// all returns the entries. One that moved to a younger generation comes twice.
func (g *generations) all() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for _, one := range g {
			for i := range one.chunks {
				if c := one.chunks[i].Load(); c != nil && !c.each(yield) {
					return
				}
			}
		}
	}
}

// each calls yield for each entry until it returns false. It reports whether it never did.
func (c *chunk) each(yield func(*entry) bool) bool {
	for i := range c {
		for n := c[i].Load(); n != nil; n = n.next {
			if !yield(n.entry) {
				return false
			}
		}
	}
	return true
}

// hash returns a number that differs for different keys of different scopes.
func (k turnKey) hash(scope uint64) uint64 {
	packed := uint64(k.where)<<56 + uint64(k.priority)<<40 + uint64(k.rrtype)<<24 ^ uint64(k.most)<<8
	return schedule.Mix(scope + packed ^ k.prefer.hash()<<1)
}

// findOlder returns an entry of any generation except the youngest, nil if there is none.
func (g *generations) findOlder(hash, scope uint64, key turnKey, owner string) *entry {
	for _, older := range g[1:] {
		if e := older.find(hash, scope, key, owner); e != nil {
			return e
		}
	}
	return nil
}

// age begins a new generation if the youngest is full.
func (t *turnCache) age(g *generations) {
	if g[0].full() {
		t.generations.CompareAndSwap(g, g.next())
	}
}

func (g *generation) full() bool {
	return g.entries.Load() > exactRRsets/olderGenerations || g.members.Load() > exactMembers/olderGenerations
}

func (g *generation) find(hash, scope uint64, key turnKey, owner string) *entry {
	c := g.chunks[hash%chunkCount].Load()
	if c == nil {
		return nil
	}
	for n := c.bucket(hash).Load(); n != nil; n = n.next {
		if e := n.entry; e.hash == hash && e.scope == scope && e.key == key && e.owner == owner {
			return e
		}
	}
	return nil
}

// bucket returns the head of the list that an entry with a hash is in.
func (c *chunk) bucket(hash uint64) *atomic.Pointer[node] {
	return &c[hash/chunkCount%chunkSize]
}

// chunkFor returns the chunk of a hash, which is new if there was none.
func (g *generation) chunkFor(hash uint64) *chunk {
	at := &g.chunks[hash%chunkCount]
	if c := at.Load(); c != nil {
		return c
	}
	at.CompareAndSwap(nil, new(chunk))
	return at.Load()
}

// add puts e into g. If another query was faster, it returns the entry of that one.
func (g *generation) add(e *entry) (*entry, bool) {
	bucket := g.chunkFor(e.hash).bucket(e.hash)
	for {
		head := bucket.Load()
		if prior := g.find(e.hash, e.scope, e.key, e.owner); prior != nil {
			return prior, false
		}
		if bucket.CompareAndSwap(head, &node{e, head}) {
			g.entries.Add(1)
			g.members.Add(int64(len(e.owner) / memberSize))
			if s := e.state.Load(); s != nil {
				g.count(s)
			}
			return e, true
		}
	}
}

// count adds the memory of a state, and that of its plan unless another state has added it.
func (g *generation) count(s *state) {
	cost := s.cost
	if s.plan.shared.footprint.in.Swap(g.number) != g.number {
		cost += s.plan.shared.footprint.cost
	}
	g.members.Add(cost)
}

// discount subtracts the memory of a state that is no longer used. A plan that it shared may be in
// use elsewhere, and stays counted.
func (g *generation) discount(s *state) {
	cost := s.cost
	if !s.plan.shared.footprint.several.Load() && s.plan.shared.footprint.in.CompareAndSwap(g.number, 0) {
		cost += s.plan.shared.footprint.cost
	}
	g.members.Add(-cost)
}

// account replaces the memory of one state by that of another. This may fill the generation,
// because known RRsets can grow too.
func (t *turnCache) account(before, now *state) {
	g := t.generations.Load()
	g[0].count(now)
	if before != nil && before.plan.shared != now.plan.shared {
		g[0].discount(before)
	} else if before != nil {
		g[0].members.Add(-before.cost)
	}
	t.age(g)
}

// changing holds the entries of RRsets whose plans change with time, to be counted. It is bounded.
// Safe for concurrent use.
type changing struct {
	entries sync.Map // *entry to nothing
	count   atomic.Int32
}

// maxChanging is the most entries that are held.
const maxChanging = 10_000

// note notes whether the plan of an entry changes with time.
func (c *changing) note(e *entry, changes bool) {
	if !changes {
		c.drop(e)
	} else if _, held := c.entries.Load(e); !held && c.count.Load() < maxChanging {
		if _, held := c.entries.LoadOrStore(e, nil); !held {
			c.count.Add(1)
		}
	}
}

func (c *changing) drop(e *entry) {
	if _, held := c.entries.LoadAndDelete(e); held {
		c.count.Add(-1)
	}
}

// all returns the entries.
func (c *changing) all() (entries []*entry) {
	for e := range c.entries.Range {
		entries = append(entries, e.(*entry))
	}
	return entries
}
