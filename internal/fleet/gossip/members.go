// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/memberlist"

	"github.com/seed-f1518d44/balance/internal/fleet"
)

// Bounds on what a peer may claim.
const (
	maxReplicas = 4096
	maxName     = 128
	maxLocality = 128
)

// members are the live replicas, as memberlist reports them. memberlist holds its locks while it
// does, so what it says is kept here and handed on by another goroutine. Safe for concurrent use.
type members struct {
	mu       sync.Mutex
	live     map[string]member
	gone     []departure
	closed   bool
	changed  chan struct{} // holds a token if live or gone changed
	locality string        // of this replica
	leaving  bool          // this replica leaves
}

type member struct {
	fleet.Replica
	node *memberlist.Node // a copy
}

// departure is the end of a replica.
type departure struct {
	name    string
	inOrder bool
}

func newMembers() *members {
	return &members{live: make(map[string]member), changed: make(chan struct{}, 1)}
}

// put notes a replica that came or changed. One that says that it leaves counts as gone.
func (m *members) put(node *memberlist.Node) {
	meta, err := parseMeta(node.Meta)
	if err != nil {
		return // NotifyAlive refused it
	}
	if meta.leaving {
		m.drop(node.Name, true)
		return
	}
	copied := *node
	at, _ := netip.AddrFromSlice(node.Addr)
	r := fleet.Replica{
		Name: node.Name, Locality: meta.locality, Versions: meta.versions, Addr: netip.AddrPortFrom(at.Unmap(), node.Port),
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.live[node.Name] = member{r, &copied}
	m.note()
}

// drop notes that a replica is gone.
func (m *members) drop(name string, inOrder bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.live[name]; !ok {
		return
	}
	delete(m.live, name)
	m.gone = append(m.gone, departure{name, inOrder})
	m.note()
}

// note has the listener told of a change. The caller holds the lock.
func (m *members) note() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// take returns what the listener has not been told yet. open reports whether it still listens.
func (m *members) take() (live []fleet.Replica, gone []departure, open bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range m.live {
		live = append(live, one.Replica)
	}
	slices.SortFunc(live, func(a, b fleet.Replica) int { return strings.Compare(a.Name, b.Name) })
	gone, m.gone = m.gone, nil
	return live, gone, !m.closed
}

// close ends the calls of the listener.
func (m *members) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
}

func (m *members) open() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.closed
}

// count returns how many live replicas there are, with this one.
func (m *members) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.live)
}

// full reports whether there is no room for a replica. A known one has its place.
func (m *members) full(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, known := m.live[name]
	return !known && len(m.live) >= maxReplicas
}

// others returns one replica, or all but this one.
func (m *members) others(name, self string) (nodes []*memberlist.Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if one, ok := m.live[name]; ok {
		return []*memberlist.Node{one.node}
	}
	for other, one := range m.live {
		if name == "" && other != self {
			nodes = append(nodes, one.node)
		}
	}
	return nodes
}

// isAt reports whether a live replica advertises an address.
func (m *members) isAt(at netip.AddrPort) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range m.live {
		if one.Addr == at {
			return true
		}
	}
	return false
}

// has reports whether a replica is live.
func (m *members) has(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, live := m.live[name]
	return live
}

func (m *members) setLocality(locality string) (changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed = m.locality != locality
	m.locality = locality
	return changed
}

func (m *members) setLeaving() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leaving = true
}

// announce tells the listener who is there whenever that changes, until the carrier ends.
func (c *Carrier) announce() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.members.changed:
		}
		live, gone, open := c.members.take()
		if !open {
			return
		}
		for _, one := range gone {
			c.listener.Left(one.name, one.inOrder)
		}
		c.listener.Members(live)
	}
}

// meta is what replicas say of themselves in memberlist's meta data.
type meta struct {
	leaving  bool
	versions fleet.Versions
	locality string
}

// What comes before the locality in meta data; what follows it is for later versions.
const (
	metaVersion = iota // 1
	metaLeaving        // 1: the replica leaves
	metaLowest
	metaHighest
	metaLocality // the length, then the locality
	metaHeader
)

func (m meta) encode() []byte {
	locality := m.locality[:min(len(m.locality), maxLocality)]
	b := []byte{1, 0, m.versions.Lowest, m.versions.Highest, byte(len(locality))}
	if m.leaving {
		b[metaLeaving] = 1
	}
	return append(b, locality...)
}

var errMeta = errors.New("its meta data is no replica's")

func parseMeta(b []byte) (m meta, err error) {
	if len(b) < metaHeader || b[metaVersion] != 1 || b[metaLocality] > maxLocality || len(b) < metaHeader+int(b[metaLocality]) {
		return m, errMeta
	}
	m.leaving = b[metaLeaving] == 1
	m.versions = fleet.Versions{Lowest: b[metaLowest], Highest: b[metaHighest]}
	m.locality = string(b[metaHeader : metaHeader+int(b[metaLocality])])
	if !printable(m.locality) {
		return m, errMeta
	}
	return m, nil
}

// printable reports whether a text may stand in the log, the page and a label as it is.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) || r == '\uFFFD' })
}

// delegate is what memberlist calls.
type delegate struct{ c *Carrier }

var (
	_ memberlist.Delegate      = (*delegate)(nil)
	_ memberlist.EventDelegate = (*delegate)(nil)
	_ memberlist.AliveDelegate = (*delegate)(nil)
)

// NodeMeta implements memberlist.Delegate.
func (d *delegate) NodeMeta(int) []byte {
	m := d.c.members
	m.mu.Lock()
	defer m.mu.Unlock()
	return meta{m.leaving, d.c.options.Versions, m.locality}.encode()
}

// NotifyMsg implements memberlist.Delegate.
func (d *delegate) NotifyMsg(message []byte) {
	if d.c.members.open() {
		d.c.listener.Hear(message)
	}
}

// GetBroadcasts implements memberlist.Delegate. Nothing of ours is passed on from one to another.
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate.
func (d *delegate) LocalState(join bool) []byte {
	if !d.c.members.open() {
		return nil
	}
	state := d.c.listener.State(join)
	if join {
		state = append(origin{d.c.options.Replica, d.c.Joined()}.encode(), state...)
	}
	return state
}

// MergeRemoteState implements memberlist.Delegate.
func (d *delegate) MergeRemoteState(state []byte, join bool) {
	if from, rest, err := parseOrigin(state); join && err == nil {
		d.c.states.note(from, d.c.options.Replica)
		state = rest
	}
	if d.c.members.open() {
		d.c.listener.Merge(state, join)
	}
}

// NotifyJoin implements memberlist.EventDelegate.
func (d *delegate) NotifyJoin(node *memberlist.Node) {
	d.c.log.joined(node.Addr.String())
	d.c.members.put(node)
}

// NotifyUpdate implements memberlist.EventDelegate.
func (d *delegate) NotifyUpdate(node *memberlist.Node) { d.c.members.put(node) }

// NotifyLeave implements memberlist.EventDelegate. A replica that leaves in order has said so
// before.
func (d *delegate) NotifyLeave(node *memberlist.Node) { d.c.members.drop(node.Name, false) }

// NotifyAlive implements memberlist.AliveDelegate. It refuses what is no replica, and what would
// keep memberlist from merging the lists of others.
func (d *delegate) NotifyAlive(node *memberlist.Node) error {
	at, ok := netip.AddrFromSlice(node.Addr)
	at = at.Unmap()
	switch {
	case node.Name == "" || len(node.Name) > maxName || !printable(node.Name):
		return errors.New("its name is empty, too long or not printable")
	case !ok || at.IsUnspecified() || at.IsMulticast() || node.Port == 0:
		return fmt.Errorf("%s, port %d is no address to reach it at", node.Addr, node.Port)
	case d.c.keys == nil && !at.IsLoopback():
		return fmt.Errorf("%s is not a loopback address, and there is no key", at)
	case node.PMin > memberlist.ProtocolVersion2Compatible || node.PMax < memberlist.ProtocolVersion2Compatible:
		return fmt.Errorf("it speaks memberlist's protocol in versions %d to %d", node.PMin, node.PMax)
	case node.DMin != 0 || node.DMax != 0 || node.DCur != 0:
		return errMeta
	case d.c.members.full(node.Name):
		return fmt.Errorf("there are %d replicas already", maxReplicas)
	}
	_, err := parseMeta(node.Meta)
	return err
}
