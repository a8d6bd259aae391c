// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-f1518d44/balance/internal/fleet"
	"github.com/seed-f1518d44/balance/internal/fleet/gossip"
)

// replica is this process' part in a fleet. A reload of the Corefile keeps it: a new server joins
// it before the old one leaves it, and what the new Corefile changes is in force once the old
// server is gone. So a reload that fails changes nothing.
type replica struct {
	name     string // of the fleet
	hub      *fleet.Fleet
	handover *handover
	around   *surroundings
	session  atomic.Pointer[session] // nil while it has no sockets

	// Guarded by the lock of replicas.
	users   []replicaUser // the oldest first
	problem string        // why the sockets could not be opened
	again   *time.Timer   // when opening them is tried again; nil if it never failed
}

// session is the time in which a replica has its sockets open and the same options in force.
// Immutable.
type session struct {
	block   *fleetBlock // in force
	carrier *gossip.Carrier
	opened  time.Time // the sockets
	cancel  context.CancelFunc
	tasks   *sync.WaitGroup
}

// replicaUser is a server block that takes part, and what its Corefile says.
type replicaUser struct {
	member any // identifies it
	block  *fleetBlock
}

// surroundings is what a replica asks of the rules that run.
type surroundings struct {
	resolve    gossip.Resolver
	localityOf func(addr netip.Addr) string
	keeper     func(told *handover) fleet.Keeper
}

const (
	leaveWithin     = 2 * time.Second // for leaving a fleet in order
	joinedWithin    = 5 * time.Second // how long Ready waits for the state of other replicas
	bindAgain       = 5 * time.Second // between attempts to open sockets
	localityPeriod  = time.Second     // how often the replica's own locality is looked up
	maxHostName     = 60              // of a replica's name
	randomNameBytes = 4
)

// replicas are those of the process: one, or two while a reload replaces one fleet by another. Safe
// for concurrent use.
type replicas struct {
	around surroundings

	mu      sync.Mutex
	all     []*replica              // the oldest first; only that one has sockets
	current atomic.Pointer[replica] // the oldest; nil if there is none
}

// replicaName is the name of this process in its fleet. A process that starts again is another
// replica.
var replicaName = sync.OnceValue(func() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "replica"
	}
	id := make([]byte, randomNameBytes)
	_, _ = rand.Read(id)
	return plainName(host[:min(len(host), maxHostName)]) + "-" + hex.EncodeToString(id)
})

// plainName returns a host name with a hyphen in place of each byte that no host name has: other
// replicas would refuse it.
func plainName(host string) string {
	plain := []byte(host)
	for i, b := range plain {
		if b <= ' ' || b > '~' {
			plain[i] = '-'
		}
	}
	return string(plain)
}

// join has a member take part in the fleet of its block, and returns the replica. It returns an
// error if the sockets cannot be opened.
func (p *replicas) join(member any, block *fleetBlock) (*replica, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.named(block.name)
	if r == nil {
		r = p.newReplica(block)
		p.all = append(p.all, r)
	}
	r.users = append(r.users, replicaUser{member, block})
	if err := p.tryOut(r, block); err != nil {
		p.remove(member)
		return nil, &lineError{block.place("listen"), err}
	}
	p.current.Store(p.all[0])
	return r, nil
}

func (p *replicas) newReplica(block *fleetBlock) *replica {
	r := &replica{name: block.name, hub: fleet.New(block.config()), handover: new(handover), around: &p.around}
	r.handover.ready = r.ready
	r.hub.Keep(handoverName, p.around.keeper(r.handover))
	return r
}

// tryOut opens the sockets of the first replica, and makes sure that others can be opened later.
func (p *replicas) tryOut(r *replica, block *fleetBlock) error {
	first := p.all[0]
	now := first.session.Load()
	if r == first && now == nil {
		return p.open(r, block)
	}
	if now == nil || sameSockets(now.block.listen, block.listen) {
		return nil
	}
	c, err := gossip.Listen(block.options(nil))
	if err != nil {
		return cannotListen(block, err)
	}
	c.Leave(context.Background())
	return nil
}

// sameSockets reports whether sockets cannot be open at both of two addresses.
func sameSockets(a, b netip.AddrPort) bool {
	return a.Port() == b.Port() && (a.Addr() == b.Addr() || !isOne(a.Addr()) || !isOne(b.Addr()))
}

func cannotListen(block *fleetBlock, err error) error {
	return fmt.Errorf("fleet: cannot listen on %s: %w", gossip.ListenText(block.listen), reasonOfListen(err))
}

// place returns the line of an option, or the first line of the block.
func (b *fleetBlock) place(option string) position {
	if at, given := b.at[option]; given {
		return at
	}
	return b.heading
}

func (p *replicas) named(name string) *replica {
	at := slices.IndexFunc(p.all, func(r *replica) bool { return r.name == name })
	if at < 0 {
		return nil
	}
	return p.all[at]
}

// leave ends what join began. The last member of a fleet leaves it.
func (p *replicas) leave(member any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(member)
	p.settle()
}

// remove removes a member, and closes the replica that nobody uses any more.
func (p *replicas) remove(member any) {
	for _, r := range p.all {
		r.users = slices.DeleteFunc(r.users, func(u replicaUser) bool { return u.member == member })
		if len(r.users) > 0 {
			continue
		}
		if r.session.Load() != nil {
			log.Infof("fleet %s: this replica leaves", r.name)
		}
		r.close()
	}
	p.all = slices.DeleteFunc(p.all, func(r *replica) bool { return len(r.users) == 0 })
}

// settle puts into force what the oldest member's Corefile says.
func (p *replicas) settle() {
	if len(p.all) == 0 {
		p.current.Store(nil)
		return
	}
	first := p.all[0]
	p.current.Store(first)
	block, now := first.users[0].block, first.session.Load()
	switch {
	case now == nil:
		p.openLater(first)
	case now.block == block:
	case now.block.restartsFor(block) != "":
		p.restart(first, now.block.restartsFor(block))
	default:
		first.adopt(block)
	}
}

// restart has a replica leave its fleet and join again.
func (p *replicas) restart(r *replica, why string) {
	log.Infof("fleet %s: leaves and joins again, because %s", r.name, why)
	r.close()
	p.openLater(r)
}

// moved restarts the replica that has a carrier, because another address reaches it now.
func (p *replicas) moved(carrier *gossip.Carrier, to netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.all) == 0 {
		return
	}
	if now := p.all[0].session.Load(); now != nil && now.carrier == carrier {
		p.restart(p.all[0], fmt.Sprintf("others reach it at %s now, and not at %s any more", to, carrier.Advertised()))
	}
}

// openLater opens the sockets of a replica that is in use already. If that fails it tries again from
// time to time, until something else opens them or the replica ends. The same error is logged once.
func (p *replicas) openLater(r *replica) {
	block := r.users[0].block
	err := p.open(r, block)
	if err == nil {
		return
	}
	if problem := (&lineError{block.place("listen"), err}).Error(); problem != r.problem {
		r.problem = problem
		log.Errorf("%s; this replica works by itself and tries again every %s", problem, bindAgain)
	}
	r.hub.Forget()
	if r.again != nil {
		r.again.Reset(bindAgain)
		return
	}
	r.again = time.AfterFunc(bindAgain, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if slices.Index(p.all, r) == 0 && r.session.Load() == nil {
			p.openLater(r)
		}
	})
}

// restartsFor returns why the replica cannot go on with the same sockets if another block takes the
// place of this one, "" if it can.
func (b *fleetBlock) restartsFor(by *fleetBlock) string {
	switch {
	case b.listen != by.listen:
		return fmt.Sprintf("listen changed from %s to %s", gossip.ListenText(b.listen), gossip.ListenText(by.listen))
	case b.advertise != by.advertise:
		return "advertise changed"
	case b.keys == nil && by.keys != nil:
		return "key was added"
	case b.keys != nil && by.keys == nil:
		return "key was removed"
	}
	return ""
}

// config returns what the hub has to know.
func (b *fleetBlock) config() fleet.Config {
	return fleet.Config{Name: b.name, Replica: replicaName(), Locality: b.locality, Probers: b.probers, Quorum: b.quorum, Log: log}
}

// options returns what the carrier has to know.
func (b *fleetBlock) options(resolve gossip.Resolver) gossip.Options {
	o := gossip.Options{
		Fleet: b.name, Replica: replicaName(), Versions: fleet.Understood, Locality: b.locality,
		Listen: b.listen, Advertise: b.advertise, Join: b.join, Resolve: resolve, Log: log,
	}
	if b.keys != nil {
		o.Keys = *b.keys.keys.Load()
	}
	return o
}

// open opens the sockets of a replica, which joins the fleet.
func (p *replicas) open(r *replica, block *fleetBlock) error {
	var carrier *gossip.Carrier
	options := block.options(p.around.resolve)
	options.Moved = func(to netip.AddrPort) { go p.moved(carrier, to) }
	carrier, err := gossip.Listen(options)
	if err != nil {
		return cannotListen(block, err)
	}
	r.problem = ""
	r.hub.Configure(block.config())
	r.hub.Start(carrier)
	carrier.Start(r.hub)
	r.begin(block, carrier, time.Now())
	return nil
}

// begin begins a session, which follows the key file and the replica's locality.
func (r *replica) begin(block *fleetBlock, carrier *gossip.Carrier, opened time.Time) {
	ctx, cancel := context.WithCancel(context.Background())
	s := &session{block, carrier, opened, cancel, new(sync.WaitGroup)}
	if block.keys != nil {
		changed := func(keys [][]byte) {
			carrier.SetKeys(keys)
			log.Infof("fleet %s: key: %d in force from %s, the first of which encrypts", block.name, len(keys), block.keys.Name())
		}
		block.keys.changed.Store(&changed)
		s.tasks.Go(func() { block.keys.Poll(ctx) })
	}
	if block.locality == "" {
		s.tasks.Go(func() { followLocality(ctx, carrier, r.around.localityOf) })
	}
	r.session.Store(s)
}

// end ends what begin began.
func (s *session) end() {
	s.cancel()
	s.tasks.Wait()
}

// adopt puts another block into force whose sockets are the same.
func (r *replica) adopt(block *fleetBlock) {
	s := r.session.Load()
	s.end()
	r.hub.Configure(block.config())
	s.carrier.SetJoin(block.join)
	if block.keys != nil {
		s.carrier.SetKeys(*block.keys.keys.Load())
	}
	if block.locality != "" {
		s.carrier.SetLocality(block.locality)
	}
	r.begin(block, s.carrier, s.opened)
}

// close leaves the fleet in order and closes the sockets.
func (r *replica) close() {
	s := r.session.Swap(nil)
	if s == nil {
		return
	}
	s.end()
	ctx, cancel := context.WithTimeout(context.Background(), leaveWithin)
	defer cancel()
	r.hub.Stop(ctx)
}

// problems returns what keeps the replica from the others.
func (r *replica) problems() []string {
	if s := r.session.Load(); s != nil {
		return s.carrier.Problems()
	}
	return []string{"the sockets cannot be opened, so this replica works by itself; the log says why"}
}

// ready reports whether the replica has taken over what others know, or has waited long enough.
func (r *replica) ready() bool {
	s := r.session.Load()
	return s == nil || time.Since(s.opened) > joinedWithin || s.carrier.Joined() && !r.hub.TakingOver()
}

// followLocality tells others the locality of the address that this replica advertises, which
// depends on the nodes of a cluster if localities come from there.
func followLocality(ctx context.Context, carrier *gossip.Carrier, localityOf func(netip.Addr) string) {
	ticks := time.NewTicker(localityPeriod)
	defer ticks.Stop()
	for {
		if at := carrier.Advertised(); at.IsValid() {
			carrier.SetLocality(localityOf(at.Addr()))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
	}
}
