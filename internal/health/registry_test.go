// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// No rule joins or leaves during a scrape, so a scrape never sees half a step of a reload.
func TestScrapeWhileARuleLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		joined(t, newBackends(t).checkOf())
		seen := 0
		pools.each(func(*Subscription) {
			seen++
			if pools.mu.TryLock() {
				pools.mu.Unlock()
				t.Error("a rule could leave")
			}
		})
		if seen != 1 {
			t.Errorf("%d rules seen, want 1", seen)
		}
	})
}

// loaded returns subscriptions of some zones, all of which have the same endpoints.
func loaded(tb testing.TB, c *Check, zones int, endpoints []netip.AddrPort) (all []*Subscription) {
	tb.Helper()
	for i := range zones {
		sub := in(fmt.Sprintf("zone%d.example.", i))
		sub.Scope = uint64(i)
		all = append(all, pools.Join(c, sub))
		for _, at := range endpoints {
			all[i].Seen(at)
		}
	}
	return all
}

func leave(all []*Subscription) {
	for _, s := range all {
		s.Leave()
	}
}

// A reload of zones with 4,000 endpoints each. It changes nothing, or what is allowed, or the
// interval, so that another pool takes over. Time is linear in zones times endpoints.
func BenchmarkReload(b *testing.B) {
	backends := &backends{key: b.Name()}
	for _, zones := range []int{1, 50, 200} {
		for _, kind := range []string{"same", "allow", "interval"} {
			b.Run(fmt.Sprintf("%s/%dx4000", kind, zones), func(b *testing.B) {
				c := backends.checkOf()
				c.Prober, c.Timing.Interval = idleProber{backends}, time.Hour
				all := loaded(b, c, zones, addresses(4000))
				all[0].pool.do(func() {})
				i := 0
				for b.Loop() {
					i++
					next := *c
					var after []*Subscription
					for z := range zones {
						sub := all[z].sub
						switch kind {
						case "allow":
							sub.Allow = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.PrefixFrom(a1.Addr(), 24+i%8)}
						case "interval":
							next.Timing.Interval = time.Hour + time.Duration(i%2)
						}
						after = append(after, pools.Join(&next, sub))
					}
					leave(all)
					all = after
				}
				leave(all)
			})
		}
	}
}

// idleProber says that everything is up.
type idleProber struct{ *backends }

func (idleProber) Probe(context.Context, netip.AddrPort) error { return nil }

// Looking a verdict up, as it is done for each member when a plan is made.
func BenchmarkSeen(b *testing.B) {
	for _, zones := range []int{1, 200} {
		b.Run(fmt.Sprintf("%dzones", zones), func(b *testing.B) {
			backends := &backends{key: b.Name()}
			c := backends.checkOf()
			c.Prober = idleProber{backends}
			endpoints := addresses(64)
			all := loaded(b, c, zones, endpoints)
			all[0].pool.do(func() {})
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				all[0].Seen(endpoints[i%len(endpoints)])
				i++
			}
			leave(all)
		})
	}
}
