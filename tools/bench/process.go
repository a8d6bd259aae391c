// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// processors are the one of the server and the one of everything else.
type processors struct{ server, client int }

// allowed are the processors that this process might use before it chose one.
var allowed = sync.OnceValues(func() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("which processors may be used: %w", err)
	}
	var may []int
	for i := range len(set) * 64 {
		if set.IsSet(i) {
			may = append(may, i)
		}
	}
	return may, nil
})

// pinning chooses the processors, and moves this process to the client's. Everything that it starts
// afterwards runs there too, except servers. If there is only one processor, both share it.
func pinning() (processors, error) {
	may, err := allowed()
	if err != nil {
		return processors{}, err
	}
	p := processors{client: may[0], server: may[len(may)-1]}
	tasks, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		return p, err
	}
	for _, task := range tasks {
		id, err := strconv.Atoi(filepath.Base(task))
		if err != nil {
			return p, err
		}
		_ = setProcessor(id, p.client) // a thread that has ended needs none
	}
	return p, setProcessor(0, p.client)
}

// setProcessor makes a thread run on one processor only. Thread 0 is the calling one.
func setProcessor(thread, processor int) error {
	var set unix.CPUSet
	set.Set(processor)
	return unix.SchedSetaffinity(thread, &set)
}

// process is a program that runs.
type process struct {
	*exec.Cmd
	log  bytes.Buffer // what it printed; to be read once it has ended
	done chan struct{}
	err  error // set when done
}

// start starts a program on a processor. It must be called by a goroutine that is locked to its
// thread: the program inherits the thread's processor, and ends with the thread if this process is
// killed.
func start(argv []string, dir string, environment []string, processor, back int) (*process, error) {
	p := &process{Cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})} //nolint:gosec // from our table
	p.Dir, p.Env = dir, append(cleanEnvironment(), environment...)
	p.Stdout, p.Stderr = &p.log, &p.log
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := setProcessor(0, processor); err != nil {
		return nil, fmt.Errorf("processor %d: %w", processor, err)
	}
	err := errors.Join(p.Start(), setProcessor(0, back))
	if err != nil {
		return nil, err
	}
	go func() {
		p.err = p.Wait()
		close(p.done)
	}()
	return p, nil
}

// cleanEnvironment is our environment without variables that change how a server in Go runs.
func cleanEnvironment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{"GOGC", "GOMEMLIMIT", "GOMAXPROCS", "GODEBUG", roleVariable}, name)
	})
}

// patience is how long a server may take to end.
const patience = 3 * time.Second

// stop ends the program and waits for that.
func (p *process) stop() {
	_ = p.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		_ = p.Process.Kill()
		<-p.done
	}
}

// ended says why the program has ended, nil if it has not.
func (p *process) ended() error {
	select {
	case <-p.done:
		if p.err == nil {
			return fmt.Errorf("ended: %s", tail(p.log.String()))
		}
		return fmt.Errorf("ended: %w: %s", p.err, tail(p.log.String()))
	default:
		return nil
	}
}

// tail returns the last lines of a log, on one line.
func tail(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], " / ")
}

// used returns the processor time of all threads of the program since it started, those that ended
// too.
func (p *process) used() (time.Duration, error) {
	const schedClock = 2 // CPUCLOCK_SCHED: what the scheduler counts, in nanoseconds
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^p.Process.Pid<<3|schedClock), &t); err != nil {
		return 0, fmt.Errorf("processor time of %s: %w", p.Path, err)
	}
	return time.Duration(t.Nano()), nil
}

// peakMemory returns the most memory that the program had, in MiB.
func (p *process) peakMemory() float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid)) //nolint:gosec // of a child
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmHWM:" {
			kib, _ := strconv.ParseFloat(fields[1], 64)
			return kib / 1024
		}
	}
	return 0
}

// tick is the unit of /proc/stat.
const tick = 10 * time.Millisecond

// busy returns for how long a processor has run something since the machine started.
func busy(processor int) time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		// user nice system idle iowait irq softirq steal
		fields := strings.Fields(line)
		if fields[0] != fmt.Sprintf("cpu%d", processor) || len(fields) < 9 {
			continue
		}
		var ticks int
		for _, i := range []int{1, 2, 3, 6, 7, 8} {
			n, _ := strconv.Atoi(fields[i])
			ticks += n
		}
		return time.Duration(ticks) * tick
	}
	return 0
}

// freePorts returns n ports of 127.0.0.1 that are free for UDP and TCP.
func freePorts(n int) ([]int, error) {
	var ports []int
	for len(ports) < n {
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return nil, err
		}
		defer l.Close() //nolint:errcheck // all are held until all are found
		port := l.Addr().(*net.TCPAddr).Port
		u, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			continue
		}
		defer u.Close() //nolint:errcheck // likewise
		ports = append(ports, port)
	}
	return ports, nil
}

// wait waits, unless ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
