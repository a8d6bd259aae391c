// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

const (
	workers     = 4                     // requests that a server works on at once; others wait
	serviceTime = 80 * time.Millisecond // of a request on a fast server
)

// backend is a web server. Its work is to wait, so that this machine's processors do not count.
type backend struct {
	addr    netip.Addr
	service time.Duration
	slots   chan struct{}
	server  *http.Server
	ended   chan struct{}

	mu       sync.Mutex
	began    time.Time     // of what counts
	reported time.Time     // when it last said how busy it is
	busy     time.Duration // of all workers together, since began
	before   time.Duration // since began, when it last said so
	requests int
}

// startBackend starts a web server.
func startBackend(addr netip.Addr, port uint16, service time.Duration) (*backend, error) {
	b := &backend{addr: addr, service: service, slots: make(chan struct{}, workers), ended: make(chan struct{})}
	b.reset()
	l, err := net.Listen("tcp", netip.AddrPortFrom(addr, port).String()) //nolint:noctx // does not wait
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", b.work)
	mux.HandleFunc("/healthz", b.report)
	b.server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() {
		defer close(b.ended)
		_ = b.server.Serve(l)
	}()
	return b, nil
}

func (b *backend) stop() {
	_ = b.server.Close()
	<-b.ended
}

// work answers a request once a worker is free and has done it.
func (b *backend) work(http.ResponseWriter, *http.Request) {
	b.slots <- struct{}{}
	defer func() { <-b.slots }()
	time.Sleep(b.service)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy += b.service
	b.requests++
}

// report answers a health check, and says how busy the workers were since the last one.
func (b *backend) report(w http.ResponseWriter, _ *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	utilisation := float64(b.busy-b.before) / float64(workers*now.Sub(b.reported))
	b.reported, b.before = now, b.busy
	w.Header().Set("endpoint-load-metrics", fmt.Sprintf("TEXT application_utilization=%.3f", utilisation))
}

// reset begins to count.
func (b *backend) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.before -= b.busy
	b.began, b.busy, b.requests = time.Now(), 0, 0
	if b.reported.IsZero() {
		b.reported = b.began
	}
}

// result returns what was counted.
func (b *backend) result() (requests int, utilisation float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.requests, float64(b.busy) / float64(workers*time.Since(b.began))
}
