// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/seed-f1518d44/balance/internal/fleet"
)

// network is one in memory, with virtual time. memberlist's MockNetwork does not do: it blocks for
// ever on a replica that is gone, and loses and delays nothing. Safe for concurrent use.
type network struct {
	delay time.Duration
	loss  float64

	mu    sync.Mutex
	nodes map[netip.AddrPort]*fakeSockets
	cut   func(a, b netip.AddrPort) bool // nil: nothing is
}

// fakeSockets are those of a replica in a network.
type fakeSockets struct {
	*network
	at      netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
	ctx     context.Context
	cancel  context.CancelFunc
}

var _ memberlist.NodeAwareTransport = (*fakeSockets)(nil)

func (n *network) sockets(at netip.AddrPort) *fakeSockets {
	s := &fakeSockets{network: n, at: at, packets: make(chan *memberlist.Packet, 4096), streams: make(chan net.Conn, 64)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.nodes == nil {
		n.nodes = make(map[netip.AddrPort]*fakeSockets)
	}
	n.nodes[at] = s
	return s
}

// translate makes a replica reachable at one more address, as a NAT does.
func (n *network) translate(to, from netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes[to] = n.nodes[from]
}

// reach returns the replica at an address, nil if nothing gets there.
func (n *network) reach(from netip.AddrPort, to string) *fakeSockets {
	n.mu.Lock()
	defer n.mu.Unlock()
	at := netip.MustParseAddrPort(to)
	if n.cut != nil && n.cut(from, at) {
		return nil
	}
	return n.nodes[at]
}

func (n *network) sever(cut func(a, b netip.AddrPort) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
}

func (s *fakeSockets) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return s.at.Addr().AsSlice(), int(s.at.Port()), nil
}

func (s *fakeSockets) WriteTo(b []byte, to string) (time.Time, error) {
	peer := s.reach(s.at, to)
	if peer == nil || rand.Float64() < s.loss {
		return time.Now(), nil
	}
	p := &memberlist.Packet{Buf: slices.Clone(b), From: net.UDPAddrFromAddrPort(s.at)}
	go func() { // not time.AfterFunc: the race detector of Go 1.26 crashes now and then on timers of a bubble
		time.Sleep(s.delay)
		p.Timestamp = time.Now()
		select {
		case peer.packets <- p:
		default:
		}
	}()
	return time.Now(), nil
}

func (s *fakeSockets) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	return s.WriteTo(b, to.Addr)
}

func (s *fakeSockets) PacketCh() <-chan *memberlist.Packet { return s.packets }
func (s *fakeSockets) StreamCh() <-chan net.Conn           { return s.streams }

// named is an end of a pipe that knows where it comes from.
type named struct {
	net.Conn
	from netip.AddrPort
}

func (n named) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(n.from) }

func (s *fakeSockets) DialTimeout(to string, timeout time.Duration) (net.Conn, error) {
	peer := s.reach(s.at, to)
	pause := 2 * s.delay
	for rand.Float64() < s.loss {
		pause += time.Second
	}
	if peer == nil || pause > timeout || peer.ctx.Err() != nil {
		select {
		case <-time.After(timeout):
		case <-s.ctx.Done():
		}
		return nil, fmt.Errorf("dial %s: timeout", to)
	}
	time.Sleep(pause)
	here, there := net.Pipe()
	context.AfterFunc(peer.ctx, func() { there.Close() })
	peer.streams <- named{there, s.at}
	return named{here, netip.MustParseAddrPort(to)}, nil
}

func (s *fakeSockets) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return s.DialTimeout(to.Addr, timeout)
}

func (s *fakeSockets) Shutdown() error {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.nodes, s.at)
	return nil
}

// replica is a carrier and what it told. Safe for concurrent use.
type replica struct {
	*Carrier
	name string

	mu     sync.Mutex
	heard  map[string]int
	lost   int
	live   []fleet.Replica
	left   map[string]bool // in order
	state  []byte
	merged []string
	lines  []string
}

// testFleet is the name of the fleet in tests.
const testFleet = "dns"

// addrOf returns the address of a replica of a fake network.
func addrOf(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), DefaultPort)
}

// options returns those of a replica.
func (r *replica) options() Options {
	return Options{Fleet: testFleet, Replica: r.name, Versions: fleet.Understood, Log: r, Keys: [][]byte{slices.Repeat([]byte{7}, 32)}}
}

// join starts a replica of the network, which looks for others at those addresses.
func (n *network) join(i int, change func(*Options), others ...int) *replica {
	r := newReplica(fmt.Sprintf("r%d", i))
	o := r.options()
	o.Advertise = addrOf(i)
	for _, other := range others {
		o.Join = append(o.Join, Peer{addrOf(other).Addr().String(), DefaultPort})
	}
	if change != nil {
		change(&o)
	}
	r.Carrier = newCarrier(o, newLimitedLog(o.Log, o.Fleet))
	r.sockets = n.sockets(addrOf(i))
	r.Start(r)
	return r
}

func newReplica(name string) *replica {
	return &replica{name: name, heard: make(map[string]int), left: make(map[string]bool)}
}

func (r *replica) Hear(message []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard[string(message)]++
}

func (r *replica) Members(live []fleet.Replica) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live = live
}

func (r *replica) Left(name string, inOrder bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left[name] = inOrder
}

func (r *replica) Lost(messages int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost += messages
}

func (r *replica) State(joining bool) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !joining {
		return nil
	}
	if r.state == nil {
		return []byte("state of " + r.name)
	}
	return r.state
}

func (r *replica) Merge(state []byte, joining bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if joining {
		r.merged = append(r.merged, string(state))
	}
}

func (r *replica) logf(level, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, level+" "+fmt.Sprintf(format, args...))
}

func (r *replica) Debugf(format string, args ...any)   { r.logf("DEBUG", format, args...) }
func (r *replica) Infof(format string, args ...any)    { r.logf("INFO", format, args...) }
func (r *replica) Warningf(format string, args ...any) { r.logf("WARNING", format, args...) }
func (r *replica) Errorf(format string, args ...any)   { r.logf("ERROR", format, args...) }

// names returns the live replicas, as this one knows them.
func (r *replica) names() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for _, one := range r.live {
		names = append(names, one.Name)
	}
	return strings.Join(names, " ")
}

// count returns how many there are.
func (r *replica) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.live)
}

// first returns the first live replica by name.
func (r *replica) first() fleet.Replica {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live[0]
}

// tookOver returns the first state that this replica merged.
func (r *replica) tookOver() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.merged) == 0 {
		return "none"
	}
	return r.merged[0]
}

// takenOver returns how many states this replica merged.
func (r *replica) takenOver() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.merged)
}

// lostNow returns how many messages were lost.
func (r *replica) lostNow() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

// end returns how another replica left.
func (r *replica) end(name string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	inOrder, left := r.left[name]
	switch {
	case !left:
		return "not at all"
	case inOrder:
		return "in order"
	}
	return "dead"
}

// times returns how often a message was heard.
func (r *replica) times(message string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.heard[message]
}

// said returns the lines of the log that hold a text, without those for debugging.
func (r *replica) said(part string) (lines []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.lines {
		if !strings.HasPrefix(line, "DEBUG") && strings.Contains(line, part) {
			lines = append(lines, line)
		}
	}
	return lines
}

// virtual runs a test in virtual time. It fails if a goroutine does not end after the test.
func virtual(t *testing.T, test func(t *testing.T, n *network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		test(t, new(network))
		time.Sleep(listEnds)
	})
}

// listEnds is how long goroutines of memberlist take to end: a probe lasts so long if many failed
// before.
const listEnds = 10 * time.Second

func leave(replicas ...*replica) {
	var all sync.WaitGroup
	for _, r := range replicas {
		all.Go(func() { r.Leave(context.Background()) })
	}
	all.Wait()
}

// within waits until something holds, and fails if it does not in that time.
func within(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}
