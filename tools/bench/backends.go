// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// roleVariable tells a process that this program started what it is: "floor", or "backends PORT".
const roleVariable = "BENCH_ROLE"

// playRole does what this process was started for, if it was started by this program.
func playRole() (done bool, err error) {
	role, argument, _ := strings.Cut(os.Getenv(roleVariable), " ")
	if role == "" {
		return false, nil
	}
	port, err := strconv.Atoi(argument)
	if err != nil {
		return true, fmt.Errorf("%s: port %q: want a number", roleVariable, argument)
	}
	switch role {
	case "floor":
		return true, serveFloor(port)
	case "backends":
		return true, serveBackends(port)
	default:
		return true, fmt.Errorf("%s: unknown role %q", roleVariable, role)
	}
}

// serveBackends is every backend in one process: it accepts on a port of all addresses, and closes.
// It is bound to the loopback interface, because only programs of this machine are meant to reach
// it.
func serveBackends(port int) error {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = unix.BindToDevice(int(fd), "lo") })
		if err != nil {
			return err
		}
		return failed
	}}
	l, err := config.Listen(context.Background(), "tcp4", fmt.Sprintf("0.0.0.0:%d", port))
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		_ = conn.Close()
	}
}
