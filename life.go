// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns/caddy"

	"github.com/seed-f1518d44/balance/internal/stack"
)

// life is what runs in the background for a server block, from its start to its end. Caddy starts
// a new server before it stops the old one, and where the new one does not come up after all, nobody
// is told but the old one, which may not have this plugin. So every life carries the mark of its
// server, and those whose server is not in Caddy's list are swept away: when the next one starts, or
// when the old one hears of a failure. One of which Caddy has not said for a while that its server is up, and
// that no client asked, ends by itself: Caddy's list must not be read then, for it may be changing.
type life struct {
	rules []*rule
	zones map[string]*zoneRule
	mark  *byte // nil in tests without a server

	servers []string // where the block listens, for people
	view    string   // its view

	joined  atomic.Bool // its rules take part in their checks
	cancel  context.CancelFunc
	tasks   sync.WaitGroup
	stopped sync.Once
	up      *time.Timer // ends it unless the server comes up
}

// comesUpWithin is how long a server may take from the start of its plugins until it serves.
const comesUpWithin = 5 * time.Minute

// hearOfServers has Caddy say when a server is up. It forgets whom to tell when it reloads by SIGUSR1, but panics
// where it has not.
func hearOfServers() {
	defer func() { _ = recover() }() //nolint:errcheck // told already
	caddy.RegisterEventHook(pluginName, func(event caddy.EventName, info any) error {
		if instance, ok := info.(*caddy.Instance); ok && event == caddy.InstanceStartupEvent {
			cameUp(marksIn(instance))
		}
		return nil
	})
}

// cameUp notes that the server with some marks serves.
func cameUp(marks []*byte) {
	for _, l := range runningLives() {
		if slices.Contains(marks, l.mark) {
			l.up.Stop()
		}
	}
}

// lives are those that run.
var lives = struct {
	sync.Mutex
	running map[*life]struct{}
}{running: make(map[*life]struct{})}

// lifeKey is where a server keeps the mark that it is known by.
type lifeKey struct{}

// newLife returns the life of some rules in the server that c sets up.
func newLife(c *caddy.Controller, rules []*rule, zones map[string]*zoneRule) *life {
	hearOfServers()
	mark := new(byte)
	c.Set(lifeKey{}, append(marksOf(c.Get(lifeKey{})), mark))
	return &life{rules: rules, zones: zones, mark: mark}
}

func marksOf(stored any) []*byte {
	marks, _ := stored.([]*byte)
	return marks
}

// listed tells whether the server with a mark is in Caddy's list: starting or running.
func listed(mark *byte) bool {
	return slices.ContainsFunc(caddy.Instances(), func(instance *caddy.Instance) bool {
		return slices.Contains(marksIn(instance), mark)
	})
}

func marksIn(instance *caddy.Instance) []*byte {
	instance.StorageMu.RLock()
	defer instance.StorageMu.RUnlock()
	return marksOf(instance.Storage[lifeKey{}])
}

// start starts what the rules need. It returns an error, and starts nothing, where their page cannot be
// served.
func (l *life) start() error {
	sweep()
	if err := pages.join(l); err != nil {
		return err
	}
	if l.mark != nil {
		stack.Prime()
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.up = time.AfterFunc(comesUpWithin, l.giveUp)
	lives.Lock()
	lives.running[l] = struct{}{}
	lives.Unlock()
	for _, z := range l.zones {
		z.subscribe()
	}
	l.joined.Store(true)
	for _, task := range l.background() {
		l.tasks.Go(func() { task(ctx) })
	}
	return nil
}

// stop stops it and waits for its end. Stopping twice is no error, nor is stopping what never ran.
func (l *life) stop() {
	if l.cancel == nil {
		return
	}
	l.stopped.Do(func() {
		l.up.Stop()
		l.cancel()
		l.tasks.Wait()
		lives.Lock()
		delete(lives.running, l)
		lives.Unlock()
		pages.leave(l)
		if l.mark != nil {
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
			all = append(all, func(ctx context.Context) { f.poll(ctx, r.zones) })
		}
	}
	for _, z := range l.zones {
		if names := z.watched(); len(names) > 0 {
			all = append(all, func(ctx context.Context) { z.watch(ctx, names) })
		}
	}
	return all
}

// sweep stops what was started for servers that did not come up. Call it where Caddy's list does
// not change meanwhile: from a callback.
func sweep() {
	for _, l := range runningLives() {
		l.sweep()
	}
}

// giveUp stops a life whose server did not come up, for all that is known: that no client asked it is part of that.
func (l *life) giveUp() {
	asked := l.mark == nil
	for _, z := range l.zones {
		asked = asked || z.watcher.server.Load() != nil
	}
	if !asked {
		l.stop()
	}
}

// sweep stops the life if its server is not in Caddy's list.
func (l *life) sweep() {
	if l.mark != nil && !listed(l.mark) {
		l.stop()
	}
}

func runningLives() (all []*life) {
	lives.Lock()
	defer lives.Unlock()
	for l := range lives.running {
		all = append(all, l)
	}
	return all
}
