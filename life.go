// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"sync"

	"github.com/coredns/caddy"
)

// life is what runs in the background for a server block, from its start to its end. Caddy starts
// a new server before it stops the old one, and where the new one does not come up after all, nobody
// is told but the old one. So every life carries the mark of its server, and those whose server is
// not in Caddy's list are swept away when the next one starts or the old one hears of a failure.
type life struct {
	rules []*rule
	zones map[string]*zoneRule
	mark  *byte // nil in tests without a server

	cancel context.CancelFunc
	tasks  sync.WaitGroup
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
	for _, instance := range caddy.Instances() {
		instance.StorageMu.RLock()
		marks := marksOf(instance.Storage[lifeKey{}])
		instance.StorageMu.RUnlock()
		for _, m := range marks {
			if m == mark {
				return true
			}
		}
	}
	return false
}

// start starts what the rules need.
func (l *life) start() {
	sweep()
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	lives.Lock()
	lives.running[l] = struct{}{}
	lives.Unlock()
	for _, z := range l.zones {
		for _, c := range z.checks {
			z.subscribers = append(z.subscribers, pools.join(c, z))
		}
	}
	for _, task := range l.background() {
		l.tasks.Go(func() { task(ctx) })
	}
}

// stop stops it and waits for its end. Stopping twice is no error, nor is stopping what never ran.
func (l *life) stop() {
	if l.cancel == nil {
		return
	}
	l.cancel()
	l.tasks.Wait()
	lives.Lock()
	_, running := lives.running[l]
	delete(lives.running, l)
	lives.Unlock()
	if !running {
		return
	}
	for _, z := range l.zones { // queries that are still answered go by the last verdicts
		for _, s := range z.subscribers {
			pools.leave(s)
		}
	}
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
		if l.mark != nil && !listed(l.mark) {
			l.stop()
		}
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
