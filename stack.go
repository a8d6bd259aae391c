// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"runtime"
	"runtime/metrics"
	"sync"
	"time"
)

// The server starts a goroutine for every UDP query. Go gives it a stack of 2 KiB, which is doubled twice on the way
// to an answer: as the query is unpacked, and once more below. To double a stack is to copy it and to correct every
// frame on it, which takes a sixth of all that a query costs (docs/performance.md). Two things are done about it:
//
//	growStack   doubles it where there are fewer frames on it than later
//	ballast     has Go start goroutines with as much as queries need
//
// Neither changes what is answered, and both do nothing at worst.

// stackBelow is about the stack, in bytes, that the plugins below and the writers above need between them.
const stackBelow = 3 << 10

// growStack makes sure that there is stack enough for the rest of a query's way. A function is given all the
// stack that its frame asks for before it begins, so that this one has but to ask for it.
//
//go:noinline
func growStack(at uint) byte {
	if at == 0 { // always so; nobody pays for clearing what nobody uses
		return 0
	}
	var below [stackBelow]byte
	below[at%stackBelow] = 1
	return below[at/2%stackBelow]
}

// ballast is a goroutine with a deep stack. New goroutines start with a stack of the average size that the garbage
// collector found in use, rounded up to a power of two (https://go.dev/issue/18138). A server has so many that wait
// for something that this is 2 KiB, whatever queries need; the ballast makes it what they need. It costs the memory
// of its frames, and goroutines that need less of theirs have it taken back by the collector. Safe for concurrent use.
type ballast struct {
	sync.Mutex
	every time.Duration // after a change it is looked at again after so long, and then ever more seldom

	users int
	stop  chan struct{}
	done  sync.WaitGroup
}

// stacks is the ballast of the process.
var stacks = ballast{every: 250 * time.Millisecond}

const (
	queryStack   = 8 << 10 // bytes; that a query needs: a power of two
	ballastFrame = 4 << 10 // bytes
	maxBallast   = 240     // frames, which fit into a stack of 1 MiB; a process with that many goroutines has other costs
)

// join has the ballast there for one user more.
func (b *ballast) join() {
	b.Lock()
	defer b.Unlock()
	if b.users++; b.users == 1 {
		b.stop = make(chan struct{})
		b.done.Go(func() { b.keep(b.stop) })
	}
}

// leave takes the ballast away, and waits until it is gone, when its last user leaves.
func (b *ballast) leave() {
	b.Lock()
	defer b.Unlock()
	if b.users--; b.users == 0 {
		close(b.stop)
		b.done.Wait()
	}
}

// keep keeps the ballast as heavy as it must be, until stop is closed.
func (b *ballast) keep(stop <-chan struct{}) {
	frames := min(runtime.NumGoroutine()+8, maxBallast) // to begin with: as if all were waiting, and some of Go's own
	for frames > 0 {
		weigh(frames, func() { frames = b.next(frames, stop) })
	}
}

// next waits until another number of frames is wanted, and returns that: 0 when stop is closed.
func (b *ballast) next(frames int, stop <-chan struct{}) int {
	_, since := startingStack()
	again := b.every
	look := time.NewTimer(again)
	defer look.Stop()
	for {
		select {
		case <-stop:
			return 0
		case <-look.C:
		}
		size, collections := startingStack()
		switch {
		case collections < since+2: // it tells nothing yet
		case size < queryStack && frames < maxBallast:
			return min(2*frames, maxBallast)
		case size > queryStack:
			return max(frames-frames/4, 1)
		}
		again = min(2*again, 8*b.every)
		look.Reset(again)
	}
}

// startingStack returns the size in bytes of the stack that goroutines start with, and how often garbage was
// collected by now.
func startingStack() (size, collections uint64) {
	samples := []metrics.Sample{{Name: "/gc/stack/starting-size:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(samples)
	for _, s := range samples {
		if s.Value.Kind() != metrics.KindUint64 {
			return queryStack, 0 // no longer known: then nothing is changed
		}
	}
	return samples[0].Value.Uint64(), samples[1].Value.Uint64()
}

// weigh calls wait with so many frames of ballast below it on the stack.
func weigh(frames int, wait func()) byte {
	var frame [ballastFrame]byte
	if frames == 0 {
		wait()
	} else {
		frame[frames%ballastFrame] = weigh(frames-1, wait)
	}
	return frame[ballastFrame-1]
}
