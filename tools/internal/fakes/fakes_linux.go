// SPDX-License-Identifier: Apache-2.0

// Package fakes has what the backends of measurements share: their addresses, and one that never
// answers.
package fakes

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// first is the address of the first backend: 127.1.0.0.
const first = 1 << 16

// Address returns the i-th address from 127.1.0.0 on, which nothing else uses.
func Address(i int) netip.Addr {
	i += first
	return netip.AddrFrom4([4]byte{127, byte(i >> 16), byte(i >> 8), byte(i)})
}

// Index undoes Address.
func Index(addr netip.Addr) int {
	b := addr.As4()
	return (int(b[1])<<16 | int(b[2])<<8 | int(b[3])) - first
}

// BlackHole listens at an address and swallows connections: the kernel drops packets to a listener
// whose backlog is full, as if the host were switched off. Port 0 means any port, the unspecified
// address all addresses.
func BlackHole(at netip.AddrPort) (port uint16, end func(), err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, func() {}, err
	}
	var queued []net.Conn
	end = func() {
		for _, c := range queued {
			_ = c.Close()
		}
		_ = unix.Close(fd)
	}
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}), unix.Listen(fd, 0))
	if err != nil {
		end()
		return 0, func() {}, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		end()
		return 0, func() {}, err
	}
	port = uint16(name.(*unix.SockaddrInet4).Port)
	to := at.Addr()
	if to.IsUnspecified() {
		to = Address(0)
	}
	for { // until the backlog is full
		c, err := net.DialTimeout("tcp", netip.AddrPortFrom(to, port).String(), 200*time.Millisecond)
		if err != nil {
			return port, end, nil //nolint:nilerr // that is what is wanted
		}
		queued = append(queued, c)
	}
}
