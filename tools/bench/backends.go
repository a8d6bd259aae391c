// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

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

// acceptEvery is how often backends look for new connections.
const acceptEvery = 5 * time.Millisecond

// serveBackends serves as every backend, in one process: it accepts connections on a port of all
// addresses and closes them. On loopback the kernel does the backends' part of a handshake in the
// processor time of the server that probes them. To keep that small, the listener speaks plain TCP,
// not Multipath TCP as package net would, and no thread waits for connections, because waking it
// would count too.
func serveBackends(port int) error {
	listener, err := listenOnLoopback(port)
	if err != nil {
		return err
	}
	for {
		conn, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		switch {
		case errors.Is(err, unix.EAGAIN):
			time.Sleep(acceptEvery)
		case errors.Is(err, unix.ECONNABORTED), errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("accept: %w", err)
		default:
			_ = unix.Close(conn)
		}
	}
}

// listenOnLoopback listens on a port of every address of the loopback interface, because only
// programs of this machine are meant to reach the backends.
func listenOnLoopback(port int) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	const backlog = 4096
	return fd, errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.BindToDevice(fd, "lo"),
		unix.Bind(fd, &unix.SockaddrInet4{Port: port}), unix.Listen(fd, backlog))
}
