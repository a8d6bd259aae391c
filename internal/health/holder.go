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
)

// What a pool does for the option hold. hold.go decides, internal/idle has the connections.

// lines opens and closes idle connections, for the goroutine that runs a pool, and has pool.hear told of
// what happens to them.
type lines interface {
	// dial begins to open a connection to an endpoint.
	dial(e *endpoint) (idle.Conn, error)
	hangUp(conn idle.Conn)
	// shut closes all, and returns when nothing is told any more.
	shut()
}

// holding is the connection to an endpoint. Owned by the pool but for open, which scrapes read.
type holding struct {
	hold
	conn idle.Conn
	open atomic.Bool
}

// isHeld tells whether there is a connection to the endpoint. Safe for concurrent use.
func (e *endpoint) isHeld() bool {
	h := e.holding.Load()
	return h != nil && h.open.Load()
}

// hinted tells whether the endpoint's connection ended and probes have not said yet what of it.
func (e *endpoint) hinted() bool {
	h := e.holding.Load()
	return h != nil && h.hinted
}

// openLines opens the lines of a check that has the option hold. The result closes them. Where they cannot
// be opened, probes are all there is.
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
		p.log.Errorf("health_check %s: hold: no connections, for the fault is on this side: %v", p.check.Name(), withoutCall(err))
		return func() {}
	}
	p.lines = lines
	return lines.shut
}

// tend looks after an endpoint's connection when a probe of it is over: it is for endpoints that are up.
// After a hint it has the next probe made soon.
func (p *pool) tend(e *endpoint, r result) {
	switch {
	case p.lines == nil:
	case e.tracker.verdict != Up || e.zones.Load() == 0:
		p.letGo(e)
	case r.err == nil:
		p.tendUp(e, r.start)
	case e.hinted():
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

// dial opens a connection, unless one could not be opened a moment ago: probes and queries need
// descriptors more than we.
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
	p.subscribers.eachScope(e.zones.Load(), func(s *Subscription) { s.holdErrors.Inc() })
	if now >= p.holdLog {
		p.holdLog = now + holdLogInterval
		p.log.Errorf("health_check %s: hold: no connection to %s, for the fault is on this side: %v", p.check.Name(), e.name(), withoutCall(err))
	}
}

const (
	dialPause       = time.Minute // after a connection that could not be opened
	holdLogInterval = time.Hour   // between two lines about that
)

// withoutCall returns what is wrong without the name of a system call.
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

// letGo closes the connection to an endpoint and forgets what was learned of it.
func (p *pool) letGo(e *endpoint) {
	if h := e.holding.Load(); h != nil {
		p.hangUp(h)
		e.holding.Store(nil)
	}
}

// hear takes in what happened to the connection of an endpoint. Where that was closed meanwhile, nothing
// did, and there is no endpoint.
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

// hint has an endpoint probed at once, for its connection ended; in its turn, if very many are. It was not
// hinted before, for then it has no connection.
func (p *pool) hint(e *endpoint, h *holding) {
	now := p.now()
	p.hangUp(h)
	h.hold = h.lost(now)
	p.subscribers.eachScope(e.zones.Load(), func(s *Subscription) { s.hints.Inc() })
	if e.place >= 0 { // else a probe is in flight, and tendUp sees to it
		p.queue.remove(e)
		e.next = now
		p.urgent.add(e)
	}
}

// open returns the lines of a pool.
func (to *Hold) open(p *pool) (lines, error) {
	set, err := idle.New[*endpoint]()
	if err != nil {
		return nil, err
	}
	h := &heldLines{to: *to, set: set, quit: make(chan struct{})}
	h.listener.Go(func() { h.listen(p) })
	return h, nil
}

// heldLines are lines over real connections.
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

// listen has the pool hear what happens, until the lines are shut.
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
