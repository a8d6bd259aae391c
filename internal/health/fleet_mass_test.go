// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// firsts is a prober that finds the first endpoints dead, as many as it is told. Safe for
// concurrent use.
type firsts struct{ dead atomic.Uint32 }

func (f *firsts) Name() string { return "fake:1" }
func (f *firsts) Key() string  { return "firsts" }

func (f *firsts) Probe(_ context.Context, at netip.AddrPort) error {
	if numberAt(at) < f.dead.Load() {
		return errRefused
	}
	return nil
}

// numbered returns an endpoint; numberAt undoes that.
func numbered(n uint32) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 10<<24|n))), 0)
}

func numberAt(at netip.AddrPort) uint32 {
	b := at.Addr().As4()
	return binary.BigEndian.Uint32(b[:]) &^ (10 << 24)
}

// A tenth of 100,000 endpoints dies at once, behind a prober that takes no time. It takes more than
// a minute of real time: what counts is that the machine keeps up. Reported are the seconds until
// the first replica has the last verdict, and until all have it; and the most between the two for
// one endpoint.
func BenchmarkFleetMass(b *testing.B) {
	const endpoints, dying = 100_000, 10_000
	for b.Loop() {
		prober := new(firsts)
		all := newReplicasOf(b, 5, func(c *Check) {
			c.Prober, c.MaxEndpoints = prober, endpoints
			c.Timing.Interval = 30 * time.Second
		})
		for n := range uint32(endpoints) {
			for _, r := range all.all {
				r.rule.Seen(numbered(n))
			}
		}
		awaitVerdicts(b, all, endpoints, Up)
		time.Sleep(40 * time.Second) // until probes are where they would be
		died := time.Now()
		prober.dead.Store(dying)
		var first, last, between time.Duration
		for _, times := range awaitVerdicts(b, all, dying, Down) {
			low, high := slices.MinFunc(times, time.Time.Compare), slices.MaxFunc(times, time.Time.Compare)
			first, last, between = max(first, low.Sub(died)), max(last, high.Sub(died)), max(between, high.Sub(low))
		}
		b.ReportMetric(first.Seconds(), "s/first")
		b.ReportMetric(last.Seconds(), "s/all")
		b.ReportMetric(between.Seconds(), "s/between")
		for _, r := range all.all {
			r.end()
		}
	}
}

// awaitVerdicts waits until all replicas have a verdict on the first endpoints. It returns, for
// each endpoint, when each replica had it.
func awaitVerdicts(b *testing.B, all *replicas, n uint32, want Verdict) [][]time.Time {
	b.Helper()
	had := make([][]time.Time, n)
	for i := range had {
		had[i] = make([]time.Time, len(all.all))
	}
	for began, missing := time.Now(), 1; missing > 0; time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > 3*time.Minute {
			b.Fatalf("%d verdicts are missing after 3 minutes, want all to be %v", missing, want)
		}
		missing = 0
		now := time.Now()
		for i, times := range had {
			for j, r := range all.all {
				if !times[j].IsZero() {
					continue
				}
				if known, _ := r.rule.Peek(numbered(uint32(i))); known.Verdict == want {
					times[j] = now
				} else {
					missing++
				}
			}
		}
	}
	return had
}
