// SPDX-License-Identifier: Apache-2.0

package health

import "time"

// hold is the state machine of the idle connection to one endpoint, as an immutable value: each
// event leads to a new hold. The zero value has no connection and may open one. Times are the
// pool's.
//
// The end of the connection is a hint that the endpoint may be dead. Servers end idle connections
// too, so a hint is never a verdict: it causes a probe. Two limits keep that cheap. After a
// harmless hint at least ten intervals pass between two openings, and more each time a connection
// does not last that long. So hints add at most two probes to every ten. If two connections ended
// at about the same age, later ones are replaced before that age, which causes no hint.
type hold struct {
	state   holdState
	hinted  bool   // a connection ended, and probes have not yet shown why
	learned bool   // the peer seems to end connections at the age `life`
	short   uint8  // connections in a row that ended before the spacing was over
	spoken  uint16 // KiB that the peer sent over this connection, each read rounded up

	since     time.Duration // when the connection was opened
	ended     time.Duration // when the peer ended the last one
	notBefore time.Duration // when the next one may be opened
	life      time.Duration // the age at which the last connection ended harmlessly
}

type holdState uint8

const (
	noLine  holdState = iota
	dialled           // not accepted yet
	held
)

const (
	holdSpacing = 10        // least number of intervals between two openings after a harmless hint
	holdLongest = time.Hour // longest such time, after many short connections
	holdSpoken  = 64        // KiB that a peer may send, at most; below idle.MostDropped

	confirmEvery = 50 * time.Millisecond // between probes after a hint, until the verdict is clear
)

// mayOpen reports whether a connection may be opened to an endpoint that is up.
func (h hold) mayOpen(now time.Duration) bool {
	return h.state == noLine && !h.hinted && now >= h.notBefore
}

// opened returns the state after a connection was dialled.
func (h hold) opened(now time.Duration) hold {
	h.state, h.since, h.spoken = dialled, now, 0
	return h
}

// accepted returns the state after the peer accepted the connection.
func (h hold) accepted() hold {
	h.state = held
	return h
}

// heard returns the state after the peer sent some bytes, and reports whether that is more than a
// greeting: then the connection is not idle and should be given up.
func (h hold) heard(bytes int) (next hold, tooMuch bool) {
	h = h.accepted()
	h.spoken += uint16((min(bytes, holdSpoken<<10) + 1023) / 1024)
	return h, h.spoken > holdSpoken
}

// lost returns the state after the peer ended the connection: a hint.
func (h hold) lost(now time.Duration) hold {
	h.state, h.hinted, h.ended = noLine, true, now
	return h
}

// nextLook returns when to probe again after a probe that passed but does not settle the hint.
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

// givenUp returns the state after a connection was given up or could not be opened.
func (h hold) givenUp(now, interval time.Duration) hold {
	h.state = noLine
	return h.backOff(now, interval)
}

// passed returns the state after a probe passed. It settles the hint only if it began at least
// confirmEvery after the connection ended: when a process dies, its connections may end a moment
// before its port is closed.
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

// backOff allows the next connection one spacing after the given time. The spacing doubles with
// each consecutive call.
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

// stale reports whether to replace the connection, because the peer would end it before or soon
// after the next probe.
func (h hold) stale(now, interval time.Duration) bool {
	return h.state == held && h.learned && now-h.since+interval*11/10 >= h.life-h.life/10
}
