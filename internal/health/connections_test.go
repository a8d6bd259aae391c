// SPDX-License-Identifier: Apache-2.0

package health

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-f1518d44/balance/internal/idle"
	"github.com/seed-f1518d44/balance/internal/probe"
)

// fakeLines are lines whose connections a test ends. The pool owns them; the test reads them while
// the pool is idle.
type fakeLines struct {
	pool  *pool
	made  idle.Conn
	open  map[idle.Conn]*endpoint
	dials map[netip.AddrPort]int
	most  int // at once
	shuts int
	err   error // fails every dial
	never bool  // nobody accepts
}

var _ lines = (*fakeLines)(nil)

// holding makes a check hold connections over fake lines.
func (c *Check) holding() *fakeLines {
	f := &fakeLines{open: map[idle.Conn]*endpoint{}, dials: map[netip.AddrPort]int{}}
	c.openLines = func(p *pool) (lines, error) {
		f.pool = p
		return f, nil
	}
	return f
}

func (f *fakeLines) dial(e *endpoint) (idle.Conn, error) {
	if f.err != nil {
		return 0, f.err
	}
	f.made++
	f.open[f.made] = e
	f.dials[e.at]++
	f.most = max(f.most, len(f.open))
	if conn := f.made; !f.never {
		go func() { f.tell(conn, idle.Opened) }()
	}
	return f.made, nil
}

func (f *fakeLines) hangUp(conn idle.Conn) { delete(f.open, conn) }

func (f *fakeLines) shut() {
	clear(f.open)
	f.shuts++
}

// tell passes an event of a connection to the pool, unless the connection was closed.
func (f *fakeLines) tell(conn idle.Conn, change idle.Change) {
	f.pool.calls <- func() {
		if e := f.open[conn]; e != nil {
			f.pool.hear(e, change, 1)
		}
	}
}

// do carries out a call in the pool's goroutine.
func (f *fakeLines) do(call func()) { f.pool.do(call) }

// end ends the connections to some addresses.
func (f *fakeLines) end(addrs ...netip.AddrPort) {
	hit := map[netip.AddrPort]bool{}
	for _, addr := range addrs {
		hit[addr] = true
	}
	f.do(func() {
		for _, e := range f.open {
			if hit[e.at] {
				f.pool.hear(e, idle.Ended, 0)
			}
		}
	})
}

// live lets time pass while answers hold some addresses.
func live(s *Subscription, d time.Duration, addrs ...netip.AddrPort) {
	for ; d > 0; d -= time.Minute {
		for _, addr := range addrs {
			s.Seen(addr)
		}
		wait(min(d, time.Minute))
	}
}

// lonely is a check that probes every minute.
func (b *backends) lonely() *Check {
	c := b.checkOf()
	c.Timing.Interval, c.Timing.MaxInterval = time.Minute, time.Minute
	return c
}

// A backend that dies is down after the usual number of failures, which are 50 ms apart.
func TestHoldNoticesAtOnce(t *testing.T) {
	for fall, within := range map[int]time.Duration{1: time.Millisecond, 3: 101 * time.Millisecond} {
		logged := captureLog(t)
		synctest.Test(t, func(t *testing.T) {
			b := newBackends(t)
			c := b.lonely()
			c.Timing.Fall = fall
			lines := c.holding()
			s := joined(t, c)
			s.Seen(a1)
			wait(200 * time.Second)
			hints := metric(t, "coredns_balance_hints_total", "example.org.")
			if got := metric(t, "coredns_balance_held_connections", "example.org."); got != 1 {
				t.Errorf("%v connections, want 1", got)
			}
			b.set(a1, errRefused)
			probes := b.count(a1)
			lines.end(a1)
			if wait(within - 2*time.Millisecond); fall > 1 && s.Seen(a1) != Up {
				t.Errorf("fall %d: %v before the last of the failures, want up", fall, s.Seen(a1))
			}
			wait(2 * time.Millisecond)
			if got := s.Seen(a1); got != Down || b.count(a1)-probes != fall {
				t.Errorf("fall %d: %v after %v and %d probes, want down after %d", fall, got, within, b.count(a1)-probes, fall)
			}
			if got := metric(t, "coredns_balance_hints_total", "example.org.") - hints; got != 1 {
				t.Errorf("%v hints counted, want 1", got)
			}
			live(s, 10*time.Minute, a1)
			if len(lines.open) != 0 || lines.dials[a1] != 1 {
				t.Errorf("%d connections to an endpoint that is down", len(lines.open))
			}
			b.set(a1, nil)
			live(s, 10*time.Minute, a1)
			if got := s.Seen(a1); got != Up || len(lines.open) != 1 {
				t.Errorf("%v and %d connections when it is back, want one", got, len(lines.open))
			}
		})
		if n := strings.Count(logged.String(), ", noticed by hold)"); n != 1 {
			t.Errorf("noticed by hold %d times, want once:\n%s", n, logged)
		}
	}
}

// The end of a connection alone is no verdict: the endpoint is probed twice, and stays.
func TestAHintIsNoVerdict(t *testing.T) {
	logged := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.lonely()
		lines := c.holding()
		s := joined(t, c)
		live(s, 20*time.Minute, a1)
		probes := b.count(a1)
		lines.end(a1)
		wait(time.Second)
		if got := s.Seen(a1); got != Up || b.count(a1) != probes+2 {
			t.Errorf("%v after %d probes, want up after two", got, b.count(a1)-probes)
		}
		if len(lines.open) != 1 {
			t.Errorf("%d connections after a harmless hint, want another one", len(lines.open))
		}
		live(s, 20*time.Minute, a1)
		if n := b.count(a1) - probes; n > 24 {
			t.Errorf("%d probes in the 20 minutes after it, want one a minute", n)
		}
	})
	if strings.Contains(logged.String(), "down") {
		t.Errorf("logged:\n%s", logged)
	}
}

// A process that dies may end its connections before it closes its port. Then the first probe
// after the hint passes.
func TestAHintBeforeThePortIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.lonely()
		c.Timing.Fall = 1
		lines := c.holding()
		s := joined(t, c)
		s.Seen(a1)
		wait(10 * time.Second)
		probes := b.count(a1)
		lines.end(a1)
		wait(10 * time.Millisecond)
		if b.count(a1) != probes+1 {
			t.Errorf("%d probes right after the hint, want one", b.count(a1)-probes)
		}
		b.set(a1, errRefused)
		wait(45 * time.Millisecond)
		if got := s.Seen(a1); got != Down {
			t.Errorf("%v after the second look, want down", got)
		}
	})
}

// A probe that was in flight when the hint came may have passed before the backend died.
func TestAHintDuringAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.lonely()
		lines := c.holding()
		s := joined(t, c)
		s.Seen(a1)
		wait(time.Second)
		b.Lock()
		b.took = time.Second
		b.Unlock()
		b.await(t, a1, b.count(a1)+1) // it will pass
		b.set(a1, errRefused)
		lines.end(a1)
		wait(5 * time.Second)
		if got := s.Seen(a1); got != Down {
			t.Errorf("%v, want down", got)
		}
	})
}

// Very many hints at once, as when a firewall on the way forgets everything, are probed within
// max_in_flight.
func TestManyHintsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const endpoints = 10_000
		b := newBackends(t)
		c := b.checkOf()
		c.MaxInFlight = 32
		lines := c.holding()
		s := joined(t, c)
		addrs := addresses(endpoints)
		for _, addr := range addrs {
			s.Seen(addr)
		}
		wait(40 * time.Second)
		if len(lines.open) != endpoints || lines.most > endpoints {
			t.Fatalf("%d connections, want one to each", len(lines.open))
		}
		b.Lock()
		b.took, b.most = 10*time.Millisecond, 0
		b.Unlock()
		probes := b.all()
		lines.end(addrs...)
		wait(5 * time.Second)
		b.Lock()
		if b.most > c.MaxInFlight || b.twice {
			t.Errorf("%d probes in flight, twice the same: %v, want at most %d", b.most, b.twice, c.MaxInFlight)
		}
		b.Unlock()
		if n := b.all() - probes; n > endpoints*7/2 {
			t.Errorf("%d probes in 5 s, want two more for each hint", n)
		}
		for _, addr := range addrs {
			if s.Seen(addr) != Up {
				t.Fatalf("%s is %v, want up", addr, s.Seen(addr))
			}
		}
	})
}

// Timeouts that an overloaded host noticed late are discarded after a hint too, but only a few in a
// row.
func TestAHintWhileWeAreBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.checkOf()
		lines := c.holding()
		s := joined(t, c)
		s.Seen(a1)
		wait(time.Minute)
		b.set(a1, errors.New("no answer within 2s"))
		b.Lock()
		b.took = 4 * time.Second
		b.Unlock()
		probes := b.count(a1)
		lines.end(a1)
		for b.count(a1) < probes+6 {
			if got := s.Seen(a1); got != Up {
				t.Errorf("%v after %d probes, want up", got, b.count(a1)-probes)
			}
			wait(100 * time.Millisecond)
		}
		wait(5 * time.Second)
		if got := s.Seen(a1); got != Down || b.count(a1)-probes > 7 {
			t.Errorf("%v after %d probes, want down after 6 or 7", got, b.count(a1)-probes)
		}
	})
}

// While nothing dies, hold costs no probe.
func TestHoldSendsNoProbe(t *testing.T) {
	probes := map[bool]int{}
	for _, with := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBackends(t)
			c := b.checkOf()
			if with {
				c.holding()
			}
			s := joined(t, c)
			for _, addr := range addresses(1000) {
				s.Seen(addr)
			}
			wait(5 * time.Minute)
			probes[with] = b.all()
		})
	}
	if a, b := probes[false], probes[true]; b > a+a/100 || b < a-a/100 {
		t.Errorf("%d probes with hold and %d without, want as many", b, a)
	}
}

// If connections cannot be opened because descriptors are lacking, probes go on. One line says so.
func TestHoldWithoutDescriptors(t *testing.T) {
	logged := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.checkOf()
		lines := c.holding()
		lines.err = idle.ErrNoRoom
		s := joined(t, c)
		before := metric(t, "coredns_balance_hold_errors_total", "example.org.")
		live(s, 10*time.Minute, addresses(100)...)
		if n := metric(t, "coredns_balance_hold_errors_total", "example.org.") - before; n < 5 || n > 11 {
			t.Errorf("%v errors counted in ten minutes, want one a minute", n)
		}
		if got := metric(t, "coredns_balance_endpoints", "example.org.", "up"); got != 100 {
			t.Errorf("%v endpoints up, want all", got)
		}
		lines.do(func() { lines.err = nil })
		live(s, 20*time.Minute, addresses(100)...)
		if len(lines.open) != 100 {
			t.Errorf("%d connections when there is room again, want all", len(lines.open))
		}
		b.set(addresses(1)[0], probe.ErrLocal)
		wait(time.Minute)
		if len(lines.open) != 99 {
			t.Errorf("%d connections, want the one closed whose endpoint cannot be probed", len(lines.open))
		}
	})
	if n := strings.Count(logged.String(), ", local error: too many open files"); n != 1 || strings.Count(logged.String(), "hold: no connection to ") != 1 {
		t.Errorf("logged other than once:\n%s", logged)
	}
}

// A connection that nobody accepts is given up. The next attempts are further and further apart.
func TestHoldUnaccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.checkOf()
		lines := c.holding()
		lines.never = true
		s := joined(t, c)
		live(s, time.Hour, a1)
		if n := lines.dials[a1]; n < 2 || n > 8 || lines.most > 1 {
			t.Errorf("dialled %d times in an hour, %d at once", n, lines.most)
		}
		if got := metric(t, "coredns_balance_held_connections", "example.org."); got != 0 {
			t.Errorf("%v connections held, want none", got)
		}
	})
}

// A reload keeps the connections of a check that stays, and closes those to endpoints that it no
// longer allows. The end of the pool closes all connections.
func TestReloadKeepsConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.checkOf()
		lines := c.holding()
		before := pools.Join(c, in("example.org."))
		for _, addr := range []netip.AddrPort{a1, a2, a3} {
			before.Seen(addr)
		}
		wait(time.Minute)
		after := pools.Join(c, allowing(a2, a3))
		before.Leave()
		if len(lines.open) != 2 || lines.dials[a2] != 1 || lines.shuts != 0 {
			t.Errorf("%d connections, %d to one that stays, want 2 as they were", len(lines.open), lines.dials[a2])
		}
		wait(time.Minute)
		if lines.dials[a1] != 1 {
			t.Error("dialled what is not allowed")
		}
		other := *c
		other.Timing.Interval = 4 * time.Second
		second := other.holding()
		last := pools.Join(&other, allowing(a2, a3))
		after.Leave()
		wait(time.Minute)
		if len(lines.open) != 0 || lines.shuts != 1 || len(second.open) != 2 {
			t.Errorf("%d and %d connections with another interval, want none and 2", len(lines.open), len(second.open))
		}
		last.Leave()
		if second.shuts != 1 {
			t.Error("not shut at the end")
		}
	})
}

// The connection to an endpoint that goes down is closed, even if the peer keeps it open, as a
// frozen process does.
func TestDownLetsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.checkOf()
		lines := c.holding()
		s := joined(t, c)
		s.Seen(a1)
		wait(time.Minute)
		b.fail(a1, true)
		wait(time.Minute)
		if got := s.Seen(a1); got != Down || len(lines.open) != 0 {
			t.Errorf("%v with %d connections, want down and none", got, len(lines.open))
		}
	})
}

// The connection to an endpoint that is forgotten is closed.
func TestForgettingLetsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.checkOf()
		lines := c.holding()
		s := joined(t, c)
		s.Seen(a1)
		wait(13 * time.Minute)
		if s.pool.table.known() != 0 || len(lines.open) != 0 {
			t.Errorf("%d endpoints and %d connections, want none", s.pool.table.known(), len(lines.open))
		}
	})
}

// If the lines cannot be opened, the pool goes by probes alone.
func TestHoldWithoutLines(t *testing.T) {
	logged := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.checkOf()
		c.openLines = func(*pool) (lines, error) { return nil, idle.ErrNoRoom }
		s := joined(t, c)
		s.Seen(a1)
		wait(time.Minute)
		b.set(a1, errRefused)
		wait(time.Minute)
		if got := s.Seen(a1); got != Down {
			t.Errorf("%v, want down", got)
		}
	})
	if n := strings.Count(logged.String(), "hold: no connections, local error: too many open files"); n != 1 {
		t.Errorf("logged:\n%s", logged)
	}
}

// If more probes are due than can be made, neither hinted endpoints nor the others starve.
func TestHintsDoNotWaitForTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.checkOf()
		c.MaxInFlight, c.Timing.Fall = 4, 1
		lines := c.holding()
		s := joined(t, c)
		addrs := addresses(2000)
		for _, addr := range addrs {
			s.Seen(addr)
		}
		wait(time.Minute)
		b.Lock()
		b.took = 100 * time.Millisecond // 40 a second, while 400 are due
		b.Unlock()
		wait(time.Minute)
		b.set(addrs[7], errRefused)
		lines.end(addrs[7])
		wait(250 * time.Millisecond)
		if got := s.Seen(addrs[7]); got != Down {
			t.Errorf("%v after 250ms, want down", got)
		}
		before := map[netip.AddrPort]int{}
		for _, addr := range addrs[1000:] {
			before[addr] = b.count(addr)
		}
		lines.end(addrs[:1000]...)
		wait(10 * time.Second)
		others := 0
		for _, addr := range addrs[1000:] {
			others += b.count(addr) - before[addr]
		}
		if others < 50 {
			t.Errorf("%d probes of those without a hint in 10 s, want about half of 400", others)
		}
	})
}
