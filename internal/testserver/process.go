// SPDX-License-Identifier: Apache-2.0

package testserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Log is a buffer that can be read while a process writes to it. Safe for concurrent use.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Len returns how many bytes were written so far.
func (l *Log) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Len()
}

// Tail returns the last lines.
func (l *Log) Tail() string {
	lines := strings.SplitAfter(l.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-50):], "")
}

// Process is a program that runs until it is ended. What it prints is in Log.
type Process struct {
	Cmd   *exec.Cmd
	Log   *Log
	ended chan struct{}
	err   error // set before ended is closed
}

// Run starts a command. Its output goes to the log, unless the command says otherwise.
func Run(cmd *exec.Cmd) (*Process, error) {
	p := &Process{Cmd: cmd, Log: new(Log), ended: make(chan struct{})}
	if cmd.Stdout == nil && cmd.Stderr == nil {
		cmd.Stdout, cmd.Stderr = p.Log, p.Log
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		p.err = cmd.Wait()
	}()
	return p, nil
}

// Start runs a command until the test ends. If the test fails, the end of the log is shown.
func Start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p, err := Run(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() && p.Log.Len() > 0 {
			t.Logf("%s printed:\n%s", cmd.Path, p.Log.Tail())
		}
	})
	return p
}

// Kill ends the process, if it still runs.
func (p *Process) Kill() {
	_ = p.Cmd.Process.Kill() // an error means that it has ended
	<-p.ended
}

// End sends a signal and waits for the end. It returns the exit status as an error, or nil if it is
// zero or if the signal itself ended the process.
func (p *Process) End(signal syscall.Signal) error {
	if err := p.Cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.ended:
	case <-time.After(Patience):
		p.Kill()
		return fmt.Errorf("%s ignores %v\n%s", p.Cmd.Path, signal, p.Log.Tail())
	}
	status, ok := p.Cmd.ProcessState.Sys().(syscall.WaitStatus)
	if p.err == nil || ok && status.Signaled() && status.Signal() == signal {
		return nil
	}
	return fmt.Errorf("%s: %w\n%s", p.Cmd.Path, p.err, p.Log.Tail())
}

// Await calls done until it returns nil. It returns an error if that never happens, or if the
// process ends first.
func (p *Process) Await(done func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := done(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.ended:
			return fmt.Errorf("%s has ended: %w\n%s", p.Cmd.Path, errors.Join(p.err, err), p.Log.Tail())
		case <-ctx.Done():
			return fmt.Errorf("%s: %w\n%s", p.Cmd.Path, err, p.Log.Tail())
		}
	}
}
