// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"runtime"
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
