// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/coredns/caddy"

	"github.com/seed-f1518d44/balance/internal/fleet"
	"github.com/seed-f1518d44/balance/internal/stack"
)

const (
	comesUpWithin = 5 * time.Minute // from the start of a server's plugins until it serves, at most
	lastChance    = 5 * time.Second // the same once another server starts
)

// hearOfServers registers a hook that Caddy calls when a server is up. Caddy drops its hooks when
// it reloads by SIGUSR1, and panics if a hook is registered twice.
func hearOfServers() {
	defer func() { _ = recover() }() //nolint:errcheck // registered already
	caddy.RegisterEventHook(pluginName, func(event caddy.EventName, info any) error {
		switch instance, ok := info.(*caddy.Instance); {
		case ok && event == caddy.InstanceStartupEvent:
			cameUp(instance)
		case event == caddy.ShutdownEvent:
			serversUp.Load()
		}
		return nil
	})
}

// serversUp counts the servers that came up. On a signal, Caddy stops servers in another goroutine
// than started them, without a lock. Loading the counter first makes all that the start wrote
// visible there.
var serversUp atomic.Uint64

// cameUp notes that a server serves.
func cameUp(instance *caddy.Instance) {
	instance.StorageMu.RLock()
	defer instance.StorageMu.RUnlock()
	if s, ok := instance.Storage[startupKey{}].(*startup); ok {
		s.done.Store(true)
		serversUp.Add(1)
		thisProcess.cameUp(time.Now())
	}
}

// startupKey is where a server keeps its startup.
type startupKey struct{}

// newLife returns the life of some rules in the server that c sets up.
func newLife(c *caddy.Controller, rules []*rule, zones map[string]*zoneRule) *life {
	hearOfServers()
	s, ok := c.Get(startupKey{}).(*startup)
	if !ok {
		s = new(startup)
		c.Set(startupKey{}, s)
	}
	return &life{rules: rules, zones: zones, startup: s}
}

// start starts what the rules need. It returns an error, and starts nothing, if their page cannot
// be served.
func (l *life) start() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hurryOthers()
	if err := pages.join(l); err != nil {
		return err
	}
	if err := l.joinFleet(); err != nil {
		pages.leave(l)
		return err
	}
	if err := l.startLocalities(); err != nil {
		pages.leave(l)
		l.leaveFleet()
		return err
	}
	if l.startup != nil {
		stack.Prime()
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.deadline = time.AfterFunc(comesUpWithin, l.giveUp)
	for _, z := range l.zones {
		if z.hub = l.hubOf(z.rule); z.hub != nil {
			z.identify(l.view)
			z.handover = l.replica.handover
		}
	}
	for _, z := range l.zones {
		z.subscribe() // before scrapes and pages see the rules
	}
	lives.Lock()
	lives.started++
	l.began = lives.started
	lives.running[l] = struct{}{}
	lives.Unlock()
	tasks := l.background()
	if l.replica != nil && !thisProcess.isUp() {
		tasks = append(tasks, l.warnOfSilence)
	}
	for _, task := range tasks {
		l.tasks.Go(func() { task(ctx) })
	}
	return nil
}

// inFleet are the replicas that the rules that run make of this process.
var inFleet = replicas{around: surroundings{
	resolve: resolveForFleet, localityOf: localityOfAddress,
	keeper: func(told *handover) fleet.Keeper { return tierKeeper{told} },
}}

// joinFleet joins the fleet of the life's rules, if they have one.
func (l *life) joinFleet() error {
	block := l.fleetBlock()
	if block == nil {
		return nil
	}
	r, err := inFleet.join(l, block)
	l.replica = r
	return err
}

func (l *life) leaveFleet() {
	if l.replica != nil {
		inFleet.leave(l)
	}
}

// fleetBlock returns what the Corefile says about the fleet of the life's rules, nil if they are in
// none.
func (l *life) fleetBlock() *fleetBlock {
	for _, r := range l.rules {
		if r.fleet != nil {
			return r.fleet.block
		}
	}
	return nil
}

// hubOf returns the hub of a rule's fleet, nil if the rule is in none. Its life has joined it.
func (l *life) hubOf(r *rule) *fleet.Fleet {
	if r.fleet == nil || l.replica == nil {
		return nil
	}
	return l.replica.hub
}

// startLocalities starts to find the localities of addresses. It returns an error if a cluster
// cannot be followed; then none is.
func (l *life) startLocalities() error {
	for i, r := range l.rules {
		if err := r.localities.start(func() { r.epoch.Add(1) }); err != nil {
			for _, started := range l.rules[:i] {
				started.localities.stop()
			}
			return &lineError{r.options["locality"], err}
		}
	}
	return nil
}

// stop stops it and waits for its end. Stopping twice is no error, nor is stopping what never ran.
func (l *life) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cancel == nil {
		return
	}
	l.stopped.Do(func() {
		l.deadline.Stop()
		l.cancel()
		l.tasks.Wait()
		for _, r := range l.rules {
			r.localities.stop()
		}
		lives.Lock()
		delete(lives.running, l)
		lives.Unlock()
		pages.leave(l)
		l.leaveFleet()
		if l.startup != nil {
			stack.Release()
		}
		for _, z := range l.zones {
			z.unsubscribe()
		}
	})
}

// background returns what runs, each until its context is done.
func (l *life) background() (all []func(context.Context)) {
	for _, r := range l.rules {
		for _, f := range r.files() {
			all = append(all, func(ctx context.Context) { f.Poll(ctx) })
		}
	}
	for _, z := range l.zones {
		if names := z.watched(); len(names) > 0 {
			all = append(all, func(ctx context.Context) { z.watch(ctx, names) })
		}
	}
	return all
}

// restarts notes that a new server is about to be started in place of this one.
func (l *life) restarts() {
	running := runningLives()
	l.before.Store(&running)
}

// restartFailed ends what was started for a server that did not come up in place of this one.
func (l *life) restartFailed() {
	before := l.before.Load()
	for _, other := range runningLives() {
		if before != nil && !slices.Contains(*before, other) {
			other.giveUp()
		}
	}
}

// hurryOthers leaves little time to lives of other servers that are not up yet. Caddy has no lock
// on its list of servers, so it cannot be searched for them.
func (l *life) hurryOthers() {
	for _, other := range runningLives() {
		if other.startup != l.startup && !other.isUp() {
			other.deadline.Reset(lastChance)
		}
	}
}

// isUp reports whether the life's server came up or was asked something.
func (l *life) isUp() bool {
	up := l.startup == nil || l.startup.done.Load()
	for _, z := range l.zones {
		up = up || z.watcher.server.Load() != nil
	}
	return up
}

// giveUp stops a life whose server did not come up.
func (l *life) giveUp() {
	if !l.isUp() {
		l.stop()
	}
}
