// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what must come: long enough for any machine, so that its
// end means "never".
const patience = 2 * time.Minute

// binary returns the path of a program that the Makefile builds.
func binary(name string) (string, error) {
	path, err := filepath.Abs(filepath.Join("..", "..", ".cache", "kubernetes", name))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		return "", fmt.Errorf("%w: make test-kubernetes builds it", err)
	}
	return path, nil
}

// process is a program that runs until it is ended.
type process struct {
	cmd   *exec.Cmd
	log   string // path of what it prints
	ended chan struct{}
	err   error // of its end, once ended is closed
}

// start runs a command. Its output goes to a file.
func start(cmd *exec.Cmd, log string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, log: log, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.err = cmd.Wait()
	}()
	return p, nil
}

// end sends a signal and waits for the end. It returns what the process returned, nil if the signal
// itself ended it.
func (p *process) end(signal syscall.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("%s ignores %v", p.cmd.Path, signal)
	}
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == signal {
		return nil
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w\n%s", p.cmd.Path, p.err, p.tail())
	}
	return nil
}

// output returns all that the process printed.
func (p *process) output() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// tail returns the last lines that the process printed.
func (p *process) tail() []byte {
	lines := bytes.Split([]byte(p.output()), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-30):], []byte("\n"))
}

// await calls done until it returns nil; an error if that never comes, or where the process ends
// before.
func (p *process) await(done func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
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
			return fmt.Errorf("%s has ended: %w\n%s", p.cmd.Path, p.err, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s: %w\n%s", p.cmd.Path, err, p.tail())
		}
	}
}

// eventually calls done until it is true.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		}
	}
}
