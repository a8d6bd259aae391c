// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A probe context ends with its timeout, and with its pool. Until then it is reused.
func TestProbeContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, end := context.WithCancel(t.Context())
		l := newProbeContext(pool)
		defer l.close()
		for range 3 {
			ctx := l.begin(time.Second)
			<-time.After(900 * time.Millisecond)
			if ctx.Err() != nil {
				t.Errorf("%v before the timeout", ctx.Err())
			}
			if at, ok := ctx.Deadline(); !ok || time.Until(at) != 100*time.Millisecond {
				t.Errorf("deadline in %v, want 100ms", time.Until(at))
			}
			l.pause()
			<-time.After(time.Minute)
		}
		ctx := l.begin(time.Second)
		<-ctx.Done()
		child, cancel := context.WithCancel(ctx)
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) || !errors.Is(child.Err(), context.DeadlineExceeded) {
			t.Errorf("%v and %v after the timeout, want that it is exceeded", ctx.Err(), child.Err())
		}
		cancel()
		l.pause()
		ctx = l.begin(time.Second)
		if ctx.Err() != nil {
			t.Errorf("%v in the probe after one that timed out", ctx.Err())
		}
		end()
		<-ctx.Done()
		if !errors.Is(ctx.Err(), context.Canceled) {
			t.Errorf("%v after the pool's end, want that it is cancelled", ctx.Err())
		}
		l.pause()
	})
}
