// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// polledFile is a file that an operator may change at any time. It is compared by content, so that
// a new one is seen whether it was written in place, renamed into place or put there by turning a
// symbolic link, as Kubernetes does with a ConfigMap. Read by one goroutine at a time.
type polledFile struct {
	path  string
	every time.Duration              // 0: the file is read once
	use   func(content []byte) error // takes a new content into force; errors start with the line

	optional bool   // one that is not there is an empty one
	dated    *dated // nil: the content is good for ever

	seen    [sha256.Size]byte // of the content read last
	problem error             // with that content or with reading it; nil: none

	trouble     atomic.Pointer[string] // problem, for those who look; nil: none
	lastSuccess atomic.Int64           // Unix time, in nanoseconds, when it was last read and found good
}

// read takes the file's content into force where it is new. It returns an error where the file
// cannot be read or its content not be used: then what was in force stays so.
func (f *polledFile) read() error {
	err := f.load()
	f.show()
	return err
}

// load is read without what others see of a problem.
func (f *polledFile) load() error {
	content, err := readRegular(f.path)
	if f.optional && errors.Is(err, fs.ErrNotExist) {
		content, err = nil, nil
	}
	if err != nil {
		f.seen = [sha256.Size]byte{}
		f.problem = fmt.Errorf("%s: %w", f.name(), err)
		return f.problem
	}
	if sum := sha256.Sum256(content); sum != f.seen {
		f.seen, f.problem = sum, nil
		if err := f.use(content); err != nil {
			f.problem = fmt.Errorf("%s:%s", f.name(), discreet(err.Error()))
		}
	}
	if f.problem == nil {
		f.lastSuccess.Store(time.Now().UnixNano())
	}
	return f.problem
}

// name returns the path as errors, the log, metrics and the page have it: a label that is not UTF-8 would cost the whole scrape.
func (f *polledFile) name() string { return oneLine(f.path) }

// show makes the problem known to those who look.
func (f *polledFile) show() {
	if f.problem == nil {
		f.trouble.Store(nil)
		return
	}
	text := f.problem.Error()
	f.trouble.Store(&text)
}

const maxFile = 64 << 20 // bytes; a weight file of a million addresses has a third of that

// readRegular returns the content of a file of at most maxFile bytes. Devices and pipes, which may never end, are errors.
func readRegular(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // the operator's choice; a pipe has nobody at its other end
	if err != nil {
		return nil, reasonOf(err)
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return nil, reasonOf(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("too long, %d bytes: want at most %d", info.Size(), maxFile)
	}
	content := make([]byte, info.Size()) // one that changes meanwhile is read again
	n, err := io.ReadFull(f, content)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return content[:n], reasonOf(err)
}

const (
	maxShown = 64      // bytes of a word of a file in an error: a longer one may be a key or a password's hash
	maxText  = 1 << 10 // bytes of such an error, and of what else comes from a file or a plugin
)

var quotedWords = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

// discreet returns an error about a file's content without most of its long words: the file may be another than the
// operator believes, and more people read the log than it.
func discreet(text string) string {
	return oneLine(quotedWords.ReplaceAllStringFunc(text, func(word string) string {
		if len(word) <= maxShown {
			return word
		}
		return strings.TrimRight(word[:maxShown/4], `\`) + `..."`
	}))
}

// oneLine makes a text that others wrote fit for a line of the log: printable, and not longer than maxText.
func oneLine(text string) string {
	var b strings.Builder
	for _, r := range text {
		if b.Len() >= maxText {
			return b.String() + "..."
		}
		if strconv.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		escaped := strconv.QuoteRuneToASCII(r)
		b.WriteString(escaped[1 : len(escaped)-1])
	}
	return b.String()
}

// reasonOf returns what is wrong with a file, without its path.
func reasonOf(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// poll reads the file every so often until ctx is done, and tells when a part of it expires. A
// problem is logged and counted when it appears or changes, not every time that it is found.
func (f *polledFile) poll(ctx context.Context, zones []string) {
	var reads <-chan time.Time
	if f.every > 0 {
		ticks := time.NewTicker(f.every)
		defer ticks.Stop()
		reads = ticks.C
		f.look(zones) // it was read some time before, and the server before this one may have read it since
	}
	for looked := f.dated.look(time.Time{}); ; looked = f.dated.look(looked) {
		select {
		case <-ctx.Done():
			return
		case <-reads:
			f.look(zones)
		case <-f.dated.next(looked):
		}
	}
}

// look reads the file and reports what comes of it.
func (f *polledFile) look(zones []string) {
	before := f.problem
	f.report(before, f.read(), zones)
}

// dated is content with parts that expire at some time of day. The clock that says so may be set, forward or back, and stands
// still for our timers while the machine sleeps.
type dated struct {
	clock  func() time.Time                                   // says what time it is, without a monotonic reading
	turned func(from, to time.Time) bool                      // whether other parts are in force at one time than at the other
	expiry func(now time.Time) (next time.Time, expires bool) // when the next part expires, zero: none will; whether any has an end
	notify func()                                             // called when other parts are in force
}

// lookAgain is how often, at least, the clock is looked at.
const lookAgain = 5 * time.Second

// look tells whom it concerns where other parts are in force than when it was last looked, and returns the time. The zero
// time is for the first look.
func (d *dated) look(last time.Time) time.Time {
	if d == nil {
		return last
	}
	now := d.clock()
	if !last.IsZero() && d.turned(last, now) {
		d.notify()
	}
	return now
}

// next returns a channel on which something comes when it is time to look.
func (d *dated) next(now time.Time) <-chan time.Time {
	if d == nil {
		return nil
	}
	next, expires := d.expiry(now)
	switch {
	case !expires:
		return nil
	case next.IsZero():
		return time.After(lookAgain)
	}
	return time.After(min(next.Sub(now), lookAgain))
}

// wallClock returns the time as the wall clock has it, to compare with times of day.
func wallClock() time.Time { return time.Now().Round(0) }

func (f *polledFile) report(before, now error, zones []string) {
	switch {
	case now == nil && before != nil:
		log.Infof("%s is good again and in force", f.name())
	case now != nil && (before == nil || before.Error() != now.Error()):
		log.Errorf("%v; what was read before stays in force", now)
		for _, zone := range zones {
			fileReloadFailures.WithLabelValues(zone, f.name()).Inc()
		}
	}
}
