// SPDX-License-Identifier: Apache-2.0

//go:build linux

package testbed

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"
)

// Backend is a server that is probed. Its methods are called by one goroutine, except those that
// say otherwise.
type Backend struct {
	Number int

	addr   netip.AddrPort
	bed    *Bed
	server *http.Server  // nil: nobody listens
	frozen chan struct{} // requests wait until it is closed; nil: they do not
	state  atomic.Pointer[state]
	probes [maxReplicas]atomic.Int64
}

// maxReplicas bounds the replicas of a testbed.
const maxReplicas = 14

// state is whether a backend is up, and since when. Immutable.
type state struct {
	up    bool
	since time.Time
}

func (b *Backend) set(up bool) { b.state.Store(&state{up, time.Now()}) }

// Up reports whether it is up. Safe for concurrent use.
func (b *Backend) Up() bool { return b.state.Load().up }

// Since returns when it came up or went down. Safe for concurrent use.
func (b *Backend) Since() time.Time { return b.state.Load().since }

// Probes returns how often each replica has probed it. Safe for concurrent use.
func (b *Backend) Probes() []int {
	counts := make([]int, len(b.bed.Replicas))
	for i := range counts {
		counts[i] = int(b.probes[i].Load())
	}
	return counts
}

// Revive makes it a good server again.
func (b *Backend) Revive() error {
	b.bed.Network.Restore(b.addr.Addr())
	err := b.listen(nil)
	b.set(true)
	return err
}

// Freeze makes it accept connections and never answer, as a stopped process would.
func (b *Backend) Freeze() error {
	b.set(false)
	return b.listen(make(chan struct{}))
}

// Kill closes its port and its connections, as the end of its process would.
func (b *Backend) Kill() {
	b.set(false)
	b.end()
}

// Silence makes its host stop answering.
func (b *Backend) Silence() {
	b.set(false)
	b.bed.Network.Swallow(b.addr.Addr())
}

// listen ends what it was before and listens again. Requests wait until the channel is closed,
// unless there is none.
func (b *Backend) listen(frozen chan struct{}) error {
	b.end()
	return b.bed.backendHost.Do(func() error {
		l, err := net.Listen("tcp4", b.addr.String())
		if err == nil {
			b.frozen = frozen
			b.serve(l)
		}
		return err
	})
}

// serve counts and answers probes until end.
func (b *Backend) serve(l net.Listener) {
	frozen := b.frozen
	b.server = &http.Server{ //nolint:gosec // of clients that we know
		ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			b.count(q.RemoteAddr)
			if frozen != nil {
				<-frozen
			}
			_, _ = io.WriteString(w, "ok")
		}),
	}
	go func(s *http.Server) { _ = s.Serve(l) }(b.server)
}

// count counts a probe of a replica.
func (b *Backend) count(from string) {
	addr, err := netip.ParseAddrPort(from)
	if err != nil {
		return
	}
	for _, r := range b.bed.Replicas {
		if r.host.Addr == addr.Addr() {
			b.probes[r.Number].Add(1)
		}
	}
}

// end closes its port and its connections.
func (b *Backend) end() {
	if b.server != nil {
		_ = b.server.Close()
		b.server = nil
	}
	if b.frozen != nil {
		close(b.frozen)
		b.frozen = nil
	}
}
