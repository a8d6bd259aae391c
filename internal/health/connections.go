// SPDX-License-Identifier: Apache-2.0

package health

import (
	"errors"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-f1518d44/balance/internal/idle"
	"github.com/seed-f1518d44/balance/internal/probe"
)

// What a pool does for the option hold. hold.go decides, internal/idle has the connections.

// lines opens and closes idle connections. Only the pool's goroutine calls it. It passes the
// connections' events to pool.hear.
type lines interface {
	// dial begins to open a connection to an endpoint.
	dial(e *endpoint) (idle.Conn, error)
	hangUp(conn idle.Conn)
	// shut closes all connections. Once it returns, pool.hear is not called any more.
	shut()
}

// holding is the connection to an endpoint. The pool owns it, except for open, which scrapes read.
type holding struct {
	hold
	conn idle.Conn
	open atomic.Bool
}

// isHeld reports whether there is a connection to the endpoint. Safe for concurrent use.
func (e *endpoint) isHeld() bool {
	h := e.holding.Load()
	return h != nil && h.open.Load()
}

// isHinted reports whether the endpoint's connection ended, and no probe has shown the reason yet.
func (e *endpoint) isHinted() bool {
	h := e.holding.Load()
	return h != nil && h.hinted
}

// openLines opens the lines of a check that has the option hold. The result closes them. If they
// cannot be opened, the pool goes on with probes alone.
func (p *pool) openLines() (shut func()) {
	if !p.check.holds() {
		return func() {}
	}
	open := p.check.openLines
	if open == nil {
		open = p.check.Hold.open
	}
	lines, err := open(p)
	if err != nil {
		p.log.Errorf("health_check %s: hold: no connections, local error: %v", p.check.Name(), withoutCall(err))
		return func() {}
	}
	p.lines = lines
	return lines.shut
}

// tend opens, replaces or closes an endpoint's connection after a probe. Only endpoints that are up
// have one. While a hint is unsettled, it schedules the next probe soon.
func (p *pool) tend(e *endpoint, r result) {
	switch {
	case p.lines == nil:
	case e.tracker.verdict != Up || e.scopes == 0:
		p.letGo(e)
	case r.err == nil:
		p.tendUp(e, r.start)
	case e.isHinted():
		e.next = r.start + confirmEvery
	}
}

// tendUp is tend after a probe that passed.
func (p *pool) tendUp(e *endpoint, start time.Duration) {
	h := e.holding.Load()
	if h == nil {
		h = new(holding)
		e.holding.Store(h)
	}
	now, interval := p.now(), p.check.Timing.Interval
	h.hold = h.passed(start, interval)
	switch {
	case h.hinted:
		e.next = h.nextLook(start)
	case h.overdue(now, p.check.Timing.Timeout):
		p.hangUp(h)
		h.hold = h.givenUp(now, interval)
	case h.stale(now, interval):
		p.hangUp(h)
		p.dial(e, h)
	case h.mayOpen(now):
		p.dial(e, h)
	}
}

// dial opens a connection, unless dialling failed less than dialPause ago: probes and queries need
// the descriptors more.
func (p *pool) dial(e *endpoint, h *holding) {
	now := p.now()
	if now < p.dialAgain {
		return
	}
	conn, err := p.lines.dial(e)
	if err == nil {
		h.conn, h.hold = conn, h.opened(now)
		return
	}
	p.dialAgain = now + dialPause
	h.hold = h.givenUp(now, p.check.Timing.Interval)
	for s := range p.scopes.with(e) {
		s.counters.holdErrors.Inc()
	}
	if now >= p.holdLog {
		p.holdLog = now + holdLogInterval
		p.log.Errorf("health_check %s: hold: no connection to %s, local error: %v", p.check.Name(), e.name(), withoutCall(err))
	}
}

const (
	dialPause       = time.Minute // after a connection that could not be opened
	holdLogInterval = time.Hour   // between log lines about that
)

// withoutCall returns an error without the name of the system call.
func withoutCall(err error) error {
	var call *os.SyscallError
	if errors.As(err, &call) {
		return call.Err
	}
	return err
}

// hangUp closes a connection, if there is one.
func (p *pool) hangUp(h *holding) {
	if h.state != noLine {
		p.lines.hangUp(h.conn)
		h.state = noLine
	}
	h.open.Store(false)
}

// letGo closes the connection to an endpoint and forgets what was learned about the peer.
func (p *pool) letGo(e *endpoint) {
	if h := e.holding.Load(); h != nil {
		p.hangUp(h)
		e.holding.Store(nil)
	}
}

// hear handles an event of an endpoint's connection. It does nothing if the connection was closed
// meanwhile.
func (p *pool) hear(e *endpoint, change idle.Change, bytes int) {
	if change == idle.Nothing {
		return
	}
	h := e.holding.Load()
	if h == nil {
		return
	}
	switch change {
	case idle.Ended:
		p.hint(e, h)
	case idle.Opened:
		h.hold = h.accepted()
		h.open.Store(true)
	case idle.Spoke:
		var tooMuch bool
		h.hold, tooMuch = h.heard(bytes)
		h.open.Store(true)
		if tooMuch {
			p.hangUp(h)
			h.hold = h.givenUp(p.now(), p.check.Timing.Interval)
		}
	}
}

// hint schedules a probe of an endpoint at once, because its connection ended. If many endpoints
// are hinted at once, they take turns.
func (p *pool) hint(e *endpoint, h *holding) {
	now := p.now()
	p.hangUp(h)
	h.hold = h.lost(now)
	for s := range p.scopes.with(e) {
		s.counters.hints.Inc()
	}
	switch {
	case e.heap >= 0:
		p.timers.remove(e)
		e.next = now
		p.timers.add(e)
	case e.place != nil:
		e.next = now
		p.requeue(e)
	} // otherwise a probe is in flight, and tendUp schedules the next
}

// open returns the lines of a pool.
func (to *Hold) open(p *pool) (lines, error) {
	set, err := idle.New[*endpoint](probe.MayCloseFirst)
	if err != nil {
		return nil, err
	}
	h := &heldLines{to: *to, set: set, quit: make(chan struct{})}
	h.listener.Go(func() { h.listen(p) })
	return h, nil
}

// heldLines implements lines with real connections.
type heldLines struct {
	to       Hold
	set      *idle.Set[*endpoint]
	listener sync.WaitGroup
	quit     chan struct{}
}

func (h *heldLines) dial(e *endpoint) (idle.Conn, error) {
	from, port := netip.Addr{}, h.to.Port
	if h.to.Source.Is4() == e.at.Addr().Is4() {
		from = h.to.Source
	}
	if e.at.Port() != 0 {
		port = e.at.Port()
	}
	return h.set.Dial(from, netip.AddrPortFrom(e.at.Addr(), port), e)
}

func (h *heldLines) hangUp(conn idle.Conn) { h.set.Close(conn) }

func (h *heldLines) shut() {
	close(h.quit)
	h.set.Shut()
	h.listener.Wait()
}

// listen passes events to the pool until the lines are shut.
func (h *heldLines) listen(p *pool) {
	events := make([]idle.Event, 256)
	for {
		news, err := h.set.Wait(events)
		if err != nil {
			if !errors.Is(err, idle.ErrClosed) {
				p.log.Errorf("health_check %s: hold: no more hints: %v", p.check.Name(), err)
			}
			return
		}
		heard := make(chan struct{})
		hear := func() {
			defer close(heard)
			for _, one := range news {
				p.hear(h.set.Look(one))
			}
		}
		select {
		case p.calls <- hear:
			<-heard
		case <-h.quit:
			return
		}
	}
}
