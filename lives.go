// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// life is what runs in the background for a server block, from its start to its end. Caddy starts a
// new server before it stops the old one. If the new one does not come up, Caddy tells only the old
// one, which may not have this plugin. So a life also ends by itself if its server neither came up
// nor was asked anything within comesUpWithin, or within lastChance once another server starts.
type life struct {
	rules   []*rule
	zones   map[string]*zoneRule
	startup *startup // nil in tests without a server

	servers    []string // where the block listens, for people
	view       string   // its view
	blockZones []string // of the block
	replica    *replica // this process in the fleet of the rules; nil if they are in none

	began uint64 // counts those that started

	mu       sync.Mutex // on a signal, Caddy stops servers in another goroutine
	cancel   context.CancelFunc
	tasks    sync.WaitGroup
	stopped  sync.Once
	deadline *time.Timer             // ends it unless its server came up
	before   atomic.Pointer[[]*life] // those that ran when a restart of the server began
}

// startup is the start of a server, which its lives share. Safe for concurrent use.
type startup struct{ done atomic.Bool }

// lives are those that run.
var lives = struct {
	sync.Mutex
	running map[*life]struct{}
	started uint64
}{running: make(map[*life]struct{})}

// runningLives returns those that run, in the order that they started.
func runningLives() (all []*life) {
	lives.Lock()
	defer lives.Unlock()
	for l := range lives.running {
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b *life) int { return cmp.Compare(a.began, b.began) })
	return all
}
