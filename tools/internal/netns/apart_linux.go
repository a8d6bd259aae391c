// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// Apart returns a command that runs this program in a network namespace of its own, and in the
// other new namespaces that more names (syscall.CLONE_NEWNS, ...). It ends with ctx.
func Apart(ctx context.Context, more uintptr, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, self, args...) //nolint:gosec // ourselves
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.Env, c.Stderr = os.Environ(), os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | more, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		c.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return c, nil
}

// Again runs this program once more, in namespaces of its own, and returns its exit status. The
// variable is set in the environment of that process.
func Again(ctx context.Context, variable string, more uintptr, args ...string) (status int, err error) {
	c, err := Apart(ctx, more, args...)
	if err != nil {
		return 0, err
	}
	c.Env, c.Stdout = append(c.Env, variable+"=1"), os.Stdout
	err = Explain(c.Run())
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// Explain adds a hint to an error that says that no namespace can be made.
func Explain(err error) error {
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("cannot make namespaces, which takes root or unprivileged user namespaces: %w", err)
	}
	return err
}
