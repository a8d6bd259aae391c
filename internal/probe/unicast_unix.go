// SPDX-License-Identifier: Apache-2.0

//go:build unix

package probe

import "syscall"

// refuseBroadcast takes back what Go allows every socket for datagrams: to send to all hosts of a
// link.
func refuseBroadcast(_, _ string, c syscall.RawConn) error {
	var err error
	if failed := c.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_BROADCAST, 0)
	}); failed != nil {
		return failed
	}
	return err
}
