// SPDX-License-Identifier: Apache-2.0

package health

import "time"

// hold is the state machine of the idle connection to one endpoint, whose end is a hint that the
// endpoint may be dead. It is a value: what follows from an event is another hold. The zero value has no
// connection, and may have one. Times are as the pool counts them.
//
// Servers end idle connections too, so a hint is never a verdict: it has the endpoint probed. What keeps
// that from becoming a burden: between the openings of two connections that end in harmless hints there are ten
// intervals at least, more each time one did not last that long, so that hints cost two probes in ten at most;
// and where two ended at about the same age, the next ones are replaced before that, and end in none.
type hold struct {
	state   holdState
	hinted  bool   // a connection ended, and probes have not said yet what of it
	learned bool   // the peer ends connections at the age of life
	short   uint8  // that ended in a row before they had lasted for the spacing
	spoken  uint16 // KiB that came over this connection, rounded up each time

	since     time.Duration // when the connection was opened
	ended     time.Duration // when the peer ended the last one
	notBefore time.Duration // when the next one may be opened
	life      time.Duration // of the last one that the peer ended without being dead
}

type holdState uint8

const (
	noLine  holdState = iota
	dialled           // not accepted yet
	held
)

const (
	holdSpacing = 10        // intervals between the openings of connections that end in hints, at least
	holdLongest = time.Hour // that no connection is opened after many that did not last
	holdSpoken  = 64        // KiB that a peer may send over a connection that is to be idle; below idle.MostDropped

	confirmEvery = 50 * time.Millisecond // between probes after a hint, until the verdict is clear
)

// mayOpen tells whether a connection may be opened to an endpoint that is up.
func (h hold) mayOpen(now time.Duration) bool {
	return h.state == noLine && !h.hinted && now >= h.notBefore
}

// opened returns what follows from the opening of a connection.
func (h hold) opened(now time.Duration) hold {
	h.state, h.since, h.spoken = dialled, now, 0
	return h
}

// accepted returns what follows from the peer's consent.
func (h hold) accepted() hold {
	h.state = held
	return h
}

// heard returns what follows from some bytes of the peer. It may greet; one that goes on is not idle, and
// then the connection should be given up.
func (h hold) heard(bytes int) (next hold, tooMuch bool) {
	h = h.accepted()
	h.spoken += uint16((min(bytes, holdSpoken<<10) + 1023) / 1024) //nolint:gosec // small
	return h, h.spoken > holdSpoken
}

// lost returns what follows from the end of a connection by the peer: a hint.
func (h hold) lost(now time.Duration) hold {
	h.state, h.hinted, h.ended = noLine, true, now
	return h
}

// nextLook returns when the endpoint is to be probed again, after a probe that began at some time and passed
// while the hint stands.
func (h hold) nextLook(start time.Duration) time.Duration {
	if start < h.ended {
		return h.ended
	}
	return h.ended + confirmEvery
}

// overdue tells whether a connection should have been accepted by now.
func (h hold) overdue(now, timeout time.Duration) bool {
	return h.state == dialled && now-h.since > timeout
}

// givenUp returns what follows from giving a connection up, or failing to open one.
func (h hold) givenUp(now, interval time.Duration) hold {
	h.state = noLine
	return h.backOff(now, interval)
}

// passed returns what follows from a probe that began at some time and passed. One that began before the hint
// says nothing of it, and one that began right after it little: connections may end before the port is closed,
// and the hint stands until another one passes.
func (h hold) passed(start, interval time.Duration) hold {
	if !h.hinted || start < h.ended+confirmEvery {
		return h
	}
	h.hinted = false
	age, before, known := h.ended-h.since, h.life, h.learned
	h.life = age
	h.learned = !known && (age-before).Abs() <= before/8 && age >= interval*3/2
	switch spacing := holdSpacing * interval; {
	case age >= spacing:
		h.short = 0
	case h.learned:
		h.notBefore = h.since + spacing
	default:
		return h.backOff(h.since, interval)
	}
	return h
}

// backOff puts the next connection off, counted from some time: by the spacing, twice that the next time, and so on.
func (h hold) backOff(from, interval time.Duration) hold {
	pause := holdSpacing * interval
	longest := max(holdLongest, pause)
	for range h.short {
		pause = min(2*pause, longest)
	}
	h.notBefore = from + pause
	h.short = min(h.short+1, 32)
	return h
}

// stale tells whether the peer would end the connection before the endpoint is next probed, or little
// later, so that it is to be replaced.
func (h hold) stale(now, interval time.Duration) bool {
	return h.state == held && h.learned && now-h.since+interval*11/10 >= h.life-h.life/10
}
