// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"time"
)

// probeContext is the context of the probes that a worker makes, one after the other. A context for
// each probe would be half of the memory that probes allocate, and collecting that garbage slows
// queries down. So a context is reused, unless a timeout ended it. That is safe because nothing
// that a prober starts waits for its context once the probe is over. Its worker owns it; the result
// of begin is safe for concurrent use until the next begin.
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
func (c *probeContext) begin(timeout time.Duration) context.Context {
	c.deadline = time.Now().Add(timeout)
	if c.timer != nil {
		c.timer.Reset(timeout)
		return c
	}
	c.Context, c.end = context.WithCancel(c.pool)
	c.timer = time.AfterFunc(timeout, c.end)
	return c
}

// pause stops the timeout between probes.
func (c *probeContext) pause() {
	if !c.timer.Stop() { // the timeout has fired: the context cannot be reused
		c.close()
	}
}

// close ends the context. begin makes a new one.
func (c *probeContext) close() {
	if c.timer != nil {
		c.timer.Stop()
		c.end()
		c.timer = nil
	}
}

// Deadline implements context.Context.
func (c *probeContext) Deadline() (time.Time, bool) { return c.deadline, true }

// Err implements context.Context. If the pool has not ended, the timeout ended the context.
func (c *probeContext) Err() error {
	err := c.Context.Err()
	if err != nil && c.pool.Err() == nil {
		return context.DeadlineExceeded
	}
	return err
}
