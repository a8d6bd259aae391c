// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// lock keeps other balancectl out of a directory until unlock is called. It locks the directory
// itself, because the file is replaced.
func lock(dir string) (unlock func(), err error) {
	d, err := os.Open(dir) //nolint:gosec // the user's own
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
		_ = d.Close()
		return nil, os.NewSyscallError("flock", err)
	}
	return func() { _ = d.Close() }, nil
}
