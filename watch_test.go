// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-f1518d44/balance/internal/health"

	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
)

// watching runs a rule that watches www.example.org, over a plugin, in a bubble.
func watching(t *testing.T, b *backends, next plugin.HandlerFunc, test func(z *zoneRule)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := b.checkOf()
		c.watch = []string{"www.example.org."}
		z := ruleWith("example.org.", c)
		var handler plugin.Handler = next
		z.watcher.next.Store(&handler)
		l := &life{zones: map[string]*zoneRule{z.zone: z}}
		l.start()
		defer l.stop()
		test(z)
	})
}

// addressed answers A with an address, AAAA with none.
func addressed(_ context.Context, w dns.ResponseWriter, q *dns.Msg) (int, error) {
	m := new(dns.Msg).SetReply(q)
	if q.Question[0].Qtype == dns.TypeA {
		m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5}, A: a1.AsSlice()}}
	}
	return dns.RcodeSuccess, w.WriteMsg(m)
}

// Verdicts exist before clients ask, and stay for as long as the server runs.
func TestWatch(t *testing.T) {
	b := newBackends(t)
	watching(t, b, addressed, func(z *zoneRule) {
		wait(time.Second)
		if b.count(a1) == 0 || z.verdictOn(withoutPort(a1)) != health.Up || !z.watcher.ready.Load() {
			t.Errorf("%d probes, verdict %v, ready %v", b.count(a1), z.verdictOn(withoutPort(a1)), z.watcher.ready.Load())
		}
		wait(time.Hour)
		if _, known := z.subscriptions[0].Peek(withoutPort(a1)); !known {
			t.Error("the endpoint was forgotten though it is watched")
		}
	})
}

// The server is ready after the first verdicts, whatever they are, or after five seconds.
func TestWatchReady(t *testing.T) {
	tests := []struct {
		name          string
		next          plugin.HandlerFunc
		fail, hang    bool
		early, within time.Duration // not ready yet, ready
	}{
		{"down", addressed, true, false, 0, 200 * time.Millisecond},
		{"hangs", addressed, false, true, 1900 * time.Millisecond, 2200 * time.Millisecond},
		{"no answer", func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
			return dns.RcodeServerFailure, errors.New("not synced")
		}, false, false, 4900 * time.Millisecond, 5100 * time.Millisecond},
		{"no such name", func(_ context.Context, w dns.ResponseWriter, q *dns.Msg) (int, error) {
			return dns.RcodeNameError, w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeNameError))
		}, false, false, 0, 200 * time.Millisecond},
		{"the plugin below hangs", func(ctx context.Context, _ dns.ResponseWriter, _ *dns.Msg) (int, error) {
			<-ctx.Done()
			return dns.RcodeServerFailure, ctx.Err()
		}, false, false, 4900 * time.Millisecond, 5100 * time.Millisecond},
		{"the plugin below panics", func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
			panic("oops")
		}, false, false, 4900 * time.Millisecond, 5100 * time.Millisecond},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			b := newBackends(t)
			if tc.fail || tc.hang {
				b.fail(a1, tc.hang)
			}
			watching(t, b, tc.next, func(z *zoneRule) {
				h := &Balance{rules: serve(map[string]*zoneRule{z.zone: z})}
				if tc.early > 0 {
					wait(tc.early)
					if h.Ready() {
						t.Errorf("ready after %v", tc.early)
					}
				}
				wait(tc.within - tc.early)
				if !h.Ready() {
					t.Errorf("not ready after %v", tc.within)
				}
			})
		})
	}
}

// What is asked for watched names is no client's query: where plugins below look up more of it
// through the server, no balance there takes a turn.
func TestWatchTakesNoTurns(t *testing.T) {
	var asked, inHand atomic.Int32
	next := func(ctx context.Context, w dns.ResponseWriter, q *dns.Msg) (int, error) {
		if asked.Add(1); queryAbove(ctx) != nil {
			inHand.Add(1)
		}
		return addressed(ctx, w, q)
	}
	watching(t, newBackends(t), next, func(*zoneRule) { wait(time.Second) })
	if asked.Load() == 0 || inHand.Load() != asked.Load() {
		t.Errorf("%d of %d questions were in hand, want all", inHand.Load(), asked.Load())
	}
}

// A plugin below that never answers, nor heeds that nobody waits, is not asked for ever.
func TestWatchOfAPluginThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, end := atomic.Int32{}, make(chan struct{})
		defer close(end)
		var next plugin.Handler = plugin.HandlerFunc(func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
			asked.Add(1)
			<-end
			return dns.RcodeServerFailure, nil
		})
		z := ruleWith("example.org.", newBackends(t).checkOf())
		z.watcher.next.Store(&next)
		for range 100 {
			if z.resolve(t.Context(), []string{"www.example.org."}) {
				t.Error("a name that nobody answers for is done")
			}
		}
		if n := asked.Load(); n != maxAsking {
			t.Errorf("it was asked %d times, want %d", n, maxAsking)
		}
	})
}
