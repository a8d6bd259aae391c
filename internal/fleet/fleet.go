// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what a fleet is made of. Immutable.
type Config struct {
	Name     string // of the fleet
	Replica  string // of this replica, as its carrier knows it
	Locality string // of this replica; may be empty
	Probers  int    // replicas that probe each endpoint
	Quorum   int    // votes that make a verdict; 0: more than half of those assigned
	Log      Logger
}

// Logger is where a fleet writes what operators should know.
type Logger interface {
	Infof(format string, args ...any)
	Warningf(format string, args ...any)
	Errorf(format string, args ...any)
}

// Fleet is this replica's part in a fleet: the shares of its checks, and what they have in common.
// Safe for concurrent use.
type Fleet struct {
	config   Config
	base     time.Time
	maxState int // bytes of a state
	traffic  traffic

	mu      sync.Mutex
	carrier Carrier
	probers int
	quorum  int
	members []Replica // sorted by name; this replica is one
	since   map[string]time.Time
	census  census
	inOrder []string // replicas that left in order since the members last changed
	gone    []Gone   // replicas that failed; the last to fail is the last
	shares  map[CheckID]*Share
	retired []*Share                    // whose check another share has taken over
	pending map[CheckID]pending         // states of checks that this replica does not have yet
	foreign map[foreignKey]foreignCheck // checks of other replicas that this one does not have
	keepers map[string]Keeper
	topics  map[uint64]*topic
	countAt time.Duration // when counts are next sent
	logged  bool          // that this replica is alone
	changes changeLog     // of members
	stop    context.CancelFunc
	ended   chan struct{}
}

// view is what shares know of their fleet. Immutable.
type view struct {
	members         []Replica
	alone           bool
	retired         bool // another share of this replica has the check
	probers, quorum int
	version         uint8 // of the messages that every member understands
}

// traffic counts messages. Safe for concurrent use.
type traffic struct{ sent, received, sentBytes, receivedBytes, skipped, lost atomic.Uint64 }

var _ Listener = (*Fleet)(nil)

// New returns a fleet in which this replica is the only one until Start.
func New(c Config) *Fleet {
	f := &Fleet{
		config: c, base: time.Now(), maxState: MaxState, probers: c.Probers, quorum: c.Quorum,
		members: []Replica{{Name: c.Replica, Locality: c.Locality, Versions: Understood}},
		since:   map[string]time.Time{c.Replica: time.Now()},
		shares:  make(map[CheckID]*Share), pending: make(map[CheckID]pending), foreign: make(map[foreignKey]foreignCheck),
		keepers: make(map[string]Keeper), topics: make(map[uint64]*topic),
	}
	f.census, f.changes = f.census.after(1, 0, 0), newChangeLog()
	return f
}

func (f *Fleet) now() time.Duration { return time.Since(f.base) }

// Start begins to talk to the other replicas. It may follow a Stop, with another carrier. Until the
// others are there, this replica does not count as alone.
func (f *Fleet) Start(c Carrier) {
	f.Forget()
	ctx, cancel := context.WithCancel(context.Background())
	f.mu.Lock()
	f.carrier, f.stop, f.ended = c, cancel, make(chan struct{})
	f.mu.Unlock()
	go func() {
		defer close(f.ended)
		f.run(ctx)
	}()
}

// run looks at the members and sends counts from time to time.
func (f *Fleet) run(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f.mu.Lock()
			f.spread()
			maps.DeleteFunc(f.pending, func(_ CheckID, p pending) bool { return f.now()-p.at >= pendingFor })
			f.mu.Unlock()
			f.sendCounts()
		}
	}
}

// Stop leaves the fleet in order. The verdicts stay as they are.
func (f *Fleet) Stop(ctx context.Context) {
	f.mu.Lock()
	carrier := f.carrier
	f.carrier = nil
	f.mu.Unlock()
	if carrier == nil {
		return
	}
	f.stop()
	<-f.ended
	carrier.Leave(ctx)
}

// Forget removes all other replicas. Without a carrier nobody says that they are gone.
func (f *Fleet) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	self := slices.DeleteFunc(slices.Clone(f.members), func(m Replica) bool { return m.Name != f.config.Replica })
	f.members, f.since = self, map[string]time.Time{f.config.Replica: f.since[f.config.Replica]}
	f.census, f.inOrder, f.gone = census{}.after(1, 0, f.now()), nil, nil
	f.spread()
}

// Configure changes probers and quorum. It ignores the other fields.
func (f *Fleet) Configure(c Config) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.probers, f.quorum = c.Probers, c.Quorum
	f.spread()
}

// Join makes this replica take part in the verdicts of a check. If it does already, the new share
// takes over from the old one, which goes by its own probes from then on.
func (f *Fleet) Join(check Check, host Host) *Share {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := newShare(f, check, host, f.view())
	if before := f.shares[check.ID]; before != nil {
		f.retired = append(f.retired, before)
		f.showTo(before, f.view())
	}
	f.shares[check.ID] = s
	if p, waits := f.pending[check.ID]; waits && f.now()-p.at < pendingFor {
		s.takeOver(p.state)
	}
	delete(f.pending, check.ID)
	return s
}

// Leave ends the part that the share takes. A share that it took over from, and that is still there
// because a reload failed, takes part again. The host's goroutine calls it.
func (s *Share) Leave() {
	s.leave()
	f := s.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	f.retired = slices.DeleteFunc(f.retired, func(one *Share) bool { return one == s })
	if f.shares[s.check.ID] != s {
		return
	}
	delete(f.shares, s.check.ID)
	for i, before := range slices.Backward(f.retired) {
		if before.check.ID == s.check.ID {
			f.retired = slices.Delete(f.retired, i, i+1)
			f.shares[s.check.ID] = before
			f.showTo(before, f.view())
			return
		}
	}
}

// Members implements Listener.
func (f *Fleet) Members(live []Replica) {
	live = slices.Clone(live)
	slices.SortFunc(live, func(a, b Replica) int { return strings.Compare(a.Name, b.Name) })
	f.mu.Lock()
	defer f.mu.Unlock()
	f.census = f.census.after(len(live), len(f.inOrder), f.now())
	f.logMembers(live)
	f.gone = f.goneAfter(live)
	f.inOrder = nil
	since := make(map[string]time.Time, len(live))
	for _, m := range live {
		since[m.Name] = time.Now()
		if t, known := f.since[m.Name]; known {
			since[m.Name] = t
		}
	}
	f.members, f.since = live, since
	f.spread()
}

// Left implements Listener. The carrier calls it before Members without the replica.
func (f *Fleet) Left(name string, inOrder bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if inOrder {
		f.inOrder = append(f.inOrder, name)
	}
}

// view returns what shares are to know. The caller holds the lock.
func (f *Fleet) view() *view {
	v := &view{members: f.members, alone: f.census.alone(f.now()), probers: max(f.probers, 1), quorum: f.quorum, version: Understood.Highest}
	for _, m := range f.members {
		if m.Versions.Highest >= Understood.Lowest {
			v.version = min(v.version, m.Versions.Highest)
		}
	}
	return v
}

// spread tells the shares what has changed. The caller holds the lock.
func (f *Fleet) spread() {
	v := f.view()
	for _, s := range f.shares {
		f.showTo(s, v)
	}
	for _, s := range f.retired {
		f.showTo(s, v)
	}
	if v.alone != f.logged {
		f.logged = v.alone
		f.logAlone(v)
	}
}

// showTo hands a share a view, if that differs from the one that it has.
func (f *Fleet) showTo(s *Share, v *view) {
	if slices.Contains(f.retired, s) {
		own := *v
		own.alone, own.retired = true, true
		v = &own
	}
	if !s.latest.Load().equal(v) {
		s.latest.Store(v)
		s.host.Wake()
	}
}

func (v *view) equal(other *view) bool {
	return v.alone == other.alone && v.retired == other.retired && v.probers == other.probers && v.quorum == other.quorum &&
		v.version == other.version && slices.Equal(v.members, other.members)
}

// Hear implements Listener.
func (f *Fleet) Hear(message []byte) {
	f.traffic.received.Add(1)
	f.traffic.receivedBytes.Add(uint64(len(message)))
	h, rest, ok := headerOf(message)
	if !ok || len(message) > MaxMessage {
		f.traffic.skipped.Add(1)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch s := f.shares[h.check]; {
	case h.check == 0:
		f.hearCounts(h.sender, rest)
	case s != nil:
		s.deliver(incoming{h.sender, slices.Clone(rest.rest)})
	default:
		f.noteForeign(h, rest)
	}
}

// Lost implements Listener.
func (f *Fleet) Lost(messages int) { f.traffic.lost.Add(uint64(messages)) }

// deliver puts a message into the share's inbox. If that is full the message is lost: heartbeats
// repair that.
func (s *Share) deliver(m incoming) {
	select {
	case s.inbox <- m:
		s.host.Wake()
	default:
		s.fleet.traffic.lost.Add(1)
	}
}

// takeOver has the share take over the state of another replica. If one waits already, this one is
// lost: heartbeats repair that.
func (s *Share) takeOver(state []byte) {
	s.behind.Add(1)
	select {
	case s.states <- state:
		s.host.Wake()
	default:
		s.behind.Add(-1)
		s.fleet.traffic.lost.Add(1)
	}
}

// TakingOver reports whether a check still has to take over a state that another replica sent.
func (f *Fleet) TakingOver() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.shares {
		if s.behind.Load() > 0 {
			return true
		}
	}
	return false
}

// send sends a message to one replica.
func (f *Fleet) send(name string, message []byte) {
	if c := f.to(1, message); c != nil {
		c.Tell(name, message)
	}
}

// sendAll sends a message to every other replica.
func (f *Fleet) sendAll(message []byte) {
	f.mu.Lock()
	others := len(f.members) - 1
	f.mu.Unlock()
	if c := f.to(others, message); c != nil {
		c.TellAll(message)
	}
}

// to counts a message to some replicas, and returns the carrier.
func (f *Fleet) to(replicas int, message []byte) Carrier {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.carrier != nil {
		f.traffic.sent.Add(uint64(replicas))
		f.traffic.sentBytes.Add(uint64(replicas * len(message)))
	}
	return f.carrier
}

// State implements Listener.
func (f *Fleet) State(joining bool) []byte {
	f.mu.Lock()
	to := header{f.view().version, keyOf(f.config.Replica), 0}.bytes()
	shares := slices.Collect(maps.Values(f.shares))
	f.mu.Unlock()
	to = f.appendKept(to)
	if !joining {
		return to
	}
	for _, s := range shares {
		s.host.Run(func() {
			omitted := 0
			to = appendSection(to, kindKnown, func(b []byte) []byte {
				b, omitted = s.appendState(b, f.maxState-len(to))
				return b
			})
			s.logOmitted(omitted)
		})
	}
	return to[:min(len(to), f.maxState)]
}

// Merge implements Listener.
func (f *Fleet) Merge(state []byte, joining bool) {
	if len(state) == 0 {
		return
	}
	_, r, ok := headerOf(state)
	if !ok || len(state) > MaxState {
		f.traffic.skipped.Add(1)
		return
	}
	for {
		k, content, more := r.section()
		switch {
		case !more:
			return
		case k == kindKnown && joining:
			f.mergeKnown(content)
		case k == kindKept:
			f.loadKept(content)
		default:
			f.traffic.skipped.Add(1)
		}
	}
}

// mergeKnown hands what a state says about a check to its share, or keeps it until there is one.
func (f *Fleet) mergeKnown(r reader) {
	id := CheckID(r.uint64())
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.shares[id]; s != nil {
		s.takeOver(slices.Clone(r.rest))
		return
	}
	before, waits := f.pending[id]
	// Of two states, the longer one is that of a replica that has been there for longer.
	if len(r.rest) <= len(before.state) || !waits && len(f.pending) == maxPending {
		return
	}
	size := len(r.rest) - len(before.state)
	for _, p := range f.pending {
		size += len(p.state)
	}
	if size <= MaxState {
		f.pending[id] = pending{slices.Clone(r.rest), f.now()}
	}
}

// pending is what a state says about a check that this replica does not have yet: it joins the
// fleet before its rules join their checks. All together take at most MaxState bytes.
type pending struct {
	state []byte
	at    time.Duration
}

const (
	maxPending = 256              // checks whose states are kept
	pendingFor = 20 * time.Second // how long: other plugins may take some seconds to start
)
