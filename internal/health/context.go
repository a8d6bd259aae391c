// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"time"
)

// lane is the context of the probes that a worker makes, one after the other. Contexts with a
// timeout of their own would be half of all the memory that probes allocate, and collecting that is
// what slows queries down. So a lane serves again, unless a timeout ended it: nothing that a prober
// starts may wait for its context once the probe is over. Owned by its worker; what begin returns is
// safe for concurrent use until the next begin.
type probeContext struct {
	context.Context // ended by the timer, or with the pool
	pool            context.Context
	timer           *time.Timer
	end             context.CancelFunc
	deadline        time.Time
}

var _ context.Context = (*probeContext)(nil)

func newProbeContext(pool context.Context) *probeContext { return &probeContext{pool: pool} }

// begin returns the context of a probe that begins now. Call pause when it is over.
func (l *probeContext) begin(timeout time.Duration) context.Context {
	l.deadline = time.Now().Add(timeout)
	if l.timer != nil {
		l.timer.Reset(timeout)
		return l
	}
	l.Context, l.end = context.WithCancel(l.pool)
	l.timer = time.AfterFunc(timeout, l.end)
	return l
}

// pause stops the clock.
func (l *probeContext) pause() {
	if !l.timer.Stop() { // it is over, or will be in a moment
		l.close()
	}
}

// close ends the lane. Another probe may begin nevertheless.
func (l *probeContext) close() {
	if l.timer != nil {
		l.timer.Stop()
		l.end()
		l.timer = nil
	}
}

// Deadline implements context.Context.
func (l *probeContext) Deadline() (time.Time, bool) { return l.deadline, true }

// Err implements context.Context: what ends a lane before its pool ends is the timeout.
func (l *probeContext) Err() error {
	err := l.Context.Err()
	if err != nil && l.pool.Err() == nil {
		return context.DeadlineExceeded
	}
	return err
}
