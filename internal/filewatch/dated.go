// SPDX-License-Identifier: Apache-2.0

package filewatch

import "time"

// Dated is content whose parts are in force until, or from, some time of day. The clock may be set
// forward or back, and timers stand still while the machine sleeps, so it is read every few
// seconds.
type Dated struct {
	// The time of day, without a monotonic reading.
	Clock func() time.Time
	// Whether other parts are in force at one time than at the other.
	Differ func(from, to time.Time) bool
	// When other parts will be in force, zero: never; whether any part is dated.
	Next    func(now time.Time) (next time.Time, dated bool)
	Changed func(from, to time.Time) // called when other parts are in force
}

// Clock returns the time of day, which compares with times that people write.
func Clock() time.Time { return time.Now().Round(0) }

// maxSleep is the longest time until the clock is read again.
const maxSleep = 5 * time.Second

// check calls Changed if other parts are in force than at the last check, which is zero for the
// first one. It returns the time.
func (d *Dated) check(last time.Time) time.Time {
	if d == nil {
		return last
	}
	now := d.Clock()
	if !last.IsZero() && d.Differ(last, now) {
		d.Changed(last, now)
	}
	return now
}

// next returns a channel on which the time for the next check comes, nil if there is none.
func (d *Dated) next(now time.Time) <-chan time.Time {
	if d == nil {
		return nil
	}
	next, dated := d.Next(now)
	switch {
	case !dated:
		return nil
	case next.IsZero():
		return time.After(maxSleep)
	}
	return time.After(min(next.Sub(now), maxSleep))
}
