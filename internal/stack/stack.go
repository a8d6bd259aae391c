// SPDX-License-Identifier: Apache-2.0

// Package stack makes the goroutines of a process start with as much stack as a query needs.
//
// The server starts a goroutine for every UDP query. Go gives it a stack of 2 KiB, which is doubled
// twice on the way to an answer. Doubling a stack means copying it and correcting every frame on
// it, which takes a sixth of the time of a query (docs/performance.md).
//
// Goroutines start with the average stack that the garbage collector found in use, rounded up to a
// power of two (https://go.dev/issue/18138). A server has so many goroutines that wait for
// something that the average is 2 KiB. One goroutine with a deep stack raises it. That costs the
// memory of its frames, at most 1 MiB; goroutines that need less stack have theirs shrunk by the
// collector.
package stack

import (
	"runtime"
	"runtime/metrics"
	"sync"
	"time"
)

// Prime makes goroutines start with enough stack, from the next collections on until Release is
// called as often as Prime.
func Prime() { process.join() }

// Release undoes one Prime.
func Release() { process.leave() }

var process = primer{every: 250 * time.Millisecond}

// primer is a goroutine with a deep stack. Safe for concurrent use.
type primer struct {
	// Until the effect of a change is checked; later checks are up to 8 times as far apart.
	every time.Duration

	sync.Mutex // guards what follows
	users      int
	stop       chan struct{}
	done       sync.WaitGroup
}

const (
	queryStack = 8 << 10 // bytes that a query needs, a power of two
	frameSize  = 4 << 10 // bytes
	maxFrames  = 240     // of the primer, which fit into a stack of 1 MiB
)

// join starts the goroutine for the first user.
func (p *primer) join() {
	p.Lock()
	defer p.Unlock()
	if p.users++; p.users == 1 {
		p.stop = make(chan struct{})
		p.done.Go(func() { p.run(p.stop) })
	}
}

// leave ends the goroutine, and waits for its end, when the last user leaves.
func (p *primer) leave() {
	p.Lock()
	defer p.Unlock()
	if p.users--; p.users == 0 {
		close(p.stop)
		p.done.Wait()
	}
}

// run keeps the stack as deep as necessary until stop is closed. At first that is a frame for every
// goroutine there is and a few of Go's own, as if all of them were waiting.
func (p *primer) run(stop <-chan struct{}) {
	frames := min(runtime.NumGoroutine()+8, maxFrames)
	for frames > 0 {
		deepen(frames, func() { frames = p.next(frames, stop) })
	}
}

// next waits until another number of frames is necessary and returns it: 0 when stop is closed.
func (p *primer) next(frames int, stop <-chan struct{}) int {
	_, before := startingStack()
	wait := p.every
	check := time.NewTimer(wait)
	defer check.Stop()
	for {
		select {
		case <-stop:
			return 0
		case <-check.C:
		}
		size, collections := startingStack()
		switch {
		case collections < before+2: // the size does not show the frames yet
		case size < queryStack && frames < maxFrames:
			return min(2*frames, maxFrames)
		case size > queryStack:
			return max(frames-frames/4, 1)
		}
		wait = min(2*wait, 8*p.every)
		check.Reset(wait)
	}
}

// startingStack returns the size in bytes of the stack that goroutines start with, and the number
// of garbage collections. If this version of Go does not report them, the size is right as it is.
func startingStack() (size, collections uint64) {
	samples := []metrics.Sample{{Name: "/gc/stack/starting-size:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(samples)
	for _, s := range samples {
		if s.Value.Kind() != metrics.KindUint64 {
			return queryStack, 0
		}
	}
	return samples[0].Value.Uint64(), samples[1].Value.Uint64()
}

// deepen calls wait with some frames below it on the stack. It uses each frame after the call, so
// that the compiler keeps it.
func deepen(frames int, wait func()) byte {
	var frame [frameSize]byte
	if frames == 0 {
		wait()
	} else {
		frame[frames%frameSize] = deepen(frames-1, wait)
	}
	return frame[frameSize-1]
}
