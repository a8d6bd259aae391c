// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/seed-f1518d44/balance/tools/internal/ask"
)

const (
	ttl    = 2 * time.Second
	caches = 60 // resolvers, each with as many clients behind it
)

// clients ask for a page at random times. Each asks the address that leads the answer in its
// resolver's cache.
type clients struct {
	http   http.Client
	server string
	name   string
	port   uint16
	caches [caches]cache

	mu     sync.Mutex
	took   []float64 // seconds
	failed int
}

// cache is a resolver. Safe for concurrent use.
type cache struct {
	mu      sync.Mutex
	lead    netip.Addr
	expires time.Time
}

// startClients makes clients ask rate times a second until ctx is done.
func startClients(ctx context.Context, server, name string, port uint16, rate float64) *clients {
	c := &clients{server: server, name: name, port: port}
	c.http.Transport = &http.Transport{MaxIdleConnsPerHost: 1000}
	c.http.Timeout = 30 * time.Second
	for i := range c.caches { // as if they had asked before, at different times
		c.caches[i].expires = time.Now().Add(rand.N(ttl)) //nolint:gosec // no secret
	}
	go func() {
		next := time.Now()
		for ctx.Err() == nil {
			next = next.Add(time.Duration(rand.ExpFloat64() / rate * float64(time.Second))) //nolint:gosec // no secret
			time.Sleep(time.Until(next))
			go c.request(ctx)
		}
	}()
	return c
}

// request asks for a page, and notes how long that took since the time at which it was due.
func (c *clients) request(ctx context.Context) {
	begin := time.Now()
	err := c.get(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.failed++
		return
	}
	c.took = append(c.took, time.Since(begin).Seconds())
}

func (c *clients) get(ctx context.Context) error {
	addr, err := c.resolve(ctx)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+netip.AddrPortFrom(addr, c.port).String(), http.NoBody)
	if err != nil {
		return err
	}
	reply, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer reply.Body.Close() //nolint:errcheck // it was read
	_, err = io.Copy(io.Discard, reply.Body)
	return err
}

// resolve returns the address that a resolver, taken at random, has for the name.
func (c *clients) resolve(ctx context.Context) (netip.Addr, error) {
	r := &c.caches[rand.N(caches)] //nolint:gosec // no secret
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lead.IsValid() && time.Now().Before(r.expires) {
		return r.lead, nil
	}
	reply, addrs, err := ask.Addresses(ctx, c.server, c.name, netip.Addr{}, time.Second)
	if err != nil {
		return netip.Addr{}, err
	}
	now := time.Now()
	if r.lead.IsValid() || !now.Before(r.expires) {
		r.expires = now.Add(time.Duration(reply.Answer[0].Header().Ttl) * time.Second)
	}
	r.lead = addrs[0]
	return r.lead, nil
}

// reset begins to count.
func (c *clients) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.took, c.failed = nil, 0
}

// results returns how long the requests took, in seconds, and how many failed.
func (c *clients) results() (took []float64, failed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]float64(nil), c.took...), c.failed
}
