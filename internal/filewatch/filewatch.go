// SPDX-License-Identifier: Apache-2.0

// Package filewatch reads files that an operator may change while the server runs.
//
// A file is polled and compared by content. So a change is seen whether the file was written in
// place, renamed into place or put there by a symbolic link, as Kubernetes does with a ConfigMap.
package filewatch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/seed-f1518d44/balance/internal/text"
)

// File is a file that is polled. Read and Poll must not run at the same time; State and Name are
// safe for concurrent use.
type File struct {
	Path     string
	Every    time.Duration // how often the file is read; 0: once
	Optional bool          // a missing file counts as an empty one
	Dated    *Dated        // nil if the content is valid for ever

	// Load reads the content if that is not the content of Path alone, such as that of two files
	// which belong together. nil: Path is read.
	Load func() ([]byte, error)

	// Use takes new content into force. The content is nil if an optional file is missing. An error
	// starts with the number of a line, "3: bad weight", or with a space if no line is to blame.
	// The content before stays in force then.
	Use func(content []byte) error

	// Report is called by Poll when a problem appears or changes, and with nil when it is gone.
	Report func(problem error)

	inForce   look // the last one that counted, perhaps bad
	candidate look // one that differs and has yet to be confirmed
	problem   error
	state     atomic.Pointer[State]
}

// State is what is known of a file. Immutable.
type State struct {
	Good    time.Time // when it was last read and found good
	Since   time.Time // when the content in force was taken into force
	Missing bool      // it was not there; a problem unless it is optional
	Problem string    // with its content or with reading it; empty if there is none
}

// settle is the time between two looks at a file that changed. A change counts once both read the
// same, so that a half-written file is not taken into force.
const settle = 700 * time.Millisecond

// look is what a look at a file found.
type look struct {
	sum     [sha256.Size]byte
	missing bool
	failure string // why the file cannot be read
	content []byte
}

func (l *look) same(other *look) bool {
	return l.sum == other.sum && l.missing == other.missing && l.failure == other.failure
}

// Name returns the path for errors, logs and labels: printable, because a label that is not UTF-8
// would make the whole scrape fail.
func (f *File) Name() string { return text.OneLine(f.Path) }

// State returns what is known of the file. Before it was read, the state is zero.
func (f *File) State() State {
	if s := f.state.Load(); s != nil {
		return *s
	}
	return State{}
}

// Read reads the file and takes it into force at once. It returns an error if the file cannot be
// read or used.
func (f *File) Read() error {
	f.apply(f.look())
	return f.problem
}

// Poll reads the file until ctx is done, takes changes into force and reports problems. It also
// waits for what changes with the time of day.
func (f *File) Poll(ctx context.Context) {
	var reads, confirms <-chan time.Time
	if f.Every > 0 {
		ticks := time.NewTicker(f.Every)
		defer ticks.Stop()
		reads = ticks.C
		confirms = f.check() // it may have changed since it was read
	}
	for checked := f.Dated.check(time.Time{}); ; checked = f.Dated.check(checked) {
		select {
		case <-ctx.Done():
			return
		case <-reads:
			if confirms == nil {
				confirms = f.check()
			}
		case <-confirms:
			confirms = f.check()
		case <-f.Dated.next(checked):
		}
	}
}

// check looks at the file. It returns a channel on which the time for another look comes if the
// file has changed since the last one, else nil.
func (f *File) check() (confirm <-chan time.Time) {
	now := f.look()
	if !now.same(&f.inForce) && !now.same(&f.candidate) {
		now.content = nil // the second look has its own
		f.candidate = now
		return time.After(settle)
	}
	before := f.problem
	f.apply(now)
	if f.problem == nil && before != nil || f.problem != nil && (before == nil || before.Error() != f.problem.Error()) {
		f.Report(f.problem)
	}
	return nil
}

// apply takes into force what a look found.
func (f *File) apply(now look) {
	state := f.State()
	if !now.same(&f.inForce) { // a look is never zero, so this holds for the first one
		if f.problem = f.use(now); f.problem == nil {
			state.Since = time.Now()
		}
		now.content = nil
		f.inForce = now
	}
	f.candidate = f.inForce
	state.Missing, state.Problem = now.missing, ""
	if f.problem != nil {
		state.Problem = f.problem.Error()
	} else {
		state.Good = time.Now()
	}
	f.state.Store(&state)
}

// use uses what a look found.
func (f *File) use(now look) error {
	if now.failure != "" {
		return fmt.Errorf("%s: %s", f.Name(), now.failure)
	}
	content, err := decode(now.content)
	if err == nil {
		err = f.Use(content)
	}
	if err != nil {
		return ContentError(f.Name() + ":" + discreet(err.Error()))
	}
	return nil
}

// ContentError says what is wrong with the content of a file. It begins with the file and the line.
type ContentError string

func (e ContentError) Error() string { return string(e) }

func (f *File) read() ([]byte, error) {
	if f.Load != nil {
		return f.Load()
	}
	return ReadRegular(f.Path)
}

// look reads the file.
func (f *File) look() look {
	content, err := f.read()
	missing := errors.Is(err, fs.ErrNotExist)
	if missing && f.Optional {
		return look{missing: true}
	}
	if err != nil {
		return look{missing: missing, failure: err.Error()}
	}
	return look{sum: sha256.Sum256(content), content: content}
}
