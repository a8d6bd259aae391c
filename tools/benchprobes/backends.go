// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-f1518d44/balance/tools/internal/fakes"
)

// Backends are all endpoints, in one process: a listener for every address of the namespace. They
// use as little of the machine as possible, and note when each endpoint was probed.
type Backends struct {
	listener int
	reply    []byte
	hostile  int // backends of each hostile kind, behind the healthy ones
	open     int // epoll descriptor of the connections that stay open; 0: none do

	sync.Mutex
	started time.Time
	last    []time.Duration // when an endpoint was last probed, since started; 0: never
	gaps    []time.Duration // between two probes of one endpoint
}

// BackendOrder says what to start.
type BackendOrder struct {
	Check     string
	Silent    bool
	Hold      bool // connections stay open until the prober closes them
	Endpoints int
	Hostile   int // of each hostile kind
}

const httpReply = "HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\n" +
	"Content-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"

// Start listens and returns the port.
func (b *Backends) Start(o BackendOrder, port *int) error {
	b.started, b.last, b.hostile = time.Now(), make([]time.Duration, o.Endpoints-o.Hostile*len(hostile)), o.Hostile
	if o.Check == "http" {
		b.reply = []byte(httpReply)
	}
	if o.Silent {
		all := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
		chosen, _, err := fakes.BlackHole(all)
		*port = int(chosen)
		return err
	}
	var err error
	if b.listener, *port, err = listen(1<<15, o.Check == "http"); err != nil {
		return err
	}
	if o.Hold {
		if b.open, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
			return err
		}
		go b.closeAfterProber()
	}
	go b.serve()
	return nil
}

// closeAfterProber closes connections, for ever, once the prober has closed its end.
func (b *Backends) closeAfterProber() {
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(b.open, events, -1)
		if err != nil && err != unix.EINTR { //nolint:errorlint // an errno as such
			return
		}
		for _, e := range events[:max(n, 0)] {
			_ = unix.Close(int(e.Fd))
		}
	}
}

// listen listens on a free port of all addresses. If readable, the kernel hands a connection out
// once there is something to read.
func listen(backlog int, readable bool) (fd, port int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, 0, err
	}
	if readable {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 10); err != nil {
			return 0, 0, err
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{}); err != nil {
		return 0, 0, err
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return 0, 0, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return 0, 0, err
	}
	return fd, name.(*unix.SockaddrInet4).Port, nil
}

// clogged bounds how many connections fill the queue of a black hole.
const clogged = 4

// serve accepts for ever.
func (b *Backends) serve() {
	runtime.LockOSThread()
	request := make([]byte, 4096)
	for {
		conn, _, err := unix.Accept4(b.listener, unix.SOCK_CLOEXEC)
		if err != nil {
			continue // it was taken back while it waited
		}
		if i := b.note(conn); i >= len(b.last) && b.hostile > 0 {
			go harass(conn, hostile[(i-len(b.last))/b.hostile%len(hostile)])
			continue
		}
		if len(b.reply) > 0 {
			_, _ = unix.Read(conn, request)
			_, _ = unix.Write(conn, b.reply)
		}
		if b.open > 0 && unix.EpollCtl(b.open, unix.EPOLL_CTL_ADD, conn, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(conn)}) == nil {
			continue
		}
		_ = unix.Close(conn)
	}
}

// note notes a probe, and returns the number of the endpoint, -1 if it is none.
func (b *Backends) note(conn int) (i int) {
	name, err := unix.Getsockname(conn)
	if err != nil {
		return -1
	}
	own, ok := name.(*unix.SockaddrInet4)
	if !ok {
		return -1
	}
	i = fakes.Index(netip.AddrFrom4(own.Addr))
	b.Lock()
	defer b.Unlock()
	if i < 0 || i >= len(b.last) {
		return i
	}
	now := time.Since(b.started)
	if b.last[i] > 0 {
		b.gaps = append(b.gaps, now-b.last[i])
	}
	b.last[i] = now
	return i
}

// Gaps is how regularly endpoints were probed.
type Gaps struct {
	N             int
	P50, P99, Max time.Duration
	Late          int // above the limit
	Processor     time.Duration
}

// Forget begins a new measurement.
func (b *Backends) Forget(_ struct{}, _ *struct{}) error {
	b.Lock()
	defer b.Unlock()
	b.gaps = b.gaps[:0]
	return nil
}

// Report returns the measurement: the gaps that ended since it began, and those that go on but are
// longer than the limit already.
func (b *Backends) Report(limit time.Duration, g *Gaps) error {
	b.Lock()
	defer b.Unlock()
	now := time.Since(b.started)
	gaps := slices.Clone(b.gaps)
	for _, last := range b.last {
		if last > 0 && now-last > limit {
			gaps = append(gaps, now-last)
		}
	}
	slices.Sort(gaps)
	*g = Gaps{N: len(gaps), Processor: processor()}
	if len(gaps) > 0 {
		g.P50, g.P99, g.Max = gaps[len(gaps)/2], gaps[len(gaps)*99/100], gaps[len(gaps)-1]
		after, _ := slices.BinarySearch(gaps, limit+1)
		g.Late = len(gaps) - after
	}
	return nil
}

// nameOf returns the name with the addresses of the endpoints from i*RecordsPerName on.
func nameOf(i int) string { return fmt.Sprintf("n%d.%s", i, zone) }
