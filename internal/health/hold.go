// SPDX-License-Identifier: Apache-2.0

package health

import "time"

// hold is the state machine of the idle connection to one endpoint. Its end is a hint that the endpoint may be dead. It
// is a value: an event leads to another hold. The zero value has no connection, and may have one. Times are as the pool
// counts them.
//
// Servers end idle connections too, so a hint is never a verdict: it causes a probe. Two rules keep that cheap. Between
// the openings of two connections that end in harmless hints there are at least ten intervals, and more each time a
// connection did not last that long: hints cost at most two probes in ten. If two connections ended at about the same
// age, the next ones are replaced before that age, and cause no hint.
type hold struct {
	state   holdState
	hinted  bool   // a connection ended, and no probe has said yet what that means
	learned bool   // the peer ends connections at the age of life
	short   uint8  // connections in a row that ended before they had lasted for the spacing
	spoken  uint16 // KiB that came over this connection, each time rounded up

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

// mayOpen reports whether a connection may be opened to an endpoint that is up.
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

// heard returns what follows from some bytes of the peer. A peer may send a greeting. If it sends more, the connection
// is not idle, and should be given up.
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

// nextLook returns when to probe the endpoint again, after a probe that passed although the endpoint is hinted.
func (h hold) nextLook(start time.Duration) time.Duration {
	if start < h.ended {
		return h.ended
	}
	return h.ended + confirmEvery
}

// overdue reports whether a connection should have been accepted by now.
func (h hold) overdue(now, timeout time.Duration) bool {
	return h.state == dialled && now-h.since > timeout
}

// givenUp returns what follows from giving a connection up, or failing to open one.
func (h hold) givenUp(now, interval time.Duration) hold {
	h.state = noLine
	return h.backOff(now, interval)
}

// passed returns what follows from a probe that passed. A probe that began before the hint says nothing about it. One
// that began right after it says little, because connections may end before the port is closed: the endpoint stays
// hinted until another probe passes.
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

// backOff delays the next connection, counted from some time: by the spacing, then by twice that, and so on.
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

// stale reports whether the peer would end the connection before the next probe, or little later. Then it is to be
// replaced.
func (h hold) stale(now, interval time.Duration) bool {
	return h.state == held && h.learned && now-h.since+interval*11/10 >= h.life-h.life/10
}
