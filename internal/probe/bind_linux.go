// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// bindLate lets a socket with a source address choose its port when it connects, so that it can
// share the port with connections to others: those that have ended keep theirs for a minute.
func bindLate(_, _ string, c syscall.RawConn) error {
	var err error
	if failed := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	}); failed != nil {
		return failed
	}
	return err
}

// delayAck has the last packet of the handshake wait for the first data, which saves a packet and
// wakes the peer once instead of twice. The kernel sends it after 200 ms if there is no data.
func delayAck(_, _ string, c syscall.RawConn) error {
	var err error
	if failed := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0)
	}); failed != nil {
		return failed
	}
	return err
}
