// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"
	"time"
)

// Goroutines start with a stack that a query need not double, while somebody uses the ballast and no longer, however many
// others there are.
func TestBallast(t *testing.T) {
	b := ballast{every: time.Millisecond}
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
			runtime.Gosched() // let the ballast have its turn
		}
	}
	if size := size(); size >= queryStack {
		t.Fatalf("goroutines start with %d bytes of stack without any ballast: is there still a need for it?", size)
	}
	b.join()
	b.join()
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

	b.leave()
	waitForSize(queryStack)
	b.leave()
	if size := size(); size >= queryStack {
		t.Errorf("goroutines start with %d bytes of stack when the ballast is gone", size)
	}
}

// The ballast takes a MiB at most, however many goroutines there are when somebody joins: a stack of a gigabyte ends
// the process.
func TestBallastIsBounded(t *testing.T) {
	inUse := func() int64 {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/stacks:bytes"}}
		metrics.Read(sample)
		return int64(sample[0].Value.Uint64()) //nolint:gosec // far from overflow
	}
	var crowd sync.WaitGroup
	end := make(chan struct{})
	for range 4000 {
		crowd.Go(func() { <-end })
	}
	for range 3 {
		runtime.GC() // takes back what others left
	}
	before := inUse()
	b := ballast{every: time.Hour} // as it begins
	b.join()
	const stack, others = 1 << 20, 256 << 10 // bytes
	for tries := 0; inUse()-before < stack-others; tries++ {
		if tries == 100_000 {
			t.Fatalf("it took %d bytes, want about %d", inUse()-before, stack)
		}
		runtime.Gosched() // let it begin
	}
	runtime.GC() // none of its smaller stacks is left
	if took := inUse() - before; took > stack+others {
		t.Errorf("it took %d bytes, want at most %d", took, stack)
	}
	b.leave()
	close(end)
	crowd.Wait()
}
