// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-f1518d44/balance/internal/probe"
)

// Probes are late, and counted, if there are more than can be made in an interval.
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

// If an endpoint's replies do not say for five minutes whether it is up, it is down.
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

// Local errors, and timeouts that an overloaded host noticed late, change no verdict. After a few
// late timeouts in a row they count, because a host may always be overloaded.
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

// If a host is overloaded only at times, it calls no endpoint down, because each reply that it
// reads resets the count. If it is always overloaded, and short of descriptors too, it still
// notices deaths.
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

// If a host is overloaded at startup, it probes slowly, because unknown endpoints are served
// anyway. When a failure finally counts, the log says that the host was overloaded.
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

// An endpoint that can never be probed, such as an IPv6 one on a host without IPv6, costs few
// probes and few log lines, whatever the others do.
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

// If every endpoint of one rule fails, and those of another with the same check do not, the log
// says so.
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

// If all endpoints fail, one line says that the fault may be local.
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

// Each transition has a line: endpoint, rule, old and new verdict, how long the old one lasted,
// and the error.
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

// A probe that waits for the end of the one before it is not late: a timeout may be longer than
// the pause after it.
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

// panicking is a prober that panics because of a reply.
type panicking struct{ *backends }

func (p panicking) Probe(ctx context.Context, addr netip.AddrPort) error {
	_ = p.backends.Probe(ctx, addr)
	panic("index out of range\n[ERROR] forged")
}

// A prober that panics ends neither the server nor the probes, and says nothing about the
// endpoint.
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
	if _, err := newPool(&Check{Prober: panicking{newBackends(t)}}, logged{}).ask(t.Context(), a1); !errors.Is(err, probe.ErrLocal) {
		t.Errorf("the error is %v, want one of ours", err)
	}
}
