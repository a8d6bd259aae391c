// SPDX-License-Identifier: Apache-2.0

package idle

import (
	"errors"
	"math"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Supported reports whether sets can be made here.
const Supported = true

// Set holds connections. One goroutine may call Wait, and one, perhaps another, everything else.
type Set[T any] struct {
	epoll *os.File // the runtime polls it, so that waiting takes no thread
	raw   syscall.RawConn
	fd    int // of epoll
	made  uint32
	open  map[Conn]T

	mayCloseFirst func() bool

	happened [256]unix.EpollEvent  // what Wait fills
	dropped  [MostDropped / 5]byte // what peers said
}

// New makes a set. Shut must be called on it. The side that closes a connection first keeps it in
// TIME-WAIT for a minute, so mayCloseFirst is asked each time whether this side may: otherwise the
// connection ends with a reset.
func New[T any](mayCloseFirst func() bool) (*Set[T], error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // otherwise the runtime would not poll it
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	epoll := os.NewFile(uintptr(fd), "epoll")
	raw, err := epoll.SyscallConn()
	if err != nil {
		_ = epoll.Close()
		return nil, err
	}
	return &Set[T]{epoll: epoll, raw: raw, fd: fd, open: make(map[Conn]T), mayCloseFirst: mayCloseFirst}, nil
}

// Dial begins to open a connection from an address of this host; the zero address leaves the choice
// to the kernel. An event says how that ends, and Look returns the owner. The error is a local
// error, or ErrNoRoom if less than a quarter of the process's descriptors would be left for others.
func (s *Set[T]) Dial(from netip.Addr, to netip.AddrPort, owner T) (Conn, error) {
	family := unix.AF_INET6
	if to.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if err != nil {
		return 0, err
	}
	if err := s.set(fd, from, to); err != nil {
		_ = unix.Close(fd)
		return 0, err
	}
	s.made++
	conn := Conn(s.made)<<32 | Conn(fd)
	interest := unix.EpollEvent{Events: interests, Fd: int32(fd), Pad: int32(s.made)}
	if err := unix.EpollCtl(s.fd, unix.EPOLL_CTL_ADD, fd, &interest); err != nil {
		_ = unix.Close(fd)
		return 0, err
	}
	s.open[conn] = owner
	return conn, nil
}

// interests are edge-triggered: unread data wakes nobody twice, and the end of the connection is
// seen behind it.
const interests = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET

// set prepares a socket and connects it.
func (s *Set[T]) set(fd int, from netip.Addr, to netip.AddrPort) error {
	if scarce(fd) {
		return ErrNoRoom
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return err
		}
	}
	if from.IsValid() {
		if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(from, 0))); err != nil {
			return err
		}
	}
	if err := unix.Connect(fd, sockaddr(to)); err != nil && !errors.Is(err, unix.EINPROGRESS) && !refused(err) {
		return err
	}
	return nil
}

// refused reports whether an error comes from the peer. An event says so too.
func refused(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ECONNRESET)
}

// options of a socket. Bound to an address, it takes its port only when it connects, so that it can
// share the port with connections to other peers. Keep-alive is frequent enough for firewalls and
// NAT on the way to remember the connection. It also ends connections whose peer has vanished,
// after 60 + 3*15 s; probes notice sooner.
var options = [...]struct{ level, name, value int }{
	{unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1},
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
	{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 60},
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
	{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3},
}

// scarce reports whether three quarters of the descriptors are taken. The kernel assigns the lowest
// free one, so the number says how many are.
func scarce(fd int) bool {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > math.MaxInt32 {
		return false
	}
	return uint64(fd) >= limit.Cur/4*3
}

func sockaddr(at netip.AddrPort) unix.Sockaddr {
	if at.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
}

// Close ends a connection, without a reset if it can: what the peer sent is read first. Closing it
// twice is harmless.
func (s *Set[T]) Close(conn Conn) {
	if _, ok := s.open[conn]; !ok {
		return
	}
	delete(s.open, conn)
	fd := fdOf(conn)
	if _, ended := s.drop(fd); !ended && !s.mayCloseFirst() {
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	_ = unix.Close(fd) // this removes it from epoll
}

func fdOf(conn Conn) int { return int(uint32(conn)) }

// Wait waits until something happens, and returns it in the memory given. The error is ErrClosed or
// one of the kernel.
func (s *Set[T]) Wait(into []Event) ([]Event, error) {
	var failed error
	n := 0
	err := s.raw.Read(func(fd uintptr) bool {
		n, failed = poll(int(fd), s.happened[:min(len(into), len(s.happened))])
		return n > 0 || failed != nil
	})
	if err != nil {
		return nil, ErrClosed
	}
	if n <= 0 {
		return nil, os.NewSyscallError("epoll_wait", failed)
	}
	for i, e := range s.happened[:n] {
		into[i] = Event{Conn: Conn(uint32(e.Pad))<<32 | Conn(uint32(e.Fd)), bits: e.Events}
	}
	return into[:n], nil
}

// poll returns the number of events that are there, without waiting.
func poll(epoll int, happened []unix.EpollEvent) (n int, err error) {
	for {
		n, err = unix.EpollWait(epoll, happened, 0)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// Look returns what an event means and the owner of its connection. It drops what the peer sent, at
// most MostDropped bytes, and returns how many.
func (s *Set[T]) Look(e Event) (owner T, change Change, dropped int) {
	owner, ok := s.open[e.Conn]
	switch {
	case !ok:
		return owner, Nothing, 0
	case e.bits&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0:
		return owner, Ended, 0
	case e.bits&unix.EPOLLIN != 0:
		dropped, _ = s.drop(fdOf(e.Conn))
		return owner, Spoke, dropped
	case e.bits&unix.EPOLLOUT != 0:
		return owner, Opened, 0
	}
	return owner, Nothing, 0
}

// drop reads what the peer has sent. It also reports whether the peer has closed its side.
func (s *Set[T]) drop(fd int) (dropped int, ended bool) {
	for range MostDropped / len(s.dropped) {
		n, err := unix.Read(fd, s.dropped[:])
		if n <= 0 || err != nil {
			return dropped, n == 0 && err == nil
		}
		dropped += n
	}
	return dropped, false
}

// Shut closes everything, which ends Wait.
func (s *Set[T]) Shut() {
	for conn := range s.open {
		s.Close(conn)
	}
	_ = s.epoll.Close()
}
