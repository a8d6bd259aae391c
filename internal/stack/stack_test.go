// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"
	"time"
)

// While the primer has users, goroutines start with a stack that a query need not double, however
// many goroutines there are.
func TestPrimer(t *testing.T) {
	p := primer{every: time.Millisecond}
	size := func() uint64 {
		runtime.GC()
		size, _ := startingStack()
		return size
	}
	waitForSize := func(want uint64) {
		t.Helper()
		for tries := 0; size() != want; tries++ {
			if tries == 5000 {
				t.Fatalf("goroutines start with %d bytes of stack, want %d", size(), want)
			}
			runtime.Gosched() // let the primer run
		}
	}
	if size := size(); size >= queryStack {
		t.Fatalf("goroutines start with %d bytes of stack without the primer: is it still necessary?", size)
	}
	p.join()
	p.join()
	waitForSize(queryStack)

	var crowd sync.WaitGroup
	leave := make(chan struct{})
	for range 60 {
		crowd.Go(func() { <-leave })
	}
	waitForSize(queryStack)
	close(leave)
	crowd.Wait()
	waitForSize(queryStack)

	p.leave()
	waitForSize(queryStack)
	p.leave()
	if size := size(); size >= queryStack {
		t.Errorf("goroutines start with %d bytes of stack when the primer is gone", size)
	}
}

// The primer takes at most 1 MiB, however many goroutines there are when it starts: a stack of 1 GB
// would end the process.
func TestPrimerIsBounded(t *testing.T) {
	inUse := func() int64 {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/stacks:bytes"}}
		metrics.Read(sample)
		return int64(sample[0].Value.Uint64())
	}
	var crowd sync.WaitGroup
	end := make(chan struct{})
	for range 4000 {
		crowd.Go(func() { <-end })
	}
	for range 3 {
		runtime.GC() // shrinks the stacks that others left
	}
	before := inUse()
	p := primer{every: time.Hour} // only its first depth counts
	p.join()
	const stack, others = 1 << 20, 256 << 10 // bytes
	for tries := 0; inUse()-before < stack-others; tries++ {
		if tries == 100_000 {
			t.Fatalf("it took %d bytes, want about %d", inUse()-before, stack)
		}
		runtime.Gosched() // let it start
	}
	runtime.GC() // none of its smaller stacks is left
	if took := inUse() - before; took > stack+others {
		t.Errorf("it took %d bytes, want at most %d", took, stack)
	}
	p.leave()
	close(end)
	crowd.Wait()
}
