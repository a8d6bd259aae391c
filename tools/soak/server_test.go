// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// No line of a log is lost, however much of it is freed while it is written.
func TestJournalLosesNothing(t *testing.T) {
	j, err := openJournal(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	const lines = journalLines - 1
	j.keep = 64 << 10
	padding := strings.Repeat("x", 1000)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range lines {
			fmt.Fprintf(j.file, "line %d. %s\n", i, padding) //nolint:errcheck // missing then
		}
	})
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for writing := true; writing; j.mark() {
		select {
		case <-done:
			writing = false
		case <-time.After(time.Millisecond):
		}
	}
	j.mark()
	for i, line := range j.lines {
		if !strings.HasPrefix(line, fmt.Sprintf("line %d. ", i)) {
			t.Fatalf("line %d is %.20q", i, line)
		}
	}
	if len(j.lines) != lines || j.count(0, ". xx") != lines || j.count(10, "line 3.", "line 12.") != 1 {
		t.Errorf("%d lines, want %d", len(j.lines), lines)
	}
	if err := punch(j.file, 0, 1); err != nil {
		t.Logf("this disk takes nothing back: %v", err)
	} else if j.read-j.freed > j.keep {
		t.Errorf("%d bytes kept, want at most %d", j.read-j.freed, j.keep)
	}
	if err := j.file.Close(); err != nil {
		t.Error(err)
	}
}

// A value that comes into force later is not in force before.
func TestTimelineToCome(t *testing.T) {
	now := time.Now()
	l := newTimeline(1)
	l.setFrom(now.Add(time.Second), 2)
	for after, want := range map[time.Duration][]int{0: {1}, 2 * time.Second: {2}} {
		if got := l.during(now.Add(after), now.Add(after)); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("after %s: %v, want %v", after, got, want)
		}
	}
	if got := l.during(now, now.Add(2*time.Second)); len(got) != 2 {
		t.Errorf("meanwhile: %v, want both", got)
	}
}
