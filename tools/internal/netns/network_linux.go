// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxHosts bounds the hosts of a network.
const maxHosts = 16

// Network carries IPv4 packets between its hosts. This process is the wire: the other end of each
// host's device is a file that it reads and writes. So packets can be lost, late and counted
// without help from the kernel, and nothing outside the hosts changes. Safe for concurrent use, but
// hosts are added before packets flow.
type Network struct {
	prefix  netip.Prefix
	hosts   []*Host
	links   [maxHosts][maxHosts]link
	swallow sync.Map // netip.Addr: what is sent there is dropped
	readers sync.WaitGroup
}

// Faults are what goes wrong with packets on their way. The zero value is a good link.
type Faults struct {
	Cut   bool
	Loss  float64       // share of the packets that get lost
	Delay time.Duration // of each packet
}

// link is the way from one host to another.
type link struct {
	faults atomic.Pointer[Faults] // nil: none
	bytes  atomic.Uint64          // that arrived, with IP headers
}

// NewNetwork returns a network without hosts. All of their addresses are in the prefix.
func NewNetwork(prefix netip.Prefix) *Network { return &Network{prefix: prefix} }

// Add adds a host that has all addresses of a prefix.
func (n *Network) Add(addrs netip.Prefix) (*Host, error) {
	if len(n.hosts) == maxHosts {
		return nil, fmt.Errorf("a network has at most %d hosts", maxHosts)
	}
	h, err := newHost(n.prefix, addrs, len(n.hosts))
	if err != nil {
		return nil, err
	}
	n.hosts = append(n.hosts, h)
	return h, nil
}

// Start begins to carry packets.
func (n *Network) Start() {
	for _, h := range n.hosts {
		n.readers.Go(func() { n.carry(h) })
	}
}

// Close ends all hosts.
func (n *Network) Close() {
	for _, h := range n.hosts {
		h.close()
	}
	n.readers.Wait()
}

// Between sets what is wrong between two hosts, in both directions.
func (n *Network) Between(a, b *Host, f Faults) {
	n.links[a.number][b.number].faults.Store(&f)
	n.links[b.number][a.number].faults.Store(&f)
}

// Swallow drops what is sent to an address from now on, as if its host were switched off.
func (n *Network) Swallow(addr netip.Addr) { n.swallow.Store(addr, true) }

// Restore undoes Swallow.
func (n *Network) Restore(addr netip.Addr) { n.swallow.Delete(addr) }

// Bytes returns how many bytes have arrived at one host from another.
func (n *Network) Bytes(from, to *Host) uint64 {
	return n.links[from.number][to.number].bytes.Load()
}

// carry forwards what a host sends, until the host ends.
func (n *Network) carry(from *Host) {
	packet := make([]byte, 1<<16)
	for {
		size, err := from.tun.Read(packet)
		if err != nil {
			return
		}
		if to, dropped := n.destination(packet[:size]); to != nil && !dropped {
			n.forward(from, to, packet[:size])
		}
	}
}

// destination returns the host that a packet is sent to, or nil, and whether the packet is
// swallowed.
func (n *Network) destination(packet []byte) (to *Host, swallowed bool) {
	const headerLength, destinationAt, version = 20, 16, 4
	if len(packet) < headerLength || packet[0]>>4 != version {
		return nil, false
	}
	addr := netip.AddrFrom4([4]byte(packet[destinationAt:]))
	i := slices.IndexFunc(n.hosts, func(h *Host) bool { return h.addrs.Contains(addr) })
	if i < 0 {
		return nil, false
	}
	_, swallowed = n.swallow.Load(addr)
	return n.hosts[i], swallowed
}

// forward brings a packet to a host, unless the link is faulty. A packet that the host has no room
// for is lost, as on any network.
func (n *Network) forward(from, to *Host, packet []byte) {
	l := &n.links[from.number][to.number]
	f := l.faults.Load()
	if f == nil || *f == (Faults{}) {
		l.deliver(to, packet)
		return
	}
	if f.Cut || rand.Float64() < f.Loss { //nolint:gosec // no secret
		return
	}
	later := slices.Clone(packet)
	time.AfterFunc(f.Delay, func() { l.deliver(to, later) })
}

// deliver counts a packet before it arrives, because the host may answer at once.
func (l *link) deliver(to *Host, packet []byte) {
	size := uint64(len(packet))
	l.bytes.Add(size)
	if _, err := to.tun.Write(packet); err != nil {
		l.bytes.Add(-size)
	}
}
