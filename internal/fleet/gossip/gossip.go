// SPDX-License-Identifier: Apache-2.0

// Package gossip carries what replicas of a fleet say to each other. Membership, the detection of
// replicas that are gone, and encryption are hashicorp/memberlist's.
//
//	gossip.go     Carrier: its life, and what it sends
//	members.go    who is there, and what memberlist hands over
//	join.go       how replicas find each other
//	advertise.go  the address that others are told to use
//	states.go     whose states were taken over
//	keys.go       the keys of a fleet
//	transport.go  the sockets, and bounds on what others can do to them
//	log.go        memberlist's log lines, as operators need them
package gossip

import (
	"context"
	stdlog "log"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/seed-f1518d44/balance/internal/fleet"
)

// DefaultPort is where replicas listen, for UDP and TCP.
const DefaultPort = 7946

const (
	// Bytes of a packet; with IPv6 and a tunnel's headers it still fits 1,420.
	maxPacket     = 1320
	outboxSize    = 1024            // messages that wait to be sent
	maxSending    = 256             // large messages that are being sent
	sendingAtOnce = 8               // of these
	defaultLeave  = 2 * time.Second // for saying that this replica leaves
)

// Options are what a carrier is made of. Immutable.
type Options struct {
	Fleet     string // its name; replicas of other fleets are refused
	Replica   string // its unique name
	Versions  fleet.Versions
	Locality  string
	Listen    netip.AddrPort // the zero address: every address
	Advertise netip.AddrPort // the zero value: the address that reaches the others
	// The first encrypts, all decrypt; nil: nothing is encrypted, and only loopback addresses are
	// peers.
	Keys    [][]byte
	Join    []Peer
	Resolve Resolver
	// Moved is called if others cannot reach this replica any more at the address that was guessed:
	// a new carrier can. nil: nobody is interested.
	Moved func(to netip.AddrPort)
	Log   Logger
}

// Carrier is a fleet.Carrier. Safe for concurrent use.
type Carrier struct {
	options  Options
	log      *limitedLog
	sockets  memberlist.NodeAwareTransport
	keys     *memberlist.Keyring
	members  *members
	listener fleet.Listener

	join       atomic.Pointer[[]Peer]
	advertised atomic.Pointer[netip.AddrPort]
	joined     atomic.Bool
	states     states                 // that were taken over
	nobody     atomic.Pointer[string] // why no other replica is found; nil: there are some
	blind      bool                   // the advertised address was guessed without that of another replica
	moved      sync.Once              // for Options.Moved
	hurry      chan struct{}          // holds a token if join or the locality changed

	outbox  chan parcel
	sending chan struct{} // a token for each large message that is being sent
	queued  atomic.Int64  // of these, those that wait too

	ctx     context.Context
	cancel  context.CancelFunc
	tasks   sync.WaitGroup
	created chan struct{}          // closed once list is there
	list    *memberlist.Memberlist // nil if it could not be made
	leave   sync.Once
}

var _ fleet.Carrier = (*Carrier)(nil)

// parcel is a message on its way out.
type parcel struct {
	to      string // a replica; empty: all others
	message []byte
}

// Listen returns a carrier whose sockets are open. It talks to nobody before Start.
func Listen(o Options) (*Carrier, error) {
	log := newLimitedLog(o.Log, o.Fleet)
	c := newCarrier(o, log)
	t, err := listen(o.Listen, log)
	if err != nil {
		return nil, err
	}
	c.options.Listen = netip.AddrPortFrom(o.Listen.Addr(), t.port())
	c.sockets = t
	return c, nil
}

func newCarrier(o Options, log *limitedLog) *Carrier {
	c := &Carrier{
		options: o, log: log, members: newMembers(), hurry: make(chan struct{}, 1), outbox: make(chan parcel, outboxSize),
		sending: make(chan struct{}, sendingAtOnce), created: make(chan struct{}),
	}
	c.members.locality = o.Locality
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.join.Store(&o.Join)
	if len(o.Keys) > 0 {
		c.keys = new(memberlist.Keyring)
		setKeys(c.keys, o.Keys)
	}
	return c
}

// Start begins to look for other replicas and to carry messages. It does not block.
func (c *Carrier) Start(l fleet.Listener) {
	c.listener = l
	c.tasks.Go(c.run)
	c.tasks.Go(c.announce)
	c.tasks.Go(c.send)
}

// SetKeys replaces the keys of a carrier that has some.
func (c *Carrier) SetKeys(keys [][]byte) { setKeys(c.keys, keys) }

// SetJoin replaces where to look for other replicas.
func (c *Carrier) SetJoin(peers []Peer) {
	c.join.Store(&peers)
	c.wake()
}

// SetLocality replaces the locality that others see.
func (c *Carrier) SetLocality(locality string) {
	if c.members.setLocality(locality) {
		c.wake()
	}
}

func (c *Carrier) wake() {
	select {
	case c.hurry <- struct{}{}:
	default:
	}
}

// Advertised returns the address that others are told to use, the zero value before it is known.
func (c *Carrier) Advertised() netip.AddrPort {
	if at := c.advertised.Load(); at != nil {
		return *at
	}
	return netip.AddrPort{}
}

// Joined reports whether this replica has taken the state of another one over, or knows that there
// is none.
func (c *Carrier) Joined() bool { return c.joined.Load() }

// Problems returns what keeps this replica from others, or others from it.
func (c *Carrier) Problems() []string {
	problems := c.log.problems()
	if nobody := c.nobody.Load(); nobody != nil {
		problems = append([]string{*nobody}, problems...)
	}
	return problems
}

// run makes the member list and keeps looking for other replicas.
func (c *Carrier) run() {
	at, ok := c.choose()
	if ok {
		c.advertised.Store(&at)
		c.list = c.makeList(at)
	}
	close(c.created)
	if c.list != nil {
		c.seek()
	}
}

// makeList makes the member list and begins to receive. It returns nil if that fails.
func (c *Carrier) makeList(at netip.AddrPort) *memberlist.Memberlist {
	if t, ok := c.sockets.(*transport); ok {
		t.advertise.Store(&at)
		t.start()
	}
	list, err := memberlist.Create(c.config())
	if err != nil {
		c.log.Errorf("fleet %s: cannot start: %v", c.options.Fleet, err)
		return nil
	}
	c.log.Infof("fleet %s: replica %s listens on %s, others reach it at %s", c.options.Fleet, c.options.Replica, ListenText(c.options.Listen), at)
	return list
}

// config returns memberlist's configuration. It starts from what is meant for a LAN, and holds for
// 200 ms of delay each way and for 500 replicas: a probe that is lost is repeated by others and
// over TCP, and a memberlist that sees many fail gives them more time by itself.
func (c *Carrier) config() *memberlist.Config {
	o := memberlist.DefaultLANConfig()
	o.Name, o.Label = c.options.Replica, c.options.Fleet
	o.Transport = c.sockets
	o.BindPort = int(c.options.Listen.Port())
	o.Keyring = c.keys
	o.Delegate, o.Events, o.Alive = &delegate{c}, &delegate{c}, &delegate{c}
	o.Logger = stdlog.New(listLog{c.log}, "", 0)
	o.LogOutput = nil
	o.UDPBufferSize = maxPacket
	o.EnableCompression = false // messages are compact, and it would cost more than it saves
	// A replica that is dead is out after 12 s, even if few others notice.
	o.SuspicionMaxTimeoutMult = 3
	o.RetransmitMult = 6 // of ten copies that others send, two may be lost
	o.GossipNodes = 4
	o.DeadNodeReclaimTime = time.Second
	return o
}

// Tell implements fleet.Carrier.
func (c *Carrier) Tell(name string, message []byte) { c.post(parcel{name, message}) }

// TellAll implements fleet.Carrier. It sends a message to each replica itself, however many there
// are. To have them pass it on would be many times the packets: each would send it to a dozen
// others, for all to hear it with certainty.
func (c *Carrier) TellAll(message []byte) { c.post(parcel{"", message}) }

// post has a parcel sent soon. Before there is a member list it is for nobody.
func (c *Carrier) post(p parcel) {
	if c.listNow() == nil {
		return
	}
	select {
	case c.outbox <- p:
	default:
		c.listener.Lost(len(c.members.others(p.to, c.options.Replica)))
		c.log.warn("outbox", "", "messages are lost, because more than %d wait to be sent", outboxSize)
	}
}

// send sends parcels until the carrier ends.
func (c *Carrier) send() {
	select {
	case <-c.created:
	case <-c.ctx.Done():
		return
	}
	for {
		select {
		case <-c.ctx.Done():
			return
		case p := <-c.outbox:
			for _, node := range c.members.others(p.to, c.options.Replica) {
				c.deliver(node, p.message)
			}
		}
	}
}

// deliver sends a message to a replica: in a packet, or over a connection if it is too large for
// one.
func (c *Carrier) deliver(node *memberlist.Node, message []byte) {
	if len(message) <= fleet.MaxDatagram {
		c.sent(node, c.list.SendBestEffort(node, message))
		return
	}
	if c.queued.Add(1) > maxSending {
		c.queued.Add(-1)
		c.listener.Lost(1)
		c.log.warn("sending", "", "messages are lost, because more than %d large ones wait to be sent", maxSending)
		return
	}
	c.tasks.Go(func() {
		defer c.queued.Add(-1)
		select {
		case c.sending <- struct{}{}:
			defer func() { <-c.sending }()
		case <-c.ctx.Done():
			return
		}
		c.sent(node, c.list.SendReliable(node, message))
	})
}

// sent counts a message that could not be sent. The log names replicas that are gone anyway.
func (c *Carrier) sent(to *memberlist.Node, err error) {
	if err != nil {
		c.listener.Lost(1)
		c.log.Debugf("fleet %s: cannot send to %s: %v", c.options.Fleet, to.Name, err)
	}
}

// Leave implements fleet.Carrier. Without a deadline it takes at most two seconds.
func (c *Carrier) Leave(ctx context.Context) { c.leave.Do(func() { c.leaveWithin(ctx) }) }

func (c *Carrier) leaveWithin(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, defaultLeave)
	defer cancel()
	c.cancel()
	if list := c.listNow(); list != nil && ctx.Err() == nil {
		end, _ := ctx.Deadline()
		c.members.setLeaving()
		_ = list.UpdateNode(max(time.Until(end)/2, time.Millisecond)) // too late is no matter
		_ = list.Leave(max(time.Until(end), time.Millisecond))
	}
	c.close()
}

// listNow returns the member list, nil if there is none yet.
func (c *Carrier) listNow() *memberlist.Memberlist {
	select {
	case <-c.created:
		return c.list
	default:
		return nil
	}
}

// close closes the sockets and waits for the goroutines. Those of memberlist cannot be waited for:
// they end by themselves within seconds, and their calls lead nowhere.
func (c *Carrier) close() {
	c.members.close()
	_ = c.sockets.Shutdown()
	c.tasks.Wait()
	if c.list != nil {
		_ = c.list.Shutdown()
	}
}
