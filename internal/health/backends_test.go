// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// backends are endpoints that a test switches on and off. Safe for concurrent use.
type backends struct {
	key string

	sync.Mutex
	err      map[netip.AddrPort]error         // why an endpoint fails; nil: it is up
	hang     map[netip.AddrPort]bool          // it never answers
	took     time.Duration                    // for an answer
	slow     map[netip.AddrPort]time.Duration // for the answers of some endpoints
	probes   map[netip.AddrPort][]time.Time   // starts
	inFlight map[netip.AddrPort]int
	most     int // in flight at once, of all
	now      int
	twice    bool // an endpoint was probed twice at once
}

var _ Prober = (*backends)(nil)

func newBackends(t testing.TB) *backends {
	return &backends{
		key: t.Name(), err: map[netip.AddrPort]error{}, hang: map[netip.AddrPort]bool{},
		probes: map[netip.AddrPort][]time.Time{}, slow: map[netip.AddrPort]time.Duration{}, inFlight: map[netip.AddrPort]int{},
	}
}

func (b *backends) Name() string { return "fake:1" }
func (b *backends) Key() string  { return b.key }

func (b *backends) Probe(ctx context.Context, addr netip.AddrPort) error {
	hang, took, err := b.begin(addr)
	defer b.end(addr)
	if hang {
		<-ctx.Done()
		return errors.New("no answer")
	}
	if took > 0 {
		<-time.After(took)
	}
	return err
}

func (b *backends) begin(addr netip.AddrPort) (hang bool, took time.Duration, err error) {
	b.Lock()
	defer b.Unlock()
	b.probes[addr] = append(b.probes[addr], time.Now())
	b.inFlight[addr]++
	b.now++
	b.most = max(b.most, b.now)
	b.twice = b.twice || b.inFlight[addr] > 1
	return b.hang[addr], max(b.took, b.slow[addr]), b.err[addr]
}

// delay makes an endpoint slow to answer.
func (b *backends) delay(addr netip.AddrPort, took time.Duration) {
	b.Lock()
	defer b.Unlock()
	b.slow[addr] = took
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

// joined makes a rule use the pool of a check until the synctest bubble ends.
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

// fail makes an endpoint refuse or, if it hangs, never answer.
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
