// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-f1518d44/balance/internal/health"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
)

// What was started for a server that never came up ends by itself, and what runs for one that did
// goes on.
func TestServerThatDoesNotComeUp(t *testing.T) {
	for _, comesUp := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBackends(t)
			z := ruleWith("example.org.", b.checkOf())
			l := &life{zones: map[string]*zoneRule{z.zone: z}, startup: new(startup)}
			l.start()
			defer l.stop()
			if comesUp {
				hearOfServers()
				instance := &caddy.Instance{Storage: map[any]any{startupKey{}: l.startup}}
				caddy.EmitEvent(caddy.InstanceStartupEvent, instance)
			}
			z.verdictOn(withoutPort(a1))
			wait(comesUpWithin + time.Second)
			probes := b.count(a1)
			wait(time.Minute)
			if more := b.count(a1) > probes; more != comesUp || probes == 0 {
				t.Errorf("came up: %v; probes after %v: %d, then %d", comesUp, comesUpWithin, probes, b.count(a1))
			}
		})
	}
}

// What was started for a server that did not come up ends when the next one starts: perhaps nobody
// else hears of it.
func TestTheNextServerEndsWhatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed, next := &life{startup: new(startup)}, &life{startup: new(startup)}
		failed.start()
		next.start()
		defer next.stop()
		second := &life{startup: next.startup} // of another block of its server, which is as slow to start
		second.start()
		defer second.stop()
		if wait(lastChance - time.Second); len(runningLives()) != 3 {
			t.Errorf("%d run, want all three for a moment", len(runningLives()))
		}
		wait(2 * time.Second)
		if all := runningLives(); len(all) != 2 || slices.Contains(all, failed) {
			t.Errorf("%d run, want those of the next one alone", len(all))
		}
	})
}

// What was started for a server that fails to take the place of another one ends when that hears of
// it.
func TestFailedRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := &life{startup: new(startup)}
		old.startup.done.Store(true)
		old.start()
		defer old.stop()
		old.restarts()
		failed := &life{startup: new(startup)}
		failed.start()
		old.restartFailed()
		if all := runningLives(); len(all) != 1 || all[0] != old {
			t.Errorf("%d run, want the old one alone", len(all))
		}
	})
}

// A server that clients ask is up, though Caddy did not say so.
func TestServerThatIsAskedIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := ruleWith("example.org.", newBackends(t).checkOf())
		l := &life{zones: map[string]*zoneRule{z.zone: z}, startup: new(startup)}
		l.start()
		defer l.stop()
		z.watcher.note(context.WithValue(t.Context(), dnsserver.Key{}, &dnsserver.Server{}))
		wait(2 * comesUpWithin)
		if len(runningLives()) != 1 {
			t.Error("it was stopped")
		}
	})
}

// Caddy may be told any number of times: it panics at the second, and has forgotten after a
// SIGUSR1.
func TestHearingOfServersTwice(*testing.T) {
	hearOfServers()
	hearOfServers()
}

// Stopping twice, or what never started, is no error.
func TestLifeStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &life{}
		l.stop()
		l.start()
		l.stop()
		l.stop()
		if len(runningLives()) != 0 {
			t.Error("there still is something running")
		}
	})
}

// checked has a rule with a check of an interval run, and returns its life, which shows the rule.
func (b *backends) checked(p health.Prober, interval time.Duration) *life {
	c := b.checkOf()
	c.Prober, c.Timing.Interval = p, interval
	z := ruleWith("example.org.", c)
	l := &life{zones: map[string]*zoneRule{z.zone: z}}
	go l.start()
	synctest.Wait()
	z.status, l.rules = defaultStatus, []*rule{z.rule} // only now: it needs no page of its own
	return l
}

// While a reload has a rule take part in its checks the page shows what the rule before knows:
// nobody is unknown for a moment.
func TestStatusDuringAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		b.err[a1] = errors.New("refused")
		before := b.checked(b, 5*time.Second)
		defer before.stop()
		z := before.zones["example.org."]
		z.verdictOn(withoutPort(a1))
		wait(time.Minute)
		release := make(chan struct{})
		after := b.checked(&named{b, func() { <-release }}, 6*time.Second) // which does not run yet
		defer after.stop()
		for _, during := range []bool{true, false} {
			rules := newOverview(runningLives()).document().Rules
			if len(rules) != 1 || len(rules[0].Checks) != 1 || rules[0].Checks[0].Down != 1 {
				t.Errorf("during the reload: %v: %+v, want one endpoint that is down", during, rules)
			}
			if during {
				close(release)
				synctest.Wait()
			}
		}
	})
}

// named is a prober that does something when it is asked for its name.
type named struct {
	*backends
	do func()
}

func (n *named) Name() string {
	if do := n.do; do != nil {
		n.do = nil
		do()
	}
	return n.backends.Name()
}

// A rule that leaves while a document is made takes its endpoints along; the document is made anew.
func TestStatusWhileARuleLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		b.err[a1] = errors.New("refused")
		p := &named{backends: b}
		before := b.checked(p, 5*time.Second)
		before.zones["example.org."].verdictOn(withoutPort(a1))
		wait(time.Minute)
		var page statusPage
		page.lives.Store(&[]*life{before})
		p.do = func() {
			after := b.checked(b, 6*time.Second)
			t.Cleanup(after.stop)
			page.lives.Store(&[]*life{after})
			before.stop()
		}
		rules := page.document().Rules
		if p.do != nil || len(rules) != 1 || rules[0].Checks[0].Down != 1 {
			t.Errorf("%+v, want one endpoint that is down", rules)
		}
	})
}
