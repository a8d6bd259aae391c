// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a TCP connection that costs half of what a net.TCPConn costs: it has no options, and
// the runtime polls it only if it has to wait. Owned by one goroutine.
type socket struct {
	fd   int
	file *os.File // of fd; nil until it has to wait
}

var _ connection = (*socket)(nil)

// dialSocket is connect for a probe that only connects.
func (l *line) dialSocket(ctx context.Context, endpoint netip.AddrPort) (connection, error) {
	if endpoint.Addr().Zone() != "" {
		return l.connect(ctx, endpoint) // package net knows the numbers of zones
	}
	var c *socket
	var err error
	// If two connections choose one port at the same time, the kernel says that none is free. A
	// connection of a socket to itself is another reason to choose again.
	const attempts = 3
	for range attempts {
		c, err = newSocket(ctx, l.source.toward(endpoint.Addr()), endpoint)
		if !errors.Is(err, unix.EADDRNOTAVAIL) {
			break
		}
	}
	if err != nil {
		return nil, &unmet{awaited: "connection", err: err}
	}
	return c, nil
}

// newSocket opens a connection from an address; the zero address leaves the choice to the kernel.
func newSocket(ctx context.Context, from netip.Addr, to netip.AddrPort) (*socket, error) {
	family := unix.AF_INET6
	if to.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if err != nil {
		return nil, err
	}
	c := &socket{fd: fd}
	if err = c.bind(from); err == nil {
		err = c.connect(ctx, sockaddr(to))
	}
	if err == nil && c.isOwn(to) {
		err = unix.EADDRNOTAVAIL
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// bind sets the local address, if there is one. Its port is chosen later, as bindLate explains.
func (c *socket) bind(from netip.Addr) error {
	if !from.IsValid() {
		return nil
	}
	if err := unix.SetsockoptInt(c.fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return err
	}
	return unix.Bind(c.fd, sockaddr(netip.AddrPortFrom(from, 0)))
}

// connect begins the handshake, and waits for its end. Each further call of the kernel's connect
// reports how far it is. The first of them finds it done if the endpoint is on this host.
func (c *socket) connect(ctx context.Context, to unix.Sockaddr) error {
	err := unix.Connect(c.fd, to)
	if isPending(err) {
		err = unix.Connect(c.fd, to)
	}
	if !isPending(err) {
		return err
	}
	defer expire(ctx, c.polled())()
	raw, failed := c.polled().SyscallConn()
	if failed != nil {
		return failed
	}
	failed = raw.Write(func(uintptr) bool {
		err = unix.Connect(c.fd, to)
		return !isPending(err)
	})
	if failed != nil {
		return failed // ctx has ended
	}
	return err
}

// isPending reports whether a handshake is not over yet.
func isPending(err error) bool {
	return errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.EALREADY) || errors.Is(err, unix.EINTR)
}

// isOwn reports whether the socket is connected to itself. The kernel does that if nobody listens
// at an address of this host and the local port that it chooses is the endpoint's.
func (c *socket) isOwn(endpoint netip.AddrPort) bool {
	local, err := syscall.Getsockname(c.fd) // that of package unix asks for the protocol too
	if err != nil {
		return false
	}
	switch at := local.(type) {
	case *syscall.SockaddrInet4:
		return at.Port == int(endpoint.Port()) && netip.AddrFrom4(at.Addr) == endpoint.Addr()
	case *syscall.SockaddrInet6:
		return at.Port == int(endpoint.Port()) && netip.AddrFrom16(at.Addr) == endpoint.Addr()
	}
	return false
}

// polled returns the socket as a file, which the runtime polls.
func (c *socket) polled() *os.File {
	if c.file == nil {
		c.file = os.NewFile(uintptr(c.fd), "tcp")
	}
	return c.file
}

// Read implements connection.
func (c *socket) Read(p []byte) (int, error) { return c.polled().Read(p) }

// SetReadDeadline implements connection.
func (c *socket) SetReadDeadline(t time.Time) error { return c.polled().SetReadDeadline(t) }

// CloseWrite implements connection.
func (c *socket) CloseWrite() error { return unix.Shutdown(c.fd, unix.SHUT_WR) }

// SetLinger implements connection.
func (c *socket) SetLinger(seconds int) error {
	return unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: int32(seconds)}) //nolint:gosec // 0
}

// Close implements connection.
func (c *socket) Close() error {
	if c.file != nil {
		return c.file.Close()
	}
	return unix.Close(c.fd)
}

func sockaddr(at netip.AddrPort) unix.Sockaddr {
	if at.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
}
