// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// server is the CoreDNS under test, in a process of its own. Safe for concurrent use, except start
// and stop.
type server struct {
	cmd      *exec.Cmd
	corefile string
	log      *journal
	races    string // what the race detector's reports begin with
	ended    chan struct{}
	stopping atomic.Bool
	err      error // once ended
}

// patience is how long to wait for something that must happen.
const patience = 30 * time.Second

// startServer starts the server. Its log goes to a file on the disk that fills up, the reports of
// the race detector elsewhere.
func startServer(binary, dir, disk string, as *syscall.Credential) (*server, error) {
	logs, err := openJournal(filepath.Join(disk, "log"))
	if err != nil {
		return nil, err
	}
	races := filepath.Join(dir, "races")
	if err := os.Mkdir(races, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(races, 0o777); err != nil { //nolint:gosec // the server writes there
		return nil, err
	}
	s := &server{corefile: filepath.Join(dir, "Corefile"), log: logs, races: races, ended: make(chan struct{})}
	s.cmd = exec.Command(binary, "-conf", s.corefile) //nolint:gosec // the user's choice
	s.cmd.Dir = disk
	s.cmd.Env = append(os.Environ(), "GORACE=log_path="+races+"/race halt_on_error=0")
	s.cmd.Stdout, s.cmd.Stderr = logs.file, logs.file
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.ended)
	}()
	return s, nil
}

func (s *server) pid() int { return s.cmd.Process.Pid }

// signal sends a signal.
func (s *server) signal(sig os.Signal) error { return s.cmd.Process.Signal(sig) }

// stop ends the server and waits until it has.
func (s *server) stop() error {
	s.stopping.Store(true)
	if err := s.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.ended:
		return s.err
	case <-time.After(patience):
		return errors.Join(errors.New("does not end when asked to"), s.cmd.Process.Kill())
	}
}

// raceReports returns what the race detector wrote.
func (s *server) raceReports() (text string, err error) {
	files, err := filepath.Glob(filepath.Join(s.races, "*"))
	for _, f := range files {
		content, readErr := os.ReadFile(f) //nolint:gosec // ours
		text, err = text+string(content), errors.Join(err, readErr)
	}
	return text, err
}

// writeWhole replaces a file by renaming another.
func writeWhole(path, content string) error {
	next := path + ".next"
	if err := os.WriteFile(next, []byte(content), 0o644); err != nil { //nolint:gosec // the server reads it
		return err
	}
	return os.Rename(next, path)
}

// journal is a log file that is read while it is written. What was read is freed on the disk. Safe
// for concurrent use.
type journal struct {
	file *os.File

	mu    sync.Mutex
	lines []string // the last ones
	first int64    // the number of the first of them
	rest  string   // of a line that is not whole yet
	read  int64    // bytes of the file
	freed int64    // of these, that the disk has back
	keep  int64    // of these, that the disk may keep
	watch func(line string)
}

const (
	journalLines = 20_000
	journalBytes = 8 << 20 // that the disk keeps of it
)

func openJournal(path string) (*journal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644) //nolint:gosec // ours
	return &journal{file: f, keep: journalBytes}, err
}

// mark returns the end of the log.
func (j *journal) mark() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.catchUp()
	return j.first + int64(len(j.lines))
}

// catchUp reads new lines. Lines that the server could not write are missing.
func (j *journal) catchUp() {
	content, _ := io.ReadAll(io.NewSectionReader(j.file, j.read, 1<<30)) //nolint:errcheck // again next time
	j.read += int64(len(content))
	whole := strings.SplitAfter(j.rest+string(content), "\n")
	j.rest = whole[len(whole)-1]
	for _, line := range whole[:len(whole)-1] {
		j.lines = append(j.lines, line)
		if j.watch != nil {
			j.watch(line)
		}
	}
	if extra := len(j.lines) - journalLines; extra > 0 {
		j.lines, j.first = append([]string(nil), j.lines[extra:]...), j.first+int64(extra)
	}
	if j.read-j.freed > j.keep && punch(j.file, j.freed, j.read-j.freed) == nil {
		j.freed = j.read
	}
}

// punch frees a part of a file on the disk. Truncating the file would lose what is written
// meanwhile.
func punch(f *os.File, at, length int64) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, length)
}

// await waits for a line, from a mark on, that holds one of some texts.
func (j *journal) await(ctx context.Context, from int64, texts ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		j.mu.Lock()
		j.catchUp()
		for _, line := range j.lines[max(0, min(from-j.first, int64(len(j.lines)))):] {
			for _, text := range texts {
				if strings.Contains(line, text) {
					j.mu.Unlock()
					return line, nil
				}
			}
		}
		j.mu.Unlock()
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return "", fmt.Errorf("the log never says any of %q: %w", texts, err)
		}
	}
}

// count returns how many lines, from a mark on, hold one of some texts.
func (j *journal) count(from int64, texts ...string) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.catchUp()
	for _, line := range j.lines[max(0, min(from-j.first, int64(len(j.lines)))):] {
		if slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(line, text) }) {
			n++
		}
	}
	return n
}

// tail returns the last lines.
func (j *journal) tail(n int) string {
	j.mark()
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.lines[max(0, len(j.lines)-n):], "")
}

// pause waits, or returns the error of a context that is done.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
