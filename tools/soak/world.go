// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// world is the server and its surroundings. Safe for concurrent use once built.
type world struct {
	*reality
	dir, disk string // for what the server reads; disk is small
	pki       *pki
	key       *dns.DNSKEY // of the signed zone
	farms     []*farm
	upstream  *upstream
	weights   *operated[map[netip.Addr]int]
	overrides *operated[map[netip.Addr]bool]
	server    *server
	filesBad  *timeline[bool] // an operator's file is one that Corefiles cannot name now
	reloader  *reloader
	asNobody  bool
	hostsNeed string // why there are no hosts here; "": there are

	subjects []*subject
	askers   []*asker
	gate     sync.RWMutex // askers hold it for reading while they ask
	hushes   int64        // times that they were silent; guarded by gate
	lateness *lateness
	drops    *timeline[int] // packets to the server that the kernel threw away
	blind    atomic.Bool    // the server lost its metrics

	count    *counts
	progress io.Writer
	began    time.Time

	mu sync.Mutex // guards tallies
}

// diskSize is the size of the disk that fills up, in bytes: the largest file that is put there, and
// room for a log.
const diskSize = 160 << 20

// zoneTTL is the TTL of what zone files hold, in seconds.
const zoneTTL = 300

// backendsOfFarm is how many backends each farm has.
const backendsOfFarm = 4

// membersOf is how many members the sets of a zone file have.
const membersOf = 5

// newWorld builds everything in a directory and starts it, the server last.
func newWorld(ctx context.Context, dir, binary string, load int, progress io.Writer) (w *world, err error) {
	w = &world{dir: dir, disk: filepath.Join(dir, "disk"), progress: progress, began: time.Now(), count: newCounts(), filesBad: newTimeline(false), reloader: &reloader{}, asNobody: rootOutside()}
	w.lateness = new(lateness)
	w.reality = &reality{newTimeline(false), newTimeline(false), newTimeline[*quirk](nil), w.lateness.busy}
	w.drops = newTimeline(0)
	go w.lateness.watch(ctx)
	go w.watchDrops(ctx)
	if err := mountDisk(w.disk, diskSize); err != nil {
		return nil, err
	}
	if w.pki, err = newPKI(dir); err != nil {
		return nil, err
	}
	if err := w.buildFarms(); err != nil {
		return nil, err
	}
	if w.key, err = newSigningKey(dir, signedZone); err != nil {
		return nil, err
	}
	w.upstream = &upstream{sets: make(map[string]*rrset), names: make(map[string]bool)}
	w.people(load)
	if err := w.files(); err != nil {
		return nil, err
	}
	if err := w.upstream.listen(); err != nil {
		return nil, err
	}
	return w, w.startServer(ctx, binary)
}

// buildFarms starts the backends, and the hosts if there can be any.
func (w *world) buildFarms() error {
	protocols := map[string]string{farmOfTargets: "tcp", farmHeld: "tcp"}
	names := []string{"tcp", "http", "https", "grpc", "dns", farmOfTargets, farmHeld}
	if w.hostsNeed = hostsNeed(); w.hostsNeed == "" {
		names = append(names, farmOfHosts)
	}
	for i, name := range names {
		f, err := newFarm(name, cmp.Or(protocols[name], name), uint16(7001+i), byte(i+1), backendsOfFarm, w.pki)
		if err != nil {
			return err
		}
		w.farms = append(w.farms, f)
	}
	return nil
}

// files writes the zone files and what an operator has on the disk.
func (w *world) files() error {
	zones := make(map[string]*strings.Builder)
	for _, s := range w.subjects {
		zone := zoneOf(s.name)
		if zones[zone] == nil {
			zones[zone] = new(strings.Builder)
			fmt.Fprintf(zones[zone], "$TTL 300\n@ IN SOA ns hostmaster 1 7200 3600 1209600 60\n@ IN NS ns\nns IN A 192.0.2.53\n")
		}
		answer, extra := s.records(s.name, s.members, zoneTTL)
		for _, rr := range slices.Concat(answer, extra) {
			fmt.Fprintln(zones[zone], rr)
		}
	}
	for zone, text := range zones {
		if err := os.WriteFile(filepath.Join(w.dir, "db."+zone), []byte("$ORIGIN "+zone+".\n"+text.String()), 0o644); err != nil { //nolint:gosec // the server reads it
			return err
		}
	}
	w.weights, w.overrides = weightsIn(w.disk), overridesIn(w.disk)
	for _, s := range w.subjects {
		switch s.name {
		case "weighted.file.test.":
			s.order = &weighted{shares: func() map[netip.Addr]int { return w.weights.settled(w.busy()) }}
		case "over.file.test.":
			s.excluded = func(from, to time.Time) (always, sometimes map[netip.Addr]bool) {
				return excluding(w.overrides.during(from, to, w.busy()))
			}
		}
	}
	if err := w.weights.put(w.weights.versions[0]); err != nil {
		return err
	}
	if err := w.overrides.put(w.overrides.versions[0]); err != nil {
		return err
	}
	return writeWhole(filepath.Join(w.dir, "Corefile"), variant{reload: true}.corefile(w.dir, w.disk, w.farms))
}

// zoneOf returns the zone of a name, without the final dot: its last two labels.
func zoneOf(name string) string {
	labels := dns.SplitDomainName(name)
	return strings.Join(labels[len(labels)-2:], ".")
}

// startServer starts the server and waits until it answers.
func (w *world) startServer(ctx context.Context, binary string) (err error) {
	as := &syscall.Credential{NoSetGroups: true}
	if w.asNobody {
		as = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	own := filepath.Join(w.dir, "coredns") // a copy, because the server may not be allowed to read ours
	if err := copyFile(own, binary); err != nil {
		return err
	}
	if w.server, err = startServer(own, w.dir, w.disk, as); err != nil {
		return err
	}
	w.server.log.watch = w.readLog
	for first := (&asker{w: w, network: "udp"}); ; {
		if _, err := first.exchange(new(dns.Msg).SetQuestion(w.subjects[0].name, dns.TypeA)); err == nil {
			first.hangUp()
			return nil
		}
		select {
		case <-w.server.ended:
			return fmt.Errorf("the server does not start: %w\n%s", w.server.err, w.server.log.tail(20))
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func copyFile(to, from string) error {
	in, err := os.Open(from) //nolint:gosec // the user's choice
	if err != nil {
		return err
	}
	defer in.Close()                                            //nolint:errcheck // only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755) //nolint:gosec // the server runs it
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}

// saysBlind is what CoreDNS' prometheus logs if it cannot listen. If descriptors run out during a
// reload, that is final: it regards the address as served, and no later reload brings the metrics
// back.
const saysBlind = "Failed to start metrics handler"

// readLog looks for what the server must never say.
func (w *world) readLog(line string) {
	if strings.Contains(line, saysBlind) {
		w.blind.Store(true)
	}
	for _, never := range []string{"panic", "PANIC", "Recovered", "fatal error", "DATA RACE"} {
		if strings.Contains(line, never) {
			w.violation("the server panics", "the log says %q", strings.TrimSpace(line))
		}
	}
}

// people makes the RRsets and the clients that ask for them. Together they ask at most load times a
// second.
func (w *world) people(load int) {
	alone := func(name string, qtype uint16, set *rrset) *subject {
		return w.subject(name, qtype, set, &strict{})
	}
	v4, v6 := someAddrs("192.0.2.1"), someAddrs("2001:db8::1")
	var solo, crowd []*subject
	for _, zone := range []string{"file.test.", "up.test.", "cached.test."} {
		solo = append(solo, alone("alone."+zone, dns.TypeA, &rrset{members: v4}), alone("alone."+zone, dns.TypeAAAA, &rrset{members: v6[:3]}))
		crowd = append(crowd, w.subject("crowd."+zone, dns.TypeA, &rrset{members: v4}, nil))
	}
	solo = append(solo, w.subject("weighted.file.test.", dns.TypeA, &rrset{members: v4}, nil),
		alone("over.file.test.", dns.TypeA, &rrset{members: v4}), w.subject("client.sticky.test.", dns.TypeA, &rrset{members: v4}, &faithful{}))
	for _, f := range w.farms {
		solo = append(solo, alone("alone."+f.name+".pool.test.", dns.TypeA, w.pooled(f)))
		crowd = append(crowd, w.subject("crowd."+f.name+".pool.test.", dns.TypeA, w.pooled(f), nil))
	}
	solo = append(solo, w.targeted(w.farmNamed(farmOfTargets))...)
	solo = append(solo, alone("alone.pool.up.test.", dns.TypeA, w.pooled(w.farms[0])))
	crowd = append(crowd, w.subject("crowd.pool.up.test.", dns.TypeA, w.pooled(w.farms[0]), nil))
	overTCP := []*subject{alone("tcp.file.test.", dns.TypeA, &rrset{members: v4}), alone("tcp.tcp.pool.test.", dns.TypeA, w.pooled(w.farms[0]))}
	overTLS := []*subject{alone("alone.dot.test.", dns.TypeA, &rrset{members: v4}), alone("alone.pool.dot.test.", dns.TypeA, w.pooled(w.farms[1]))}
	crowdTLS := []*subject{w.subject("crowd.dot.test.", dns.TypeA, &rrset{members: v4}, nil), w.subject("crowd.pool.dot.test.", dns.TypeA, w.pooled(w.farms[1]), nil)}
	w.hire(load, solo, crowd, overTCP, overTLS, crowdTLS)
}

// targeted returns the subjects whose members lead to others, are hints, are signed, or are left as
// they are.
func (w *world) targeted(f *farm) (all []*subject) {
	add := func(name string, qtype uint16, set *rrset, o order) {
		all = append(all, w.subject(name, qtype, set, o))
	}
	for _, zone := range []string{"targets.pool.test.", "targets.up.test."} {
		add("srv."+zone, dns.TypeSRV, w.pooled(f).led("srv."+zone, 1), &strict{})
		add("mx."+zone, dns.TypeMX, w.pooled(f).led("mx."+zone, 2), &strict{})
		add("https."+zone, dns.TypeHTTPS, w.pooled(f), &strict{})
	}
	signed := w.pooled(f)
	signed.key = w.key
	add("alone."+signedZone, dns.TypeA, signed, &strict{})
	add("plain."+signedZone, dns.TypeA, w.pooled(f), &strict{})
	observed := func() *rrset {
		set := w.pooled(f)
		set.exact, set.ttl, set.lacking = true, zoneTTL, 0
		return set
	}
	add("alone.observed.pool.test.", dns.TypeA, observed(), &faithful{})
	add("srv.observed.pool.test.", dns.TypeSRV, observed().led("srv.observed.pool.test.", 1), &faithful{})
	add("https.observed.pool.test.", dns.TypeHTTPS, observed(), &faithful{})
	return all
}

// farmNamed returns a farm.
func (w *world) farmNamed(name string) *farm {
	return w.farms[slices.IndexFunc(w.farms, func(f *farm) bool { return f.name == name })]
}

// hire makes the clients: one for each RRset that only one client asks for, or two if it is the
// only one of a protocol, and some for the other RRsets.
func (w *world) hire(load int, solo, crowd, overTCP, overTLS, crowdTLS []*subject) {
	for _, s := range slices.Concat(crowd, crowdTLS) {
		if s.health == nil {
			s.tally = &tally{w: w, name: s.name, leads: make(map[netip.Addr]int)}
		}
	}
	forwarded := func(s *subject) bool { return s.forwarded }
	here := slices.DeleteFunc(slices.Clone(crowd), forwarded)
	add := func(network string, share int, subjects ...*subject) {
		w.askers = append(w.askers, &asker{w: w, network: network, subjects: subjects, rate: max(load*share/100, 1)})
	}
	for _, s := range solo { // 30 of them
		add("udp", 2, s)
	}
	for range 4 {
		add("udp", 8, here...)
	}
	for range 2 {
		add("udp", 4, slices.DeleteFunc(slices.Clone(crowd), func(s *subject) bool { return !s.forwarded })...)
		add("tcp", 4, here...)
		add("tls", 4, crowdTLS...)
	}
	add("tcp", 4, overTCP...)
	add("tls", 4, overTLS...)
}

// pooled returns the RRset whose members are a farm's.
func (w *world) pooled(f *farm) *rrset {
	set := &rrset{members: f.addrs(), timing: f.timing, lacking: 5, ttl: 30, health: make(map[netip.Addr]*timeline[health])}
	for _, b := range f.backends {
		set.health[b.addr.Addr()] = b.history
	}
	return set
}

// subject makes an RRset known to the judge and the upstream.
func (w *world) subject(name string, qtype uint16, set *rrset, o order) *subject {
	set.name, set.qtype = name, qtype
	set.forwarded = zoneOf(name) == "up.test" || zoneOf(name) == "cached.test"
	set.cached = zoneOf(name) == "cached.test"
	if set.ttl == 0 {
		set.ttl = zoneTTL
	}
	set.glueTTL = zoneTTL
	w.upstream.sets[setKey(name, qtype)], w.upstream.names[name] = set, true
	s := &subject{rrset: set, order: o}
	w.subjects = append(w.subjects, s)
	return s
}

// someAddrs returns addresses from one on.
func someAddrs(first string) (all []netip.Addr) {
	for a := netip.MustParseAddr(first); len(all) < membersOf; a = a.Next() {
		all = append(all, a)
	}
	return all
}

func (w *world) clientTLS() *tls.Config { return clientTLS(w.pki.roots) }

// hush stops the askers while f runs.
func (w *world) hush(f func()) {
	w.gate.Lock()
	defer w.gate.Unlock()
	w.hushes++
	for _, a := range w.askers {
		a.hangUp()
	}
	f()
}

// answered counts an answer.
func (w *world) answered(set *rrset, network string, excused bool) {
	w.count.query(set.kind(), network, excused)
}

// lost counts a query without a reply, and reports whether a fault explains it.
func (w *world) lost(set *rrset, network string, from, to time.Time, err error) {
	why := ""
	switch {
	case w.starvation(from, to) && (network != "udp" || set.forwarded):
		why = "descriptors run out"
	case network != "udp" && w.reloaded(from, to):
		why = "a reload closes connections"
	case set.forwarded && w.reloaded(from, to) && !only(w.quirk.during(from.Add(-grace-w.busy()), to), nil):
		why = "a reload does not wait for a slow upstream"
	case network == "udp" && w.dropped(from, to):
		why = "the server's receive buffer was full"
	}
	w.count.lost(set.kind(), network, why)
	if why == "" {
		w.violation("a query is lost", "%s %s over %s: %s, asked at %.1fs, a reload under way: %v (%v)",
			set.name, dns.Type(set.qtype), network, reasonOf(err), from.Sub(w.began).Seconds(), w.reloaded(from, from), err)
	}
}

// reloaded reports whether a reload was under way. CoreDNS gives the old servers five seconds to
// answer what they have in hand, and closes their sockets then.
func (w *world) reloaded(from, to time.Time) bool {
	return slices.Contains(w.reloading.during(from.Add(-grace), to), true)
}

// violation counts a violation, and prints it if it is one of the first of its kind.
func (w *world) violation(class, format string, args ...any) {
	if w.server != nil && w.server.stopping.Load() {
		return
	}
	text := fmt.Sprintf(format, args...)
	if w.count.violation(class, text) {
		fmt.Fprintf(w.progress, "%6.1fs VIOLATION %s: %s [%s]\n", time.Since(w.began).Seconds(), class, text, strings.Join(w.count.active(), ", ")) //nolint:errcheck // for people
	}
}

// lateness is how late this process and the server run because of other work on the machine. Safe
// for concurrent use.
type lateness struct {
	mu   sync.Mutex
	last []time.Duration // of the last ticks
	seen time.Duration   // a step of the longest that the server took to answer since then

	ticks, long int // of all; those at which bounds were longer by much
	worst       time.Duration
}

const (
	latenessTick = 20 * time.Millisecond
	latenessKept = 1000 // ticks: twenty seconds, longer than any bound on a machine that is quiet
	lateSteps    = 8
	answerSteps  = 4 // of these an answer takes in

	// The most that an answer's time counts. Otherwise a server that stands still would make the
	// judge lenient for minutes.
	mostOfServer = 500 * time.Millisecond
	muchLonger   = time.Second
)

func (l *lateness) watch(ctx context.Context) {
	for due := time.Now().Add(latenessTick); pause(ctx, time.Until(due)) == nil; due = time.Now().Add(latenessTick) {
		l.mu.Lock()
		l.last = append(l.last, max(time.Since(due), l.seen))
		l.seen = 0
		l.last = l.last[max(0, len(l.last)-latenessKept):]
		l.mu.Unlock()
		l.note(l.busy())
	}
}

// note counts by how much bounds were extended.
func (l *lateness) note(busy time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ticks++
	l.worst = max(l.worst, busy)
	if busy > muchLonger {
		l.long++
	}
}

// String says how lenient the judge had to be.
func (l *lateness) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("bounds were longer by up to %s for what was late, and by more than %s for %.0f %% of the time",
		l.worst.Round(10*time.Millisecond), muchLonger, 100*float64(l.long)/float64(max(l.ticks, 1)))
}

// busy returns by how much to extend bounds: lateSteps times the worst lateness of the last twenty
// seconds, because what is bounded takes several steps in two processes.
func (l *lateness) busy() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.last) == 0 {
		return 0
	}
	return lateSteps * max(slices.Max(l.last), l.seen)
}

// answered notes how long the server took for an answer that needs no upstream, because the server
// may be late when this process is not.
func (l *lateness) answered(took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = max(l.seen, min(took, mostOfServer)/answerSteps)
}
