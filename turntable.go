// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

// exactRRsets is how many RRsets in use keep their exact turn. An RRset is forgotten only after
// more than that many others were answered since its own last answer.
const exactRRsets = 1 << 16

// exactMembers bounds the memory of RRsets with many members: the turns of RRsets of 8 members
// and more are forgotten after this many members of others, rather than after exactRRsets. Long names,
// groups, cycles of weights and records with a lowered TTL count as members too, by the memory that they take.
const exactMembers = 8 * exactRRsets

// memberSize is about how many bytes a member takes.
const memberSize = 128

// allTurns holds the turns of the process. They belong to no Corefile, so that a reload keeps them.
var allTurns = newTurnTable()

// turnKey says, with the owner's name and a rule's scope, which RRset is counted.
type turnKey struct {
	where    section
	priority uint16 // of the HTTPS or SVCB record that hints are in
	rrtype   uint16
	line     int8 // the prefer line: every line has an order of its own
}

// section is a section of a message that is balanced. An RRset is counted apart in each, so that
// a client that asks for SRV and A in turn sees every lead of both.
type section uint8

const (
	inAnswer section = iota
	inExtra
	inHints // of HTTPS and SVCB records
)

// turnTable finds the turns of an RRset, without a lock: its parts are only ever added to, by
// compare-and-swap, and dropped as a whole. It has generations. An entry that is used moves to
// the youngest; when that is full, a new one takes its place, and what the oldest held is
// forgotten: all that was not used in the meantime. Safe for concurrent use.
type turnTable struct {
	seed        maphash.Seed
	generations atomic.Pointer[generations]
}

// generations are those of a table, the youngest first. All but that one are full, and hold exactRRsets together. The more
// there are, the fewer entries are held beyond that, but one that is not there is looked for in all.
type generations [1 + olderGenerations]*generation

const olderGenerations = 4

// next returns the generations that follow when the youngest is full.
func (g *generations) next() *generations {
	next := generations{{number: g[0].number + 1}}
	copy(next[1:], g[:])
	return &next
}

// generation is a hash table of entries with as many buckets as it will hold entries, made in chunks as they are
// needed: a table of few entries costs little memory, and the garbage collector little time.
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
	odd   atomic.Uint64 // hash of the order that last differed from the plan's

	listed atomic.Bool // among those in use
}

// memory is what a plan takes, for all states that share it. Safe for concurrent use.
type memory struct {
	cost   int64 // in members
	shared atomic.Bool
	in     atomic.Uint64 // number of the generation that it was counted in last

	relived atomic.Pointer[relived]
	wanted  atomic.Uint64 // hash of the owner of the records that were last wanted so, and not there
}

func newTurnTable() *turnTable {
	t := &turnTable{seed: maphash.MakeSeed()}
	var g generations
	for i := range g {
		g[i] = &generation{number: uint64(len(g) - i)} //nolint:gosec // small
	}
	t.generations.Store(&g)
	return t
}

// entry returns the entry of an RRset, a new one where it has none.
func (t *turnTable) entry(scope uint64, key turnKey, owner string) *entry {
	owner = strings.ToLower(owner)
	hash := maphash.String(t.seed, owner) ^ splitMix(scope+uint64(key.where)<<56+uint64(key.priority)<<32+uint64(key.rrtype)<<8+uint64(uint8(key.line))) //nolint:gosec // bits
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

// findOlder returns an entry that is in any generation but the youngest, nil where there is none.
func (g *generations) findOlder(hash, scope uint64, key turnKey, owner string) *entry {
	for _, older := range g[1:] {
		if e := older.find(hash, scope, key, owner); e != nil {
			return e
		}
	}
	return nil
}

// age begins a new generation where the youngest is full.
func (t *turnTable) age(g *generations) {
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

// chunkFor returns the chunk of a hash, a new one where there is none.
func (g *generation) chunkFor(hash uint64) *chunk {
	at := &g.chunks[hash%chunkCount]
	if c := at.Load(); c != nil {
		return c
	}
	at.CompareAndSwap(nil, new(chunk))
	return at.Load()
}

// add puts e into g, unless another query was faster: then it returns that one's.
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

// count takes the memory of a state into account: that of its plan where no other state's did before.
func (g *generation) count(s *state) {
	cost := s.cost
	if s.plan.memory.in.Swap(g.number) != g.number {
		cost += s.plan.memory.cost
	}
	g.members.Add(cost)
}

// discount takes back what a state counted for that is no longer used. A plan that it shared may be in
// use elsewhere, and goes on counting.
func (g *generation) discount(s *state) {
	cost := s.cost
	if !s.plan.memory.shared.Load() && s.plan.memory.in.CompareAndSwap(g.number, 0) {
		cost += s.plan.memory.cost
	}
	g.members.Add(-cost)
}

// account takes the memory of a new state into account. It may be the one that fills the generation: the
// members of RRsets that are known already can grow too.
func (t *turnTable) account(before, now *state) {
	g := t.generations.Load()
	g[0].count(now)
	if before != nil && before.plan.memory != now.plan.memory {
		g[0].discount(before)
	} else if before != nil {
		g[0].members.Add(-before.cost)
	}
	t.age(g)
}
