// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"errors"
	"iter"
	"maps"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-f1518d44/balance/internal/fleet"
	"github.com/seed-f1518d44/balance/internal/health"
)

// verdicts are what a test says of endpoints: nothing is probed. It is not safe for concurrent use.
type verdicts struct {
	rule  *rule
	allow []netip.Prefix
	ports bool // it goes by the ports of records

	refused int
	known   map[netip.AddrPort]health.Endpoint
	seen    map[netip.AddrPort]bool
	awaited map[netip.AddrPort]time.Time
	records map[netip.AddrPort]health.Record
}

var _ subscription = (*verdicts)(nil)

func (v *verdicts) Name() string                               { return "tcp:80" }
func (v *verdicts) FollowsPorts() bool                         { return v.ports }
func (v *verdicts) Allows(at netip.AddrPort) bool              { return health.MayProbe(v.allow, at.Addr()) }
func (v *verdicts) Endpoints() iter.Seq[health.Endpoint]       { return maps.Values(v.known) }
func (v *verdicts) Refuse()                                    { v.refused++ }
func (v *verdicts) Advice(at netip.AddrPort) health.Advice     { return v.known[v.endpoint(at)].Advice }
func (v *verdicts) Load(at netip.AddrPort) health.Load         { return v.known[v.endpoint(at)].Load }
func (v *verdicts) Voters(netip.AddrPort) []fleet.Voter        { return nil }
func (v *verdicts) Tally(netip.AddrPort) (fleet.Summary, bool) { return 0, false }
func (v *verdicts) Leave()                                     {}
func (v *verdicts) Awaited(at netip.AddrPort) time.Time        { return v.awaited[v.endpoint(at)] }
func (v *verdicts) Record(at netip.AddrPort) health.Record     { return v.records[v.endpoint(at)] }
func (v *verdicts) Peek(at netip.AddrPort) (health.Endpoint, bool) {
	known, ok := v.known[v.endpoint(at)]
	return known, ok
}

func (v *verdicts) endpoint(at netip.AddrPort) netip.AddrPort {
	if v.ports {
		return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	}
	return withoutPort(at.Addr())
}

func (v *verdicts) Seen(at netip.AddrPort) health.Verdict {
	at = v.endpoint(at)
	if v.Allows(at) {
		v.seen[at] = true
	}
	return v.known[at].Verdict
}

// judge makes addresses known: those in dead are down, all else that was known before is up.
func (v *verdicts) judge(dead ...string) {
	for at := range v.known {
		v.known[at] = health.Endpoint{At: at, Verdict: health.Up}
	}
	for _, addr := range dead {
		at := withoutPort(netip.MustParseAddr(addr))
		v.known[at] = health.Endpoint{At: at, Verdict: health.Down}
	}
	v.rule.epoch.Add(1)
}

// backends are endpoints that are probed, and that a test switches off. Safe for concurrent use.
type backends struct {
	key string

	sync.Mutex
	err    map[netip.Addr]error // why an endpoint fails; none: it is up
	hang   map[netip.Addr]bool  // it never answers
	probes map[netip.Addr]int
}

var _ health.Prober = (*backends)(nil)

func newBackends(t *testing.T) *backends {
	t.Helper()
	return &backends{key: t.Name(), err: map[netip.Addr]error{}, hang: map[netip.Addr]bool{}, probes: map[netip.Addr]int{}}
}

func (b *backends) Name() string { return "fake:1" }
func (b *backends) Key() string  { return b.key }

func (b *backends) Probe(ctx context.Context, endpoint netip.AddrPort) error {
	err, hang := b.begin(endpoint.Addr())
	if hang {
		<-ctx.Done()
		return errors.New("no answer")
	}
	return err
}

func (b *backends) begin(addr netip.Addr) (error, bool) {
	b.Lock()
	defer b.Unlock()
	b.probes[addr]++
	return b.err[addr], b.hang[addr]
}

func (b *backends) count(addr netip.Addr) int {
	b.Lock()
	defer b.Unlock()
	return b.probes[addr]
}

// fail has an endpoint refuse or, if it hangs, never answer.
func (b *backends) fail(addr netip.Addr, hang bool) {
	b.Lock()
	defer b.Unlock()
	b.err[addr], b.hang[addr] = errors.New("connection refused"), hang
}

// checkOf returns a check with the defaults.
func (b *backends) checkOf() *check {
	return &check{
		Check: health.Check{
			Prober: b, MaxEndpoints: defaultMaxEndpoints, MaxInFlight: defaultMaxInFlight,
			Timing: health.Timing{
				Interval: defaultInterval, Timeout: defaultTimeout, FastInterval: defaultFastInterval,
				MaxInterval: defaultMaxInterval, Rise: defaultRise, Fall: defaultFall,
			},
		},
		allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")},
	}
}

// ruleWith returns a rule with a check, in a zone.
func ruleWith(zone string, c *check) *zoneRule {
	return &zoneRule{zone: zone, scope: uint64(len(zone)), rule: &rule{zones: []string{zone}, policy: &policies[0], checks: []*check{c}}}
}

// wait lets time pass.
func wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

var a1, a2 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
