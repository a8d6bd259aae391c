// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns/caddy"
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
