// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

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
			l := &life{zones: map[string]*zoneRule{z.zone: z}, mark: new(byte)}
			l.start()
			defer l.stop()
			if comesUp {
				hearOfServers()
				instance := &caddy.Instance{Storage: map[any]any{lifeKey{}: []*byte{l.mark}}}
				caddy.EmitEvent(caddy.InstanceStartupEvent, instance)
			}
			z.verdictOn(a1)
			wait(comesUpWithin + time.Second)
			probes := b.count(a1)
			wait(time.Minute)
			if more := b.count(a1) > probes; more != comesUp || probes == 0 {
				t.Errorf("came up: %v; probes after %v: %d, then %d", comesUp, comesUpWithin, probes, b.count(a1))
			}
		})
	}
}

// What was started for a server that did not come up ends when the next one starts: perhaps nobody else hears of it.
func TestTheNextServerSweepsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed, next := &life{mark: new(byte)}, &life{mark: new(byte)}
		failed.start()
		next.start()
		defer next.stop()
		if all := runningLives(); len(all) != 1 || all[0] != next {
			t.Errorf("%d run, want the next one alone", len(all))
		}
		failed.stop()
	})
}

// A server that clients ask is up, though Caddy did not say so.
func TestServerThatIsAskedIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := ruleWith("example.org.", newBackends(t).checkOf())
		l := &life{zones: map[string]*zoneRule{z.zone: z}, mark: new(byte)}
		l.start()
		defer l.stop()
		z.watcher.note(context.WithValue(t.Context(), dnsserver.Key{}, &dnsserver.Server{}))
		wait(2 * comesUpWithin)
		if len(runningLives()) != 1 {
			t.Error("it was stopped")
		}
	})
}

// Caddy may be told any number of times: it panics at the second, and has forgotten after a SIGUSR1.
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

// While a reload has a rule take part in its checks the page shows what the rule before knows: nobody is unknown for a moment.
func TestStatusDuringAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		b.err[a1] = errors.New("refused")
		begin := func(interval time.Duration) *life {
			c := b.checkOf()
			c.timing.interval = interval
			z := ruleWith("example.org.", c)
			l := &life{zones: map[string]*zoneRule{z.zone: z}}
			go l.start()
			synctest.Wait()
			z.status, l.rules = defaultStatus, []*rule{z.rule} // only now: it needs no page of its own
			return l
		}
		before := begin(5 * time.Second)
		defer before.stop()
		z := before.zones["example.org."]
		z.verdictOn(a1)
		wait(time.Minute)
		release := make(chan struct{})
		z.subscribers[0].pool.calls <- func() { <-release }
		after := begin(6 * time.Second) // wants to hear what the rule before knows
		defer after.stop()
		for _, during := range []bool{true, false} {
			rules := newOverview([]*life{before, after}).document().Rules
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
