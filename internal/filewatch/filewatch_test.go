// SPDX-License-Identifier: Apache-2.0

package filewatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), 0o600))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// journal is what a file told: the contents taken into force, and the problems. A content that
// starts with "bad" is an error. Safe for concurrent use.
type journal struct {
	sync.Mutex
	told []string
}

func (j *journal) note(what string) {
	j.Lock()
	defer j.Unlock()
	j.told = append(j.told, what)
}

func (j *journal) file(path string, every time.Duration) *File {
	return &File{
		Path: path, Every: every,
		Use: func(content []byte) error {
			if bytes.HasPrefix(content, []byte("bad")) {
				return fmt.Errorf("1: found %q", content)
			}
			j.note("use " + string(content))
			return nil
		},
		Report: func(problem error) {
			if problem == nil {
				problem = errors.New("good again")
			}
			j.note(strings.TrimPrefix(problem.Error(), path))
		},
	}
}

// expect fails unless exactly this was told since the last call.
func (j *journal) expect(t *testing.T, step string, want ...string) {
	t.Helper()
	j.Lock()
	defer j.Unlock()
	if got := fmt.Sprintf("%q", j.told); got != fmt.Sprintf("%q", want) {
		t.Errorf("%s: told %s, want %q", step, got, want)
	}
	j.told = nil
}

// poll polls a file in a goroutine until the test ends.
func poll(t *testing.T, f *File) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Poll(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// A change counts once two looks read the same; a problem is told when it appears or changes.
func TestPoll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, "one")
	synctest.Test(t, func(t *testing.T) {
		j := &journal{}
		f := j.file(path, 10*time.Second)
		must(t, f.Read())
		j.expect(t, "read", "use one")
		poll(t, f)
		for _, step := range []struct {
			name   string
			change func()
			want   []string
		}{
			{"nothing", func() {}, nil},
			{"another content", func() { write(t, path, "two") }, []string{"use two"}},
			{"bad", func() { write(t, path, "bad one") }, []string{`:1: found "bad one"`}},
			{"still bad", func() {}, nil},
			{"bad otherwise", func() { write(t, path, "bad two") }, []string{`:1: found "bad two"`}},
			{"good", func() { write(t, path, "three") }, []string{"use three", "good again"}},
			{"gone", func() { must(t, os.Remove(path)) }, []string{": no such file or directory"}},
			{"still gone", func() {}, nil},
			{"back", func() { write(t, path, "three") }, []string{"use three", "good again"}},
			{"with a byte-order mark", func() { write(t, path, "\xef\xbb\xbffour") }, []string{"use four"}},
		} {
			step.change()
			pass(10*time.Second + settle)
			j.expect(t, step.name, step.want...)
			pass(10*time.Second - settle)
			j.expect(t, step.name+", later")
		}
	})
}

// A file that is half written when it is read does not count, nor one that its writer replaces
// within the time between two looks. A writer that pauses for longer is taken at its word.
func TestHalfWrittenFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, "one")
	synctest.Test(t, func(t *testing.T) {
		j := &journal{}
		f := j.file(path, 10*time.Second)
		must(t, f.Read())
		poll(t, f)
		pass(10*time.Second - settle/2)
		j.expect(t, "at first", "use one")

		write(t, path, "") // truncated, and then written
		pass(settle)
		write(t, path, "two")
		pass(settle)
		j.expect(t, "one look read it empty, one full")
		pass(settle)
		j.expect(t, "two looks read it full", "use two")

		pass(10*time.Second - 3*settle)
		must(t, os.Remove(path)) // and back before the second look
		pass(settle)
		write(t, path, "two")
		pass(20 * time.Second)
		j.expect(t, "gone for a moment")
	})
}

// Another look does not wait for the next reading, and a reading does not replace it: the two are
// from 500 ms to 1 s apart however often the file is read.
func TestTimeBetweenLooks(t *testing.T) {
	for _, every := range []time.Duration{100 * time.Millisecond, time.Second, time.Hour} {
		path := filepath.Join(t.TempDir(), "file")
		write(t, path, "one")
		synctest.Test(t, func(t *testing.T) {
			j := &journal{}
			f := j.file(path, every)
			must(t, f.Read())
			poll(t, f)
			pass(every / 2)
			write(t, path, "two")
			pass(every/2 + 490*time.Millisecond)
			j.expect(t, "before", "use one")
			pass(510 * time.Millisecond)
			j.expect(t, "after", "use two")
		})
	}
}

// The state says when the file was good, since when its content is in force, and what is wrong.
func TestState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		j := &journal{}
		f := j.file(path, 10*time.Second)
		f.Optional = true
		want := func(step string, good, since time.Duration, missing bool, problem string) {
			t.Helper()
			s := f.State()
			if s.Good.Sub(start) != good || s.Since.Sub(start) != since || s.Missing != missing || strings.TrimPrefix(s.Problem, path) != problem {
				t.Errorf("%s: good after %v, in force since %v, missing %t, problem %q", step, s.Good.Sub(start), s.Since.Sub(start), s.Missing, s.Problem)
			}
		}
		must(t, f.Read())
		want("missing", 0, 0, true, "")
		poll(t, f)
		pass(20 * time.Second)
		want("still missing", 20*time.Second, 0, true, "")
		write(t, path, "one")
		pass(10*time.Second + settle)
		want("there", 30*time.Second+settle, 30*time.Second+settle, false, "")
		write(t, path, "bad")
		pass(10 * time.Second)
		want("bad", 30*time.Second+settle, 30*time.Second+settle, false, `:1: found "bad"`)
	})
}

// A path that is not UTF-8, as an environment variable may bring it, would leave no metric at all.
func TestNameIsText(t *testing.T) {
	f := &File{Path: "odd\xff\n"}
	if got, want := f.Name(), "odd\ufffd\\n"; got != want {
		t.Errorf("name is %q, want %q", got, want)
	}
}
