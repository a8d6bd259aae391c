// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/seed-f1518d44/balance/tools/internal/netns"
)

// insideVariable tells this program that it runs in the namespaces that it made for itself.
const insideVariable = "SOAK_INSIDE"

// nobody is the user of the server, if we may choose: the modes of files do not apply to root.
const nobody = 65534

// runInside runs this program again in namespaces of its own: for the network, with nothing but
// loopback, for mounts, so that a small disk can be mounted, and for processes, so that none
// outlives it. It returns the exit status.
func runInside(ctx context.Context, args []string) (int, error) {
	return netns.Again(ctx, insideVariable, syscall.CLONE_NEWNS|syscall.CLONE_NEWPID, args...)
}

// furnish prepares the namespaces: loopback, /proc and echo requests. What is mounted here is not
// seen outside.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mounts: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	group := os.Getgid()
	if rootOutside() {
		group = nobody // the server's
	}
	if err := allowPings(group); err != nil {
		return err
	}
	return netns.LoopbackUp()
}

// rootOutside reports whether we are root outside the namespaces too. Then the server runs as
// nobody.
func rootOutside() bool {
	mapping, err := os.ReadFile("/proc/self/uid_map")
	var inside, outside, n uint32
	if _, scanErr := fmt.Sscan(string(mapping), &inside, &outside, &n); err != nil || scanErr != nil {
		return false
	}
	return os.Getuid() == 0 && n > nobody
}

// mountDisk mounts a disk of some bytes, in memory.
func mountDisk(path string, size int) error {
	if err := os.MkdirAll(path, 0o755); err != nil { //nolint:gosec // the server reads it
		return err
	}
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0755", size)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// unmount unmounts a disk, whoever still has files open on it.
func unmount(path string) {
	unix.Unmount(path, unix.MNT_DETACH) //nolint:errcheck,gosec // gone with the namespace
}
