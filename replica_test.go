// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-f1518d44/balance/internal/fleet"
	"github.com/seed-f1518d44/balance/internal/statuspage"
)

// freePort returns a port of 127.0.0.1 that is free for UDP and TCP.
func freePort(t *testing.T) uint16 {
	t.Helper()
	for range 20 {
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		tcp, err := net.Listen("tcp", udp.LocalAddr().String())
		udp.Close()
		if err == nil {
			tcp.Close()
			return udp.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		}
	}
	t.Fatal("no port is free")
	return 0
}

// inFleetOf returns the life of a server block whose Corefile has a fleet block.
func inFleetOf(t *testing.T, name, options string) *life {
	t.Helper()
	r := parsedRule(t, "balance {\nhealth_check tcp 80 {\nallow 10.0.0.0/8\n}\nfleet "+name+" {\n"+options+"\n}\n}")
	return &life{rules: []*rule{r}}
}

func loopbackFleet(t *testing.T, port uint16, more string) *life {
	t.Helper()
	return inFleetOf(t, "dns", fmt.Sprintf("join 127.0.0.1\nlisten 127.0.0.1:%d\n%s", port, more))
}

func newReplicas() *replicas { return &replicas{around: inFleet.around} }

func mustJoin(t *testing.T, p *replicas, lives ...*life) {
	t.Helper()
	for _, l := range lives {
		if _, err := p.join(l, l.fleetBlock()); err != nil {
			t.Fatal(err)
		}
	}
}

// probersOf returns what is in force.
func (p *replicas) probersOf() int { return p.current.Load().hub.Snapshot().Probers }

// A reload keeps the replica in its fleet. What the new Corefile changes is in force once the old
// server is gone.
func TestFleetOverReload(t *testing.T) {
	p, port := newReplicas(), freePort(t)
	first, other := loopbackFleet(t, port, "probers 2"), loopbackFleet(t, port, "probers 2")
	mustJoin(t, p, first, other)
	before := p.current.Load().session.Load().carrier
	next := loopbackFleet(t, port, "probers 5")
	mustJoin(t, p, next)
	if p.leave(first); p.probersOf() != 2 {
		t.Errorf("%d probers while the old server runs, want 2", p.probersOf())
	}
	if p.leave(other); p.probersOf() != 5 {
		t.Errorf("%d probers after the reload, want 5", p.probersOf())
	}
	if p.current.Load().session.Load().carrier != before {
		t.Error("the replica left its fleet")
	}
	if p.leave(next); p.current.Load() != nil {
		t.Error("the replica is still there")
	}
}

// A reload that fails changes nothing, not even where the replica listens.
func TestFleetAfterFailedReload(t *testing.T) {
	p := newReplicas()
	first := loopbackFleet(t, freePort(t), "probers 2")
	mustJoin(t, p, first)
	defer p.leave(first)
	before := p.current.Load().session.Load()
	for _, failed := range []*life{
		loopbackFleet(t, freePort(t), "probers 5"),
		inFleetOf(t, "web", fmt.Sprintf("join 127.0.0.1\nlisten 127.0.0.1:%d", freePort(t))),
	} {
		mustJoin(t, p, failed)
		p.leave(failed)
		if p.current.Load().session.Load() != before || p.probersOf() != 2 {
			t.Error("a failed reload changed something")
		}
	}
}

// Another address, or another fleet, takes the place of the one before.
func TestFleetMoves(t *testing.T) {
	logged := captureLog(t)
	p, port := newReplicas(), freePort(t)
	first := loopbackFleet(t, freePort(t), "")
	second := loopbackFleet(t, port, "")
	third := inFleetOf(t, "web", fmt.Sprintf("join 127.0.0.1\nlisten 127.0.0.1:%d", port))
	mustJoin(t, p, first, second)
	p.leave(first)
	if now := p.current.Load().session.Load(); now == nil || now.block.listen.Port() != port {
		t.Fatalf("%+v, want port %d", now, port)
	}
	mustJoin(t, p, third) // at the same port
	p.leave(second)
	if now := p.current.Load(); now.name != "web" || now.session.Load() == nil {
		t.Errorf("fleet %s, %+v", now.name, now.session.Load())
	}
	if n := strings.Count(logged.String(), "fleet dns: this replica leaves\n"); n != 1 {
		t.Errorf("the log says %d times that the replica leaves, want once", n)
	}
	p.leave(third)
}

// A port in use keeps a server from starting, and a reload from succeeding.
func TestFleetPortInUse(t *testing.T) {
	busy, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	port := busy.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	want := fmt.Sprintf("Testfile:7: fleet: cannot listen on 127.0.0.1:%d: address already in use", port)
	p := newReplicas()
	refused := loopbackFleet(t, port, "")
	if _, err := p.join(refused, refused.fleetBlock()); err == nil || err.Error() != want {
		t.Errorf("at the start: %v, want %s", err, want)
	}
	running := loopbackFleet(t, freePort(t), "")
	mustJoin(t, p, running)
	defer p.leave(running)
	if _, err := p.join(refused, refused.fleetBlock()); err == nil || err.Error() != want {
		t.Errorf("at a reload: %v, want %s", err, want)
	}
}

// A replica whose sockets cannot be opened after a reload says so once, and opens them once that can
// be done.
func TestFleetOpensLater(t *testing.T) {
	port := freePort(t)
	busy, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	p := newReplicas()
	running := loopbackFleet(t, freePort(t), "")
	mustJoin(t, p, running)
	r := p.current.Load()
	r.users[0].block = loopbackFleet(t, port, "").fleetBlock() // as if the port was free when the reload began
	p.settle()
	first := r.again
	if p.settle(); r.session.Load() != nil || first == nil || r.again != first {
		t.Fatal("want one timer, and no sockets")
	}
	busy.Close()
	r.again.Reset(0)
	for end := time.Now().Add(time.Minute); r.session.Load() == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the sockets are not open")
		}
	}
	p.leave(running)
}

// Without a fleet nothing is there.
func TestNoFleet(t *testing.T) {
	l := &life{rules: []*rule{parsedRule(t, "balance")}}
	if err := l.joinFleet(); err != nil || l.replica != nil || l.hubOf(l.rules[0]) != nil {
		t.Errorf("there is a fleet, %v", err)
	}
}

// Keys are read again when the file changes; a bad file changes nothing.
func TestFleetKeysChange(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fleet.key")
	writeFile(t, file, "MDEyMzQ1Njc4OWFiY2RlZg==\n")
	l := loopbackFleet(t, freePort(t), "key "+file)
	keys := l.rules[0].fleet.block.keys
	var told [][]byte
	changed := func(keys [][]byte) { told = keys }
	keys.changed.Store(&changed)
	writeFile(t, file, "MDAwMDAwMDAwMDAwMDAwMA==\nMDEyMzQ1Njc4OWFiY2RlZg==\n")
	if err := keys.Read(); err != nil || len(told) != 2 {
		t.Errorf("%d keys, %v; want 2", len(told), err)
	}
	writeFile(t, file, "no key\n")
	if err := keys.Read(); err == nil || strings.Contains(err.Error(), "no key\n") || len(*keys.keys.Load()) != 2 {
		t.Errorf("%d keys, %v; want 2 and an error", len(*keys.keys.Load()), err)
	}
}

// A replica that finds no other is ready at once if there is none to be found, else after a while.
func TestFleetReady(t *testing.T) {
	p := newReplicas()
	port := freePort(t)
	alone := inFleetOf(t, "dns", fmt.Sprintf("join 127.0.0.1:%d\nlisten 127.0.0.1:%[1]d", port)) // joins itself
	mustJoin(t, p, alone)
	defer p.leave(alone)
	carrier := p.current.Load().session.Load().carrier
	for end := time.Now().Add(time.Minute); !carrier.Joined(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not joined, though it looks for nobody but itself")
		}
	}
	if !p.current.Load().ready() {
		t.Error("not ready, though it has joined")
	}
	if !(&replica{}).ready() {
		t.Error("a replica without sockets is not ready")
	}
}

// The page says which replicas failed, the last first, and how many more.
func TestProblemsOfGone(t *testing.T) {
	o := &overview{doc: new(statuspage.Document)}
	var gone []fleet.Gone
	for i := range 7 {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 7946)
		gone = append(gone, fleet.Gone{Replica: fleet.Replica{Name: fmt.Sprint("ns", i), Addr: at}, Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)})
	}
	o.problemsOfGone("dns", gone)
	if n := len(o.doc.Problems); n != maxGoneShown+1 {
		t.Fatalf("%d problems, want %d", n, maxGoneShown+1)
	}
	for i, want := range map[int]string{
		0:            "fleet dns: replica ns6 (192.0.2.6:7946) has failed or cannot be reached from here since 2026-01-02T03:04:05Z",
		maxGoneShown: "fleet dns: 2 more replicas failed or cannot be reached",
	} {
		if got := o.doc.Problems[i].Text; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Names of other replicas are answered by the server itself if it has a zone for them.
func TestRuleNear(t *testing.T) {
	z := ruleWith("example.org.", newBackends(t).checkOf())
	l := &life{zones: map[string]*zoneRule{z.zone: z}, blockZones: []string{"cluster.local.", "example.org."}}
	if err := l.start(); err != nil {
		t.Fatal(err)
	}
	defer l.stop()
	if ruleNear("coredns-fleet.kube-system.svc.cluster.local.") != z || ruleNear("example.net.") != nil {
		t.Error("not the rule of the server block whose zone holds the name")
	}
}

// The replica's locality is that of its address, by the first stanza that knows one.
func TestLocalityOfAddress(t *testing.T) {
	r := parsedRule(t, "balance {\nlocality zone-a 10.1.0.0/16\nprefer locality\n}")
	l := &life{rules: []*rule{r}}
	if err := l.start(); err != nil {
		t.Fatal(err)
	}
	defer l.stop()
	for addr, want := range map[string]string{"10.1.2.3": "zone-a", "10.2.2.3": ""} {
		if got := localityOfAddress(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
}

// The log says which changed option makes a replica leave and join again.
func TestRestartsFor(t *testing.T) {
	at := netip.MustParseAddrPort
	before := fleetBlock{listen: at("192.0.2.1:7946")}
	for want, after := range map[string]fleetBlock{
		"": {listen: before.listen, probers: 5},
		"listen changed from 192.0.2.1:7946 to 192.0.2.1:7947": {listen: at("192.0.2.1:7947")},
		"advertise changed": {listen: before.listen, advertise: at("192.0.2.2:7946")},
		"key was added":     {listen: before.listen, keys: new(keyFile)},
	} {
		if got := before.restartsFor(&after); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := (&fleetBlock{keys: new(keyFile)}).restartsFor(&fleetBlock{}); got != "key was removed" {
		t.Errorf("%q, want that the key was removed", got)
	}
}

// The page says which replicas doubt themselves, this one or another.
func TestProblemsOfDoubt(t *testing.T) {
	o := &overview{doc: &statuspage.Document{Fleet: &statuspage.Fleet{Name: "dns", Replicas: []statuspage.Replica{
		{Name: "ns1"}, {Name: "ns2", Doubts: true}, {Name: "ns3", Doubts: true},
	}}}}
	o.problemsOfFleet()
	want := "fleet dns: replicas that doubt themselves, so that their votes do not count: ns2, ns3; the log there says why"
	if len(o.doc.Problems) != 1 || o.doc.Problems[0].Text != want {
		t.Errorf("%+v, want %q", o.doc.Problems, want)
	}
}
