// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"sync"
	"sync/atomic"
	"time"
)

// buffers is the memory in which an answer is worked out. One answer uses it at a time, and gives
// it back for another.
type buffers struct {
	shard uint8 // of the counters: most others have another one

	scan      scanner
	lineup    lineup     // the members of one RRset
	standings []standing // of these
	awaited   time.Time  // when the wait for a first verdict on one ends; zero: no wait
	next      time.Time  // when what is known of one of these next changes by itself; zero: never
	past      *past      // of the RRset; nil unless it counts
	kept      keptTier   // as in basis
	picked    []uint16   // the members, then the records, that go out
	fates     []fate     // of every member; only for RRsets with repeated records
	plans     []*plan    // of the RRsets of the last section; nil for one that is left alone

	targets glueTargets

	leavesNoTrace bool // looking up verdicts registers nothing
}

var (
	bufferPool = sync.Pool{New: func() any {
		return &buffers{
			shard: uint8(bufferCount.Add(1)),
			scan:  scanner{index: make(map[setKey]int)}, targets: glueTargets{known: make(map[string]glueSets)},
		}
	}}
	bufferCount atomic.Uint32
)

// await notes until when a first verdict is waited for.
func (b *buffers) await(until time.Time) {
	if until.After(b.awaited) {
		b.awaited = until
	}
}

// release gives b back, without references to the message.
func (b *buffers) release() {
	b.scan.reset()
	clear(b.lineup.members)
	b.lineup.members = b.lineup.members[:0]
	clear(b.plans)
	b.plans = b.plans[:0]
	b.targets.reset()
	bufferPool.Put(b)
}

// changesAt notes that something that is known of a member changes by itself at a time. The zero
// time says never.
func (b *buffers) changesAt(at time.Time) {
	if !at.IsZero() && (b.next.IsZero() || at.Before(b.next)) {
		b.next = at
	}
}
