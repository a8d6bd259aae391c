// SPDX-License-Identifier: Apache-2.0

// Package netns has what programs need that run in a network namespace of their own.
package netns

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// LoopbackUp switches on the loopback interface of the network namespace that the calling thread is in, where a new one has it
// off. It takes CAP_NET_ADMIN there.
func LoopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	defer unix.Close(fd) //nolint:errcheck // only asked
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	return nil
}
