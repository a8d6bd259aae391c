// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-f1518d44/balance/internal/health"
	"github.com/seed-f1518d44/balance/internal/text"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
)

// readyAfter is how long, at most, the server waits for the verdicts on watched endpoints before it
// is ready.
const readyAfter = 5 * time.Second

// untilReady is the time between looking watched names up until the server is ready.
const untilReady = 100 * time.Millisecond

// lookupTimeout bounds the time that the plugins below take to answer.
const lookupTimeout = 5 * time.Second

// watcher resolves the watched names of a rule through the plugins below. Safe for concurrent use.
type watcher struct {
	next   atomic.Pointer[plugin.Handler]   // below one of the rule's chains
	server atomic.Pointer[dnsserver.Server] // that clients asked; nil before the first
	ready  atomic.Bool
	// Lookups that plugins below have not answered, even if nothing waits for them any more.
	asking atomic.Int32
	logged atomic.Pointer[time.Time] // of the last line about a panic
}

// admitLine reports whether a line may be logged now: at most one a minute.
func (w *watcher) admitLine() bool {
	last, now := w.logged.Load(), time.Now()
	return (last == nil || now.Sub(*last) > time.Minute) && w.logged.CompareAndSwap(last, &now)
}

// note keeps the server that a client asked.
func (w *watcher) note(ctx context.Context) {
	if w.server.Load() != nil {
		return
	}
	if server, ok := ctx.Value(dnsserver.Key{}).(*dnsserver.Server); ok {
		w.server.Store(server)
	}
}

// watched returns the names in the zone that are watched.
func (z *zoneRule) watched() (names []string) {
	for _, c := range z.checks {
		for _, name := range c.watch {
			if plugin.Zones(z.zones).Matches(name) == z.zone && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// watch looks the names up over and over until ctx is done, so that their endpoints are probed
// whether or not clients ask. The rule is ready when each endpoint has a verdict, or after a while.
func (z *zoneRule) watch(ctx context.Context, names []string) {
	ready := &z.watcher.ready
	patience := time.AfterFunc(readyAfter, func() { ready.Store(true) })
	defer patience.Stop()
	for {
		pause := z.checks[0].Timing.Interval
		if z.resolve(ctx, names) {
			ready.Store(true)
		}
		if !ready.Load() {
			pause = min(pause, untilReady)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// resolve looks names up and reports whether there is a verdict on each of their addresses. A name
// without addresses needs no verdict. A name that cannot be resolved now is tried again.
func (z *zoneRule) resolve(ctx context.Context, names []string) (judged bool) {
	judged = true
	for _, name := range names {
		if ctx.Err() != nil {
			return false
		}
		for _, qtype := range z.typesOf(name) {
			judged = z.resolveType(ctx, name, qtype) && judged
		}
	}
	return judged
}

// typesOf returns the types of records that are looked up for a watched name.
func (z *zoneRule) typesOf(name string) []uint16 {
	types := []uint16{dns.TypeA, dns.TypeAAAA}
	if z.followsPorts() || strings.HasPrefix(name, "_") {
		types = append(types, dns.TypeSRV)
	}
	return types
}

// resolveType is resolve for a name and a type.
func (z *zoneRule) resolveType(ctx context.Context, name string, qtype uint16) (judged bool) {
	m := z.lookup(ctx, name, qtype)
	if m == nil || m.Rcode == dns.RcodeServerFailure {
		return false
	}
	found := z.follow(ctx, m)
	return z.register(m) && found
}

// follow learns the addresses of the targets of SRV records: from the additional section or, if it
// has none, by looking them up. It reports whether every lookup had an answer.
func (z *zoneRule) follow(ctx context.Context, m *dns.Msg) (found bool) {
	found = true
	seen := make(map[string]bool)
	for _, rr := range m.Extra {
		if isGlue(rr) {
			seen[strings.ToLower(rr.Header().Name)] = true
		}
	}
	z.teach(m.Extra)
	for _, rr := range m.Answer {
		srv, ok := rr.(*dns.SRV)
		if !ok || seen[strings.ToLower(srv.Target)] || len(seen) >= z.checks[0].MaxEndpoints {
			continue
		}
		seen[strings.ToLower(srv.Target)] = true
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
			addrs := z.lookup(ctx, srv.Target, qtype)
			if addrs == nil || addrs.Rcode == dns.RcodeServerFailure {
				found = false
				continue
			}
			z.teach(addrs.Answer)
		}
	}
	return found
}

// maxAsking is the most lookups of a rule that the plugins below may have. There are more than one
// only if a plugin neither answers nor heeds its context.
const maxAsking = 16

// lookup asks the plugins below. It returns nil if they give no answer in time. A plugin that does
// not heed its context keeps running; at most maxAsking do.
func (z *zoneRule) lookup(ctx context.Context, name string, qtype uint16) *dns.Msg {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	if z.watcher.asking.Load() >= maxAsking {
		return nil
	}
	z.watcher.asking.Add(1)
	answer := make(chan *dns.Msg, 1)
	go func() {
		defer z.watcher.asking.Add(-1)
		answer <- z.askBelow(ctx, name, qtype)
	}()
	select {
	case m := <-answer:
		return m
	case <-ctx.Done():
		return nil
	}
}

// askBelow asks the plugins below, as over TCP, so that nothing is cut short.
func (z *zoneRule) askBelow(ctx context.Context, name string, qtype uint16) *dns.Msg {
	next := z.watcher.next.Load()
	if next == nil {
		return nil
	}
	defer func() { // as the server does for a client's query
		if r := recover(); r != nil && z.watcher.admitLine() {
			log.Errorf("watch %s: a plugin below panicked: %s", name, text.OneLine(fmt.Sprint(r)))
		}
	}()
	// Plugins look up there what a CNAME leads to.
	if server := z.watcher.server.Load(); server != nil {
		ctx = context.WithValue(ctx, dnsserver.Key{}, server)
	}
	query := new(dns.Msg)
	query.SetQuestion(name, qtype)
	w := &recorder{}
	if _, err := plugin.NextOrFailure(pluginName, *next, &clientQuery{Context: ctx}, w, query); err != nil {
		return nil
	}
	return w.msg
}

// register registers the addresses in an answer for probing. It reports whether there is a verdict
// on each of them.
func (z *zoneRule) register(m *dns.Msg) bool {
	z.teach(m.Answer)
	all := true
	for _, rr := range m.Answer {
		if memberHeader(rr) == nil {
			continue
		}
		member := memberOf(rr)
		for _, at := range z.endpointsOf(&member, inAnswer, inWatch) {
			all = z.hasVerdicts(at) && all
		}
	}
	return all
}

// hasVerdicts registers an address for probing, and reports whether all checks that may probe it
// have a verdict. An address alone is no endpoint of a check that goes by the ports of records.
func (z *zoneRule) hasVerdicts(at netip.AddrPort) bool {
	all := true
	for _, s := range z.subscriptions {
		if named := at.Port() != 0 || !s.FollowsPorts(); named && s.Allows(at) && s.Seen(at) == health.Unknown {
			all = false
		}
	}
	return all
}

// teach keeps the members in a section, and registers them for probing. Records that lead to the
// names of addresses find them there.
func (z *zoneRule) teach(rrs []dns.RR) {
	if len(rrs) > maxRecords {
		return
	}
	b := bufferPool.Get().(*buffers)
	defer b.release()
	b.scan.scan(rrs)
	for i := range b.scan.sets {
		set := &b.scan.sets[i]
		rules := z.appliedTo(set.owner)
		rules.stateOf(b, turnKey{where: inWatch, rrtype: set.rrtype, prefer: choice{line: noPreference}}, set, rrs)
	}
}

// recorder is the writer of a query that no client sent: it keeps the answer.
type recorder struct {
	msg  *dns.Msg
	from net.Addr // whose query it is; nil: this host's
}

var _ dns.ResponseWriter = (*recorder)(nil)

var loopback = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}

// WriteMsg implements dns.ResponseWriter.
func (r *recorder) WriteMsg(m *dns.Msg) error { r.msg = m; return nil }

// Write implements dns.ResponseWriter.
func (r *recorder) Write(packed []byte) (int, error) {
	m := new(dns.Msg)
	if err := m.Unpack(packed); err != nil {
		return 0, err
	}
	r.msg = m
	return len(packed), nil
}

// LocalAddr implements dns.ResponseWriter.
func (r *recorder) LocalAddr() net.Addr { return loopback }

// RemoteAddr implements dns.ResponseWriter.
func (r *recorder) RemoteAddr() net.Addr {
	if r.from != nil {
		return r.from
	}
	return loopback
}

// Network implements dns.ResponseWriter.
func (r *recorder) Network() string { return "tcp" }

// Close implements dns.ResponseWriter.
func (r *recorder) Close() error { return nil }

// TsigStatus implements dns.ResponseWriter.
func (r *recorder) TsigStatus() error { return nil }

// TsigTimersOnly implements dns.ResponseWriter.
func (r *recorder) TsigTimersOnly(bool) {}

// Hijack implements dns.ResponseWriter.
func (r *recorder) Hijack() {}
