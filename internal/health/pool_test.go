// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-f1518d44/balance/internal/probe"
)

// backends are endpoints that a test switches on and off. Safe for concurrent use.
type backends struct {
	key string

	sync.Mutex
	err      map[netip.AddrPort]error       // why an endpoint fails; none: it is up
	hang     map[netip.AddrPort]bool        // it never answers
	took     time.Duration                  // by an answer
	probes   map[netip.AddrPort][]time.Time // starts
	inFlight map[netip.AddrPort]int
	most     int // in flight at once, of all
	now      int
	twice    bool // an endpoint was probed twice at once
}

var _ Prober = (*backends)(nil)

func newBackends(t *testing.T) *backends {
	return &backends{
		key: t.Name(), err: map[netip.AddrPort]error{}, hang: map[netip.AddrPort]bool{},
		probes: map[netip.AddrPort][]time.Time{}, inFlight: map[netip.AddrPort]int{},
	}
}

func (b *backends) Name() string { return "fake:1" }
func (b *backends) Key() string  { return b.key }

func (b *backends) Probe(ctx context.Context, addr netip.AddrPort) error {
	err, hang := b.begin(addr)
	defer b.end(addr)
	if hang {
		<-ctx.Done()
		return errors.New("no answer")
	}
	if b.took > 0 {
		<-time.After(b.took)
	}
	return err
}

func (b *backends) begin(addr netip.AddrPort) (error, bool) {
	b.Lock()
	defer b.Unlock()
	b.probes[addr] = append(b.probes[addr], time.Now())
	b.inFlight[addr]++
	b.now++
	b.most = max(b.most, b.now)
	b.twice = b.twice || b.inFlight[addr] > 1
	return b.err[addr], b.hang[addr]
}

func (b *backends) end(addr netip.AddrPort) {
	b.Lock()
	defer b.Unlock()
	b.inFlight[addr]--
	b.now--
}

func (b *backends) set(addr netip.AddrPort, err error) {
	b.Lock()
	defer b.Unlock()
	b.err[addr] = err
}

func (b *backends) count(addr netip.AddrPort) int {
	b.Lock()
	defer b.Unlock()
	return len(b.probes[addr])
}

// await lets time pass until an endpoint was probed so many times.
func (b *backends) await(t *testing.T, addr netip.AddrPort, probes int) {
	t.Helper()
	for range 6000 {
		if b.count(addr) >= probes {
			return
		}
		wait(10 * time.Millisecond)
	}
	t.Fatalf("%s was probed %d times in a minute, want %d", addr, b.count(addr), probes)
}

func (b *backends) all() (n int) {
	b.Lock()
	defer b.Unlock()
	for _, starts := range b.probes {
		n += len(starts)
	}
	return n
}

var errRefused = errors.New("connection refused")

// checkOf returns a check with the defaults.
func (b *backends) checkOf() *Check {
	return &Check{
		Prober: b, MaxEndpoints: defaultMaxEndpoints, MaxInFlight: defaultMaxInFlight,
		Timing: Timing{
			Interval: defaultInterval, Timeout: defaultTimeout, FastInterval: defaultFastInterval,
			MaxInterval: defaultMaxInterval, Rise: defaultRise, Fall: defaultFall,
		},
	}
}

// wait lets time pass.
func wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

var a1, a2, a3 = endpointAt("192.0.2.1"), endpointAt("192.0.2.2"), endpointAt("192.0.2.3")

// endpointAt returns the endpoint of an address, at the check's own port.
func endpointAt(addr string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(addr), 0) }

// everywhere allows everything that is not guarded.
var everywhere = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

// in returns a subscriber for a zone.
func in(zone string) Subscriber {
	return Subscriber{Zone: zone, Scope: uint64(len(zone)), Allow: everywhere, Changed: func() {}}
}

// allowing returns a subscriber for example.org. that allows only some endpoints.
func allowing(endpoints ...netip.AddrPort) Subscriber {
	sub := in("example.org.")
	sub.Allow = nil
	for _, e := range endpoints {
		sub.Allow = append(sub.Allow, netip.PrefixFrom(e.Addr(), e.Addr().BitLen()))
	}
	return sub
}

// The timing of a check that does not name its own.
const (
	defaultInterval     = 5 * time.Second
	defaultTimeout      = 2 * time.Second
	defaultFastInterval = time.Second
	defaultMaxInterval  = 30 * time.Second
	defaultRise         = 2
	defaultFall         = 3
	defaultMaxEndpoints = 10_000
	defaultMaxInFlight  = 256
)

// joined has a rule take part in the pool of a check for the rest of the bubble.
func joined(t *testing.T, c *Check) *Subscription {
	t.Helper()
	return joinedAs(t, c, in("example.org."))
}

func joinedAs(t *testing.T, c *Check, sub Subscriber) *Subscription {
	t.Helper()
	s := pools.Join(c, sub)
	t.Cleanup(func() { s.Leave() })
	return s
}

// With the default timing, an endpoint that fails from some moment on is down within a bound,
// wherever in its interval that moment is.
func TestDetectionTime(t *testing.T) {
	const inDoubt = defaultInterval + 2*defaultFastInterval + time.Second
	tests := []struct {
		name   string
		hang   bool
		within time.Duration
	}{
		{"refused", false, inDoubt},
		{"black-holed", true, inDoubt + 3*defaultTimeout},
	}
	for _, tc := range tests {
		for moment := 20 * time.Second; moment < 25*time.Second; moment += 500 * time.Millisecond {
			t.Run(fmt.Sprint(tc.name, " at ", moment), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBackends(t)
					s := joined(t, b.checkOf())
					s.Seen(a1)
					wait(moment)
					if got := s.Seen(a1); got != Up {
						t.Fatalf("verdict %v, want up", got)
					}
					b.fail(a1, tc.hang)
					wait(tc.within)
					if got := s.Seen(a1); got != Down {
						t.Errorf("verdict %v after %v, want down", got, tc.within)
					}
				})
			})
		}
	}
}

// New endpoints are probed at once; many are spread over a second; then over the interval.
func TestSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const endpoints = 5000
		b := newBackends(t)
		s := joined(t, b.checkOf())
		addrs := addresses(endpoints)
		start := time.Now()
		for _, addr := range addrs {
			s.Seen(addr)
		}
		wait(time.Second)
		for _, addr := range addrs {
			if b.count(addr) != 1 || s.Seen(addr) != Up {
				t.Fatalf("%s: %d probes and %v after a second, want one and up", addr, b.count(addr), s.Seen(addr))
			}
		}
		wait(time.Minute - time.Second)
		perSecond := map[int]int{}
		b.Lock()
		defer b.Unlock()
		for _, addr := range addrs {
			for i, at := range b.probes[addr] {
				perSecond[int(at.Sub(start)/time.Second)]++
				if i > 0 && at.Sub(b.probes[addr][i-1]) > defaultInterval*110/100 {
					t.Fatalf("%s: %v between probes, want at most the interval and 10 %%", addr, at.Sub(b.probes[addr][i-1]))
				}
			}
		}
		for second, n := range perSecond {
			if mean := endpoints / 5; second > 10 && (n < mean*8/10 || n > mean*12/10) {
				t.Errorf("%d probes in second %d, want about %d", n, second, mean)
			}
		}
	})
}

// Few are not made to wait.
func TestFirstProbeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := joined(t, b.checkOf())
		for _, addr := range []netip.AddrPort{a1, a2, a3} {
			s.Seen(addr)
		}
		wait(5 * time.Millisecond)
		if b.all() != 3 {
			t.Errorf("%d endpoints probed, want 3", b.all())
		}
	})
}

// Fact 22: 10,000 endpoints that all time out.
func TestInFlightIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := joined(t, b.checkOf())
		for _, addr := range addresses(10_000) {
			b.fail(addr, true)
			s.Seen(addr)
		}
		wait(5 * time.Minute)
		if want := s.pool.limiter.silentPart(); b.most != want {
			t.Errorf("%d probes in flight at most, want %d", b.most, want)
		}
		if b.twice {
			t.Error("an endpoint was probed while a probe of it was in flight")
		}
		if workers := s.pool.workers; workers > defaultMaxInFlight {
			t.Errorf("%d workers, want at most %d", workers, defaultMaxInFlight)
		}
		for _, addr := range addresses(10_000) {
			if s.Seen(addr) != Down {
				t.Fatalf("%s is %v, want down", addr, s.Seen(addr))
			}
		}
	})
}

// Probes that cannot all be made in an interval are late, and counted; those that can are not.
func TestLateProbesAreCounted(t *testing.T) {
	tests := []struct {
		name      string
		endpoints int
		late      bool
	}{
		{"two in flight for ten that take a second each, all five seconds", 10, false},
		{"two in flight for fifteen", 15, true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBackends(t)
				b.took = 900 * time.Millisecond
				c := b.checkOf()
				c.MaxInFlight = 2
				s := joined(t, c)
				for _, addr := range addresses(tc.endpoints) {
					s.Seen(addr)
				}
				wait(time.Minute) // they find their phases
				late := metric(t, "coredns_balance_probes_late_total", "example.org.", "fake:1")
				before := b.all()
				wait(time.Minute)
				late = metric(t, "coredns_balance_probes_late_total", "example.org.", "fake:1") - late
				share := late / float64(b.all()-before)
				if tc.late != (share > 0.5) {
					t.Errorf("%.0f of %d probes are late, want most of them: %v", late, b.all()-before, tc.late)
				}
			})
		})
	}
}

// An endpoint that is in no answer any more is forgotten, series and all; one that is stays.
func TestForgetting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := joined(t, b.checkOf())
		s.Seen(a1)
		s.Seen(a2)
		for second := range 13 * 60 {
			wait(time.Second)
			s.Seen(a2)
			if second == 10*60 && s.pool.table.known() != 2 {
				t.Error("the endpoint was forgotten within ten minutes")
			}
		}
		if got := metric(t, "coredns_balance_endpoints", "example.org.", "up"); got != 1 {
			t.Errorf("%v endpoints up, want 1", got)
		}
		if got := metric(t, "coredns_balance_endpoint_up", "example.org.", a1.String()+" fake:1"); got != 0 {
			t.Errorf("there still is a series for %s", a1)
		}
		if s.pool.table.known() != 1 {
			t.Errorf("%d endpoints known, want 1", s.pool.table.known())
		}
	})
}

// An endpoint that is down is remembered six times as long, so that the dead do not return with the next question.
func TestTheDeadAreRememberedLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := joined(t, b.checkOf())
		b.set(a1, errRefused)
		s.Seen(a1)
		s.Seen(a2)
		wait(59 * time.Minute)
		known, ok := s.Peek(a1)
		if _, live := s.Peek(a2); !ok || known.Verdict != Down || live {
			t.Errorf("after 59 minutes the dead one is %v, and the live one known: %v", known.Verdict, live)
		}
		wait(20 * time.Minute)
		if s.pool.table.known() != 0 {
			t.Errorf("%d endpoints known after 79 minutes, want none", s.pool.table.known())
		}
	})
}

// An endpoint that says for five minutes that it will not say is down, and is asked again when it said.
func TestEvasiveEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := joined(t, b.checkOf())
		s.Seen(a1)
		wait(time.Second)
		b.set(a1, fmt.Errorf("%w: status 429", probe.ErrInconclusive))
		before := metric(t, "coredns_balance_probes_total", "example.org.", "inconclusive")
		b.set(a2, fmt.Errorf("%w: status 429", probe.ErrInconclusive))
		s.Seen(a2)
		wait(4 * time.Minute)
		if s.Seen(a1) != Up || s.Seen(a2) != Unknown {
			t.Errorf("%v and %v after four minutes of it, want up and unknown as before", s.Seen(a1), s.Seen(a2))
		}
		if n := metric(t, "coredns_balance_probes_total", "example.org.", "inconclusive") - before; n < 80 {
			t.Errorf("%v probes are counted as inconclusive", n)
		}
		wait(90 * time.Second)
		if s.Seen(a1) != Down || s.Seen(a2) != Down {
			t.Errorf("%v and %v after five and a half, want down", s.Seen(a1), s.Seen(a2))
		}
	})
}

// Rules are told often enough to look their endpoints up for none to be forgotten that answers hold.
func TestRulesLookAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changes atomic.Int32
		sub := in("example.org.")
		sub.Changed = func() { changes.Add(1) }
		s := joinedAs(t, newBackends(t).checkOf(), sub)
		for range 5 {
			before := changes.Load()
			wait(s.pool.forgetAfter() / 3)
			if changes.Load() == before {
				t.Fatal("the rule keeps its plans for too long to notice")
			}
		}
	})
}

// A table that is full probes nobody more, and says so.
func TestTableFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.checkOf()
		c.MaxEndpoints = 2
		s := joined(t, c)
		before := metric(t, "coredns_balance_probes_refused_total", "example.org.", "table_full")
		for _, addr := range []netip.AddrPort{a1, a2, a3} {
			s.Seen(addr)
			wait(time.Second)
		}
		if got := s.Seen(a3); got != Unknown || b.count(a3) != 0 {
			t.Errorf("the third is %v after %d probes, want unknown and none", got, b.count(a3))
		}
		if got := metric(t, "coredns_balance_probes_refused_total", "example.org.", "table_full") - before; got != 2 {
			t.Errorf("%v refusals counted, want 2", got)
		}
	})
}

// A table that is nearly full takes no more than it may, of many addresses that come at once.
func TestTableFullAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.checkOf()
		c.MaxEndpoints = 10
		s := joined(t, c)
		for _, addr := range addresses(30) {
			s.Seen(addr)
		}
		if n := int(s.scope.arrived.Load()); n > 2*c.MaxEndpoints {
			t.Errorf("%d addresses wait, want at most %d", n, 2*c.MaxEndpoints)
		}
		wait(2 * time.Second)
		probed := 0
		for _, addr := range addresses(30) {
			probed += min(1, b.count(addr))
		}
		if probed != c.MaxEndpoints || s.pool.table.known() != c.MaxEndpoints {
			t.Errorf("%d endpoints, %d probed, want %d", s.pool.table.known(), probed, c.MaxEndpoints)
		}
	})
}

// Fact 21: nothing outside allow is probed.
func TestNothingOutsideAllowIsProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		sub := in("example.org.")
		sub.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		s := joinedAs(t, b.checkOf(), sub)
		for _, addr := range []string{"127.0.0.1", "169.254.169.254", "10.0.0.5", "::ffff:10.0.0.5", "::1"} {
			if got := s.Seen(endpointAt(addr)); got != Unknown {
				t.Errorf("%s is %v, want unknown", addr, got)
			}
		}
		s.Seen(endpointAt("::ffff:192.0.2.1"))
		wait(time.Minute)
		if b.all() == 0 || len(b.probes) != 1 || b.count(a1) == 0 {
			t.Errorf("probed %v, want only %s", b.probes, a1)
		}
	})
}

// A fault of ours, and a probe that was noticed to be over long after its timeout, change nothing; some of the latter in a row do,
// for a host that always is busy.
func TestFaultOfOurs(t *testing.T) {
	logged := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := joined(t, b.checkOf())
		s.Seen(a1)
		wait(time.Second)
		b.set(a1, fmt.Errorf("%w: too many open files", probe.ErrLocal))
		wait(time.Minute)
		b.set(a1, errors.New("no answer within 2s"))
		before := b.count(a1)
		b.Lock()
		b.took = 4 * time.Second
		b.Unlock()
		for ; b.count(a1) < before+6; wait(100 * time.Millisecond) {
			if got := s.Seen(a1); got != Up {
				t.Errorf("verdict %v after %d probes, want up", got, b.count(a1)-before)
			}
		}
		wait(5 * time.Second)
		if got := s.Seen(a1); got != Down {
			t.Errorf("verdict %v after %d probes, want down", got, b.count(a1)-before)
		}
	})
	if n := strings.Count(logged.String(), "too many open files"); n != 1 {
		t.Errorf("logged %d times, want once:\n%s", n, logged)
	}
}

// A host that is busy now and then takes nobody for down: a reply that is heard ends the row. One that always is, and short of
// something besides, notices deaths nevertheless.
func TestBusyHost(t *testing.T) {
	const late = 4 * time.Second // with a timeout of 2s
	gone, short := errors.New("no answer within 2s"), fmt.Errorf("%w: too many open files", probe.ErrLocal)
	for name, tc := range map[string]struct {
		results []error // over and over
		want    Verdict
	}{
		"now and then":           {[]error{gone, gone, gone, gone, gone, nil}, Up},
		"always":                 {[]error{gone}, Down},
		"always, and short":      {[]error{gone, gone, gone, short}, Down},
		"short every other time": {[]error{gone, short}, Down},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBackends(t)
			s := joined(t, b.checkOf())
			s.Seen(a1)
			wait(time.Second)
			for i := range 60 {
				result, before := tc.results[i%len(tc.results)], b.count(a1)
				b.Lock()
				b.err[a1], b.took = result, 0
				if result != nil && !errors.Is(result, probe.ErrLocal) {
					b.took = late
				}
				b.Unlock()
				for b.count(a1) == before {
					wait(50 * time.Millisecond)
				}
				if got := s.Seen(a1); got != Up && tc.want == Up {
					t.Fatalf("%s: %v after %d results, want up", name, got, i)
				}
			}
			if got := s.Seen(a1); got != tc.want {
				t.Errorf("%s: %v, want %v", name, got, tc.want)
			}
		})
	}
}

// A host that is busy as it starts is in no hurry with what is unknown, which is served; what it believes in the end it says to be
// of a busy host.
func TestBusyStart(t *testing.T) {
	logged := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := joined(t, b.checkOf())
		b.set(a1, errors.New("no answer within 2s"))
		b.took = 3 * time.Second
		s.Seen(a1)
		wait(defaultInterval * 5 / 2)
		if got := s.Seen(a1); got != Unknown || b.count(a1) != 3 {
			t.Errorf("%v after %d probes in two intervals and a half, want unknown after 3", got, b.count(a1))
		}
		wait(2 * defaultInterval)
		if got := s.Seen(a1); got != Down {
			t.Errorf("%v after %d probes, want down", got, b.count(a1))
		}
	})
	if want := "192.0.2.1 fake:1 is down: no answer within 2s, while this host was overloaded"; !strings.Contains(logged.String(), want) {
		t.Errorf("logged %s, want %q", logged, want)
	}
}

// An endpoint that can never be probed, as one of IPv6 on a host without it, costs neither probes nor
// lines, whatever the others do.
func TestPermanentFault(t *testing.T) {
	logged := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := joined(t, b.checkOf())
		b.set(a1, fmt.Errorf("%w: this host lacks the address family", probe.ErrLocal))
		s.Seen(a1)
		for _, addr := range addresses(20) {
			s.Seen(addr)
		}
		wait(10 * time.Minute)
		if got := s.Seen(a1); got != Unknown || b.count(a1) > 30 {
			t.Errorf("verdict %v after %d probes, want unknown after one every 30 s or so", got, b.count(a1))
		}
		b.set(a1, nil)
		wait(time.Minute)
		if got := s.Seen(a1); got != Up {
			t.Errorf("verdict %v when the fault is gone, want up", got)
		}
	})
	if n := strings.Count(logged.String(), "failed locally; verdict unchanged"); n < 5 || n > 11 {
		t.Errorf("%d lines in ten minutes, want at most one a minute", n)
	}
}

// Every endpoint of one rule fails, and those of another with the same check do not: that is said too.
func TestAllFailingOfOneRule(t *testing.T) {
	logged := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.checkOf()
		one, other := joined(t, c), pools.Join(c, in("other.example.org."))
		b.set(a1, errRefused)
		b.set(a2, errRefused)
		for _, addr := range []netip.AddrPort{a1, a2} {
			one.Seen(addr)
		}
		other.Seen(a3)
		wait(time.Minute)
		other.Leave()
	})
	if n := strings.Count(logged.String(), "example.org.: all 2 endpoints fail"); n != 1 || strings.Contains(logged.String(), "other.example.org.: all") {
		t.Errorf("logged %d times, want once:\n%s", n, logged)
	}
}

// Where all endpoints fail, one line says that the fault may be ours.
func TestAllFailing(t *testing.T) {
	logged := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := joined(t, b.checkOf())
		for _, addr := range []netip.AddrPort{a1, a2, a3} {
			s.Seen(addr)
		}
		wait(20 * time.Second)
		if got := metric(t, "coredns_balance_all_endpoints_failing", "example.org."); got != 0 {
			t.Errorf("metric is %v, want 0", got)
		}
		for _, addr := range []netip.AddrPort{a1, a2, a3} {
			b.set(addr, errRefused)
		}
		wait(time.Minute)
		if got := metric(t, "coredns_balance_all_endpoints_failing", "example.org."); got != 1 {
			t.Errorf("metric is %v, want 1", got)
		}
	})
	if n := strings.Count(logged.String(), "all 3 endpoints fail"); n != 1 {
		t.Errorf("logged %d times, want once:\n%s", n, logged)
	}
}

// A line a transition: endpoint, rule, old and new verdict, how long the old one lasted, the error.
func TestTransitionLog(t *testing.T) {
	logged := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := joined(t, b.checkOf())
		s.Seen(a1)
		wait(100 * time.Second)
		b.set(a1, errRefused)
		wait(100 * time.Second)
		b.set(a1, nil)
		wait(100 * time.Second)
	})
	lines := strings.Split(strings.TrimSpace(logged.String()), "\n")
	want := []string{
		"[INFO] example.org.: endpoint 192.0.2.1 fake:1 is up (was unknown for 0s)",
		"[WARNING] example.org.: endpoint 192.0.2.1 fake:1 is down: connection refused (was up for 1m4",
		"[INFO] example.org.: endpoint 192.0.2.1 fake:1 is up (was down for 1m",
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), logged)
	}
	for i := range want {
		if !strings.Contains(lines[i], want[i][:len(want[i])-2]) {
			t.Errorf("logged %q, want %q...", lines[i], want[i])
		}
	}
	if !strings.HasSuffix(lines[2], ": connection refused)") {
		t.Errorf("logged %q, want the reason for which it was down", lines[2])
	}
}

// Fact 23: a reload in the middle of a failure streak keeps it, and sends no probe more.
func TestReloadKeepsStreak(t *testing.T) {
	for _, interval := range []time.Duration{defaultInterval, 4 * time.Second} { // the same check, and one with another interval
		t.Run(interval.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBackends(t)
				c := b.checkOf()
				c.Timing.FastInterval = 3 * time.Second
				before := pools.Join(c, in("example.org."))
				before.Seen(a1)
				wait(20 * time.Second)
				b.set(a1, errRefused)
				b.await(t, a1, b.count(a1)+2) // two failures of three
				probes := b.count(a1)

				changed := *c
				changed.Timing.Interval = interval
				after := joined(t, &changed)
				before.Leave()
				wait(10 * time.Millisecond)
				if got := after.Seen(a1); got != Up || b.count(a1) != probes {
					t.Errorf("after the reload %v and %d probes, want up and %d", got, b.count(a1), probes)
				}
				b.await(t, a1, probes+1)
				if got := after.Seen(a1); got != Down {
					t.Errorf("after the third failure %v, want down", got)
				}
			})
		})
	}
}

// A hundred reloads with thousands of endpoints send as many probes as none; where the interval
// changes each time the endpoints have to find a new phase each time, which costs a few.
func TestReloadsSendNoBurst(t *testing.T) {
	for _, change := range []time.Duration{0, time.Second} {
		t.Run(change.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { checkNoBurst(t, change) })
		})
	}
}

func checkNoBurst(t *testing.T, change time.Duration) {
	t.Helper()
	const endpoints = 2000
	b := newBackends(t)
	s := pools.Join(b.checkOf(), in("example.org."))
	for _, addr := range addresses(endpoints) {
		s.Seen(addr)
	}
	wait(30 * time.Second)
	const most = 3 * endpoints / 50 // probes in 100 ms, of which an even spread has a third; a burst has all 2000
	for i := range 100 {
		before := b.all()
		c := b.checkOf()
		c.Timing.Interval += time.Duration(i%2) * change
		next := pools.Join(c, in("example.org."))
		s.Leave()
		s = next
		wait(100 * time.Millisecond)
		if probes := b.all() - before; probes > most {
			t.Errorf("%d probes in the 100 ms after reload %d, want at most %d", probes, i, most)
		}
	}
	if s.pool.table.known() != endpoints {
		t.Errorf("%d endpoints known, want %d", s.pool.table.known(), endpoints)
	}
	s.Leave()
}

// What the new Corefile does not allow is probed no more once the old one is gone.
func TestReloadWithLessAllowed(t *testing.T) {
	for _, interval := range []time.Duration{defaultInterval, 2 * defaultInterval} { // the same pool, and another that takes over what it knew
		synctest.Test(t, func(t *testing.T) {
			b := newBackends(t)
			c := b.checkOf()
			before := pools.Join(c, in("example.org."))
			before.Seen(a1)
			before.Seen(a2)
			wait(20 * time.Second)
			less := *c
			less.Timing.Interval = interval
			joinedAs(t, &less, allowing(a2))
			before.Leave()
			probes, others := b.count(a1), b.count(a2)
			wait(time.Minute)
			if b.count(a1) != probes || b.count(a2) == others {
				t.Errorf("interval %v: %d more probes of the one not allowed, %d of the other", interval, b.count(a1)-probes, b.count(a2)-others)
			}
		})
	}
}

// A query that was asked of the old server, and is answered after its end, has nothing probed.
func TestLateAnswersAfterAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.checkOf()
		before := pools.Join(c, in("example.org."))
		before.Seen(a1)
		wait(time.Second)
		after := joinedAs(t, c, allowing(a2))
		before.Leave()
		probes := b.count(a1)
		if v := before.Seen(a1); v != Up {
			t.Errorf("%v for a late answer, want up, as it was", v)
		}
		before.Seen(a3)
		live(after, 5*time.Minute, a2)
		if b.count(a1) != probes || b.count(a3) > 0 {
			t.Errorf("%d and %d probes of what is not allowed any more, want none", b.count(a1)-probes, b.count(a3))
		}
	})
}

// Rules with the same check share its probes; each sees its own endpoints.
func TestRulesShareProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.checkOf()
		one, other := joined(t, c), pools.Join(c, in("other.example.org."))
		one.Seen(a1)
		one.Seen(a2)
		other.Seen(a2)
		wait(22 * time.Second)
		if n := b.count(a2); n > 6 {
			t.Errorf("%d probes of the shared endpoint in 22 s, want at most 6", n)
		}
		if got := metric(t, "coredns_balance_endpoints", "other.example.org.", "up"); got != 1 {
			t.Errorf("%v endpoints of the other rule, want 1", got)
		}
		other.Leave()
		if got := metric(t, "coredns_balance_endpoints", "other.example.org.", "up"); got != 0 {
			t.Errorf("%v endpoints of the rule that left, want 0", got)
		}
	})
}

// Stopping waits for probes in flight, and is no verdict.
func TestStoppingIsNotDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := pools.Join(b.checkOf(), in("example.org."))
		s.Seen(a1)
		wait(20 * time.Second)
		b.fail(a1, true)
		wait(defaultInterval)
		s.Leave()
		if b.now != 0 {
			t.Errorf("%d probes in flight after the end", b.now)
		}
		if got := s.Seen(a1); got != Up {
			t.Errorf("verdict %v, want the last one, up", got)
		}
	})
}

// break_ has an endpoint refuse or, where it hangs, never answer.
func (b *backends) fail(addr netip.AddrPort, hang bool) {
	b.Lock()
	defer b.Unlock()
	b.err[addr], b.hang[addr] = errRefused, hang
}

// addresses returns n addresses.
func addresses(n int) (addrs []netip.AddrPort) {
	addr := netip.MustParseAddr("10.0.0.0")
	for range n {
		addr = addr.Next()
		addrs = append(addrs, netip.AddrPortFrom(addr, 0))
	}
	return addrs
}

func TestMayProbe(t *testing.T) {
	type test struct {
		allow, addr string
		want        bool
	}
	tests := []test{
		{"10.0.0.0/8", "10.1.2.3", true},
		{"10.0.0.0/8", "11.0.0.1", false},
		{"0.0.0.0/0", "127.0.0.1", false},
		{"0.0.0.0/0", "169.254.169.254", false},
		{"0.0.0.0/0", "224.0.0.251", false},
		{"0.0.0.0/0", "0.0.0.0", false},
		{"0.0.0.0/0", "255.255.255.255", false},
		{"0.0.0.0/0", "192.0.2.1", true},
		{"127.0.0.0/8", "127.0.0.1", true},
		{"127.0.0.1/32", "127.0.0.1", true},
		{"127.0.0.1/32", "127.0.0.2", false},
		{"126.0.0.0/7", "127.0.0.1", false},
		{"::/0", "::1", false},
		{"::/0", "fe80::1", false},
		{"::/0", "ff02::fb", false},
		{"::/0", "2001:db8::1", true},
		{"::/0", "192.0.2.1", false},
		{"::1/128", "::1", true},
		{"fe80::/10", "fe80::1", true},
		{"0.0.0.0/0 127.0.0.0/24", "127.0.0.1", true},
		{"::/0", "64:ff9b::7f00:1", false},
		{"::/0", "64:ff9b::a9fe:a9fe", false},
		{"::/0", "64:ff9b::c000:201", true},
		{"::/0", "2002:7f00:1::1", false},
		{"::/0", "2002:c000:201::1", true},
		{"::/0", "::ffff:0:127.0.0.1", false},
		{"::/0", "::127.0.0.1", false},
		{"64:ff9b::/96", "64:ff9b::7f00:1", false},
		{"::/0", "64:ff9b:1::7f00:1", false},
		{"::/0", "64:ff9b:1:7f00:0:100::", false},
		{"64:ff9b:1:ffff::/96", "64:ff9b:1:ffff::a00:1", true},
		{"::/0", "2001::a:b", false},
		{"0.0.0.0/0 ::/0", "::ffff:127.0.0.1", false},
		{"127.0.0.1/32", "::ffff:127.0.0.1", true},
		{"::/0", "::ffff:192.0.2.1", false},
		{"64:ff9b::7f00:0/104", "64:ff9b::7f00:1", true},
		{"::/104", "::1", false}, // inside one range, that of 0.0.0.0/8, but not inside the one for it
		{"::/104", "::", false},
		{"::/104", "::0.0.0.2", true},
		{"::/127", "::1", false},
	}
	for _, end := range []string{ // the last address of each range, and the one behind it
		"0.255.255.255 1.0.0.0", "127.255.255.255 128.0.0.0", "169.254.255.255 169.255.0.0", "239.255.255.255 240.0.0.0",
		"febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff fec0::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff 64:ff9b:2::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff 2001:1::",
		"64:ff9b::169.254.255.255 64:ff9b::169.255.0.0", "::ffff:0:239.255.255.255 ::ffff:0:240.0.0.0", "2002:7fff:ffff:ffff:ffff:ffff:ffff:ffff 2002:8000::", "::127.255.255.255 ::128.0.0.0",
	} {
		last, behind, _ := strings.Cut(end, " ")
		tests = append(tests, test{"0.0.0.0/0 ::/0", last, false}, test{"0.0.0.0/0 ::/0", behind, true})
	}
	for _, tc := range tests {
		var allow []netip.Prefix
		for word := range strings.FieldsSeq(tc.allow) {
			allow = append(allow, netip.MustParsePrefix(word))
		}
		if got := MayProbe(allow, netip.MustParseAddr(tc.addr)); got != tc.want {
			t.Errorf("allow %s: may probe %s: %v, want %v", tc.allow, tc.addr, got, tc.want)
		}
	}
}

// A probe that waits for the end of the one before it is not late: timeouts are longer than the pause after them.
func TestTimeoutsAreNotLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := joined(t, b.checkOf())
		s.Seen(a1)
		wait(time.Minute)
		before := metric(t, "coredns_balance_probes_late_total", "example.org.", "fake:1")
		b.fail(a1, true)
		wait(time.Minute)
		if got := s.Seen(a1); got != Down {
			t.Errorf("%v, want down", got)
		}
		if late := metric(t, "coredns_balance_probes_late_total", "example.org.", "fake:1") - before; late != 0 {
			t.Errorf("%v probes are late, want none", late)
		}
	})
}

// How often clients ask does not matter: an endpoint is probed at its own time.
func TestQueriesDoNotHurryProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := joined(t, b.checkOf())
		for range 600 { // a minute
			for range 100 {
				s.Seen(a1)
			}
			wait(100 * time.Millisecond)
		}
		if n := b.count(a1); n < 10 || n > 15 {
			t.Errorf("%d probes in a minute with 60,000 queries, want 12 or so", n)
		}
	})
}

// panicking is a prober that a reply sends into panic.
type panicking struct{ *backends }

func (p panicking) Probe(ctx context.Context, addr netip.AddrPort) error {
	_ = p.backends.Probe(ctx, addr)
	panic("index out of range\n[ERROR] forged")
}

// A prober that panics ends neither the server nor the probes, and says nothing of the endpoint.
func TestAProberThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logged := captureLog(t)
		b := newBackends(t)
		c := b.checkOf()
		c.Prober = panicking{b}
		s := joined(t, c)
		s.Seen(a1)
		b.await(t, a1, 2)
		if v := s.Seen(a1); v != Unknown {
			t.Errorf("the endpoint is %v, want that nothing is known", v)
		}
		if text := logged.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, `the prober panicked: index out of range\n[ERROR] forged`) {
			t.Errorf("the log has %q", text)
		}
	})
	if err := newPool(&Check{Prober: panicking{newBackends(t)}}, logged{}).ask(t.Context(), a1); !errors.Is(err, probe.ErrLocal) {
		t.Errorf("the error is %v, want one of ours", err)
	}
}

// Times are measured so that setting the clock does not change them: they have a monotonic reading.
func TestTimesAreMonotonic(t *testing.T) {
	p := newPool(newBackends(t).checkOf(), logged{})
	l := newProbeContext(t.Context())
	defer l.close()
	l.begin(time.Minute)
	for what, at := range map[string]time.Time{"pool": p.base, "probe context": l.deadline, "endpoint": newEndpoint(a1).status.Load().since} {
		if !strings.Contains(at.String(), " m=") {
			t.Errorf("%s: %s has no monotonic reading", what, at)
		}
	}
}
