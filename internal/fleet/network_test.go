// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// network is some replicas in one goroutine, under virtual time: a carrier that loses, delays and
// cuts, a failure detector that takes a while, and a world in which endpoints are up or not.
type network struct {
	t       *testing.T
	rand    *rand.Rand
	base    time.Time
	nodes   []*node
	mu      sync.Mutex // guards the queue: counts are sent by a goroutine of their own
	queue   []packet
	config  Config
	check   Check
	loss    float64
	delay   time.Duration
	jitter  time.Duration
	cut     func(a, b *node) bool                    // no way between two replicas; nil: there is
	down    func(from *node, at netip.AddrPort) bool // what a probe finds
	detects time.Duration
	each    func()        // called after each step
	pace    time.Duration // of steps
	calm    bool          // only joins, leaves and kills change who sees whom
	changed time.Duration // when one of these was last
}

type packet struct {
	at       time.Duration
	from, to *node
	message  []byte
}

// node is a replica with a host that probes like internal/health: rise 2, fall 2, and the first
// result decides.
type node struct {
	net      *network
	name     string
	place    string
	fleet    *Fleet
	share    *Share
	dead     bool
	puppet   bool // it does and says only what a test does in its name
	left     bool
	sees     map[*node]bool
	changing map[*node]time.Duration // since when what it sees differs from what is
	awake    atomic.Bool
	due      time.Duration
	byPair   map[netip.AddrPort]uint32
	slots    []netip.AddrPort
	free     []uint32
	probed   []probing
	verdicts []Decision
	flips    int // verdicts that were published
	allow    func(netip.AddrPort) bool
	probes   int
	notes    notes
}

// notes are a Keeper: what a replica has to say, and what it was told by whom.
type notes struct {
	own  string
	told map[string]string
}

// Save implements Keeper.
func (n *notes) Save() []byte { return []byte(n.own) }

// Load implements Keeper.
func (n *notes) Load(replica string, saved []byte) {
	if n.told == nil {
		n.told = make(map[string]string)
	}
	n.told[replica] = string(saved)
}

type probing struct {
	on      bool
	next    time.Duration
	verdict Verdict
	against int
	probed  bool
}

func newNetwork(t *testing.T, n int) *network {
	w := &network{
		t: t, rand: rand.New(rand.NewPCG(1, 2)), base: time.Now(), detects: 3 * time.Second,
		config: Config{Name: "test", Probers: 3, Log: quiet{}},
		check:  Check{ID: 7, Name: "tcp:80", Interval: 5 * time.Second, Timeout: 2 * time.Second},
		delay:  time.Millisecond,
		pace:   10 * time.Millisecond,
		down:   func(*node, netip.AddrPort) bool { return false },
	}
	for i := range n {
		w.join(fmt.Sprintf("r%d", i), "")
	}
	return w
}

type quiet struct{}

func (quiet) Infof(string, ...any)    {}
func (quiet) Warningf(string, ...any) {}
func (quiet) Errorf(string, ...any)   {}

func (w *network) now() time.Duration { return time.Since(w.base) }

// join adds a replica, which takes the state of one that is there.
func (w *network) join(name, place string) *node {
	c := w.config
	c.Replica, c.Locality = name, place
	n := &node{net: w, name: name, place: place, fleet: New(c), sees: make(map[*node]bool), changing: make(map[*node]time.Duration), byPair: make(map[netip.AddrPort]uint32)}
	n.fleet.Keep("notes", &n.notes)
	n.share = n.fleet.Join(w.check, n)
	n.fleet.Start(n)
	w.t.Cleanup(func() { n.stop() })
	for _, other := range w.nodes {
		if w.reach(n, other) && !other.dead {
			n.fleet.Merge(other.fleet.State(true), true)
			n.sees[other], other.sees[n] = true, true
			other.members()
			break
		}
	}
	w.nodes = append(w.nodes, n)
	w.changed = w.now()
	n.members()
	return n
}

func (n *node) stop() {
	if !n.dead {
		n.dead = true
		n.fleet.Stop(context.Background())
	}
}

// introduce has all replicas see each other at once.
func (w *network) introduce() {
	for _, n := range w.nodes {
		for _, other := range w.nodes {
			if other != n {
				n.sees[other] = true
			}
		}
		n.members()
	}
}

// leave leaves in order.
func (w *network) leave(n *node) {
	n.fleet.Stop(context.Background())
	n.dead, n.left = true, true
	for _, other := range w.nodes {
		if other.sees[n] {
			delete(other.sees, n)
			other.fleet.Left(n.name, true)
			other.members()
		}
	}
}

// restart has a replica begin anew under the same name. Nobody notices that it was gone.
func (w *network) restart(n *node) {
	n.fleet.Stop(context.Background())
	c := w.config
	c.Replica, c.Locality = n.name, n.place
	n.fleet, n.byPair = New(c), make(map[netip.AddrPort]uint32)
	n.slots, n.free, n.probed, n.verdicts = nil, nil, nil, nil
	n.share = n.fleet.Join(w.check, n)
	n.fleet.Start(n)
	n.members()
}

func (w *network) kill(n *node) {
	n.stop()
	w.changed = w.now()
}

func (w *network) reach(a, b *node) bool { return !a.dead && !b.dead && (w.cut == nil || !w.cut(a, b)) }

func (n *node) members() {
	all := []Replica{{Name: n.name, Locality: n.place, Versions: Understood}}
	for other := range n.sees {
		all = append(all, Replica{Name: other.name, Locality: other.place, Versions: Understood})
	}
	n.fleet.Members(all)
}

// Tell implements Carrier.
func (n *node) Tell(name string, message []byte) {
	for _, other := range n.net.nodes {
		if other.name == name {
			n.net.post(n, other, message)
		}
	}
}

// TellAll implements Carrier.
func (n *node) TellAll(message []byte) {
	if len(message) > MaxDatagram {
		n.net.t.Errorf("a message of %d bytes to all", len(message))
	}
	for other := range n.sees {
		n.net.post(n, other, message)
	}
}

// Leave implements Carrier.
func (n *node) Leave(context.Context) {}

func (w *network) post(from, to *node, message []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(message) > MaxMessage {
		w.t.Errorf("a message of %d bytes", len(message))
	}
	if len(message) <= MaxDatagram && w.loss > 0 && w.rand.Float64() < w.loss {
		return
	}
	at := w.now() + w.delay
	if w.jitter > 0 {
		at += rand.N(w.jitter)
	}
	w.queue = append(w.queue, packet{at, from, to, slices.Clone(message)})
}

// run runs for some virtual time.
func (w *network) run(d time.Duration) {
	for end := w.now() + d; w.now() < end; {
		time.Sleep(w.pace)
		w.step()
	}
}

// take takes the packets that have arrived off the queue.
func (w *network) take(now time.Duration) (arrived []packet) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = slices.DeleteFunc(w.queue, func(p packet) bool {
		if p.at <= now {
			arrived = append(arrived, p)
		}
		return p.at <= now
	})
	return arrived
}

func (w *network) step() {
	now := w.now()
	for _, p := range w.take(now) {
		if w.reach(p.from, p.to) {
			p.to.fleet.Hear(p.message)
		}
	}
	for _, n := range w.nodes {
		if !n.dead {
			if !w.calm || now-w.changed < 2*w.detects {
				w.detect(n)
			}
			if !n.puppet {
				n.work()
			}
		}
	}
	if w.each != nil {
		w.each()
	}
}

// detect has a replica notice who is there, after a while.
func (w *network) detect(n *node) {
	changed := false
	for _, other := range w.nodes {
		if other == n || w.reach(n, other) == n.sees[other] {
			delete(n.changing, other)
			continue
		}
		since, known := n.changing[other]
		wait := w.detects
		if !n.sees[other] {
			wait = 200 * time.Millisecond
		}
		switch {
		case !known:
			n.changing[other] = w.now()
		case w.now()-since >= wait:
			delete(n.changing, other)
			if n.sees[other] {
				delete(n.sees, other)
				n.fleet.Left(other.name, false)
			} else {
				n.sees[other] = true
			}
			changed = true
		}
	}
	if changed {
		n.members()
	}
}

// work probes what is due and has the share work.
func (n *node) work() {
	now := n.net.now()
	for i := range n.probed {
		if p := &n.probed[i]; p.on && p.next <= now {
			n.probe(uint32(i), p)
			n.awake.Store(true)
		}
	}
	for range 100 {
		if !n.awake.Load() && n.due > now {
			break
		}
		n.awake.Store(false)
		n.due = n.share.Work()
	}
}

func (n *node) probe(i uint32, p *probing) {
	n.probes++
	down := n.net.down(n, n.slots[i])
	p.next = n.net.now() + n.net.check.Interval
	found := Up
	if down {
		found = Down
	}
	switch {
	case p.verdict == None || p.against == 1 && found != p.verdict:
		p.verdict, p.against = found, 0
	case found != p.verdict:
		p.against++
		p.next = n.net.now() + time.Second
	default:
		p.against = 0
	}
	p.probed = true
	text := ""
	if p.verdict == Down {
		text = "connection refused"
	}
	n.share.Vote(i, Opinion{Verdict: p.verdict}, text)
}

// see is what an answer that holds an endpoint does.
func (n *node) see(at netip.AddrPort) {
	i, known := n.byPair[at]
	if !known {
		i, _ = n.Admit(at)
		n.share.Add(i, true, Opinion{})
	}
	n.share.SetWanted(i, true)
	n.awake.Store(true)
}

// forget is what a host does with an endpoint that no replica wants any more.
func (n *node) forget(at netip.AddrPort) {
	i, known := n.byPair[at]
	if !known {
		return
	}
	n.share.Remove(i)
	delete(n.byPair, at)
	n.free = append(n.free, i)
	n.slots[i], n.probed[i], n.verdicts[i] = netip.AddrPort{}, probing{}, Decision{}
	n.awake.Store(true)
}

// Wake implements Host.
func (n *node) Wake() { n.awake.Store(true) }

// Run implements Host.
func (n *node) Run(call func()) bool { call(); return true }

// Now implements Host.
func (n *node) Now() time.Duration { return n.net.now() }

// Find implements Host.
func (n *node) Find(at netip.AddrPort) (uint32, bool) { i, known := n.byPair[at]; return i, known }

// Admit implements Host.
func (n *node) Admit(at netip.AddrPort) (uint32, bool) {
	if n.allow != nil && !n.allow(at) {
		return 0, false
	}
	if last := len(n.free) - 1; last >= 0 {
		i := n.free[last]
		n.free, n.byPair[at], n.slots[i] = n.free[:last], i, at
		return i, true
	}
	i := uint32(len(n.slots))
	n.byPair[at] = i
	n.slots = append(n.slots, at)
	n.probed = append(n.probed, probing{})
	n.verdicts = append(n.verdicts, Decision{})
	return i, true
}

// At implements Host.
func (n *node) At(i uint32) netip.AddrPort { return n.slots[i] }

// Probe implements Host.
func (n *node) Probe(i uint32, on bool) {
	p := &n.probed[i]
	p.on, p.probed, p.against = on, false, 0
	p.verdict = n.verdicts[i].Verdict
	if p.verdict == NoSay {
		p.verdict = None
	}
	p.next = n.Now()
	if p.verdict != None {
		p.next += rand.N(n.net.check.Interval)
	}
}

// Decide implements Host.
func (n *node) Decide(i uint32, d Decision) {
	if d.Verdict != n.verdicts[i].Verdict {
		n.flips++
	}
	n.verdicts[i] = d
}

// Past implements Host.
func (n *node) Past(i uint32) Past { return Past{time.Minute, n.verdicts[i].Text, []byte("memory")} }

// on returns the verdict of a replica on an endpoint.
func (n *node) on(at netip.AddrPort) Verdict {
	i, known := n.byPair[at]
	if !known {
		return None
	}
	return n.verdicts[i].Verdict
}

// live returns the replicas that run.
func (w *network) live() []*node {
	return slices.DeleteFunc(slices.Clone(w.nodes), func(n *node) bool { return n.dead })
}

// agree fails the test unless all live replicas have a verdict on an endpoint.
func (w *network) agree(at netip.AddrPort, want Verdict) {
	w.t.Helper()
	for _, n := range w.live() {
		if got := n.on(at); got != want {
			w.t.Errorf("%v: %s says %v of %s, want %v; it hears %+v", w.now(), n.name, got, at, want, n.share.Voters(at))
		}
	}
}

// probers returns how many replicas probe an endpoint.
func (w *network) probers(at netip.AddrPort) (count int) {
	for _, n := range w.nodes {
		if i, known := n.byPair[at]; known && !n.dead && n.probed[i].on {
			count++
		}
	}
	return count
}

// endpoints returns n endpoints.
func endpoints(n int) (all []netip.AddrPort) {
	for i := range n {
		all = append(all, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 0))
	}
	return all
}
