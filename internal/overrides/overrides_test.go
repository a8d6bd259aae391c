// SPDX-License-Identifier: Apache-2.0

package overrides

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-f1518d44/balance/internal/golden"
)

// Every file in testdata/files holds an overrides file, a line of dashes, and what becomes of it.
func TestFiles(t *testing.T) {
	golden.Check(t, "testdata/files/*.txt", func(content string) string {
		set, err := Parse([]byte(content))
		if err != nil {
			return "error: overrides:" + err.Error() + "\n"
		}
		var b strings.Builder
		for i := range set {
			b.WriteString(set[i].String() + "\n")
		}
		return b.String()
	})
}

func TestOf(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	set, err := Parse([]byte(`
		10.0.0.0/8 drain
		10.0.0.1 down
		www.h 10.0.0.1 up
		10.0.0.2 down until 2026-11-23T12:00:00Z
		10.0.0.3 down until 2026-11-23T12:00:01Z
		10.0.0.3 up from 2026-11-23T12:00:01Z
		10.0.0.6 up from 2026-11-23T12:00:00Z until 2026-11-23T12:00:01Z
		10.0.0.4 up
		10.0.0.4/31 down
		*.w.h 10.0.0.9 up
		\065\046b.h 10.0.0.9 down
		bob's.h 10.0.0.9 down
		*.c\046d.h 10.0.0.9 up
		*. 10.0.1.1 up`))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		owner, addr string
		want        Override
	}{
		{"any.h.", "10.0.0.9", Drain},
		{"any.h.", "10.0.0.1", Down},
		{"www.h.", "10.0.0.1", Up},
		{"any.h.", "10.0.0.2", Drain}, // the later line is void
		{"any.h.", "10.0.0.3", Down},  // the later line is not in force yet
		{"any.h.", "10.0.0.6", Up},
		{"any.h.", "10.0.0.4", Down}, // the last line wins, not the longest prefix
		{"any.h.", "192.0.2.1", None},
		{"a.b.w.h.", "10.0.0.9", Up},
		{"w.h.", "10.0.0.9", Drain},
		{`a\.w.h.`, "10.0.0.9", Drain}, // one label, which is not under w.h
		{`a\\.w.h.`, "10.0.0.9", Up},
		{`a\.b.h.`, "10.0.0.9", Down}, // as answers spell it
		{`bob\'s.h.`, "10.0.0.9", Down},
		{`a.c\.d.h.`, "10.0.0.9", Up},
		{`c\.d.h.`, "10.0.0.9", Drain},
		{"h.", "10.0.1.1", Up},
		{".", "10.0.1.1", Drain},
	}
	for _, tc := range tests {
		if got := set.Of(tc.owner, netip.MustParseAddr(tc.addr), now); got != tc.want {
			t.Errorf("%s %s is overridden %s, want %s", tc.owner, tc.addr, got, tc.want)
		}
	}
}

// A time from now on is refused, with the time to write in its place.
func TestRelativeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins at midnight of 2000-01-01
		for _, word := range []string{"until +2h", "until 2h", "from +2h", "from 2000-01-01T00:00:00Z until +2h"} {
			_, err := Parse([]byte("192.0.2.1 drain " + word))
			relative := word[strings.LastIndex(word, " ")+1:]
			want := `1: bad time "` + relative + `": a line does not know when it was written: want 2000-01-01T02:00:00Z, which is 2h from now`
			if err == nil || err.Error() != want {
				t.Errorf("%s: error %v, want %s", word, err, want)
			}
		}
	})
}

func TestNext(t *testing.T) {
	set, err := Parse([]byte("10.0.0.1 down from 2026-11-23T12:00:00Z until 2026-11-23T14:00:00Z\n10.0.0.2 down until 2026-11-23T13:00:00Z\n10.0.0.3 up"))
	if err != nil {
		t.Fatal(err)
	}
	at := func(hour int) time.Time { return time.Date(2026, 11, 23, hour, 0, 0, 0, time.UTC) }
	for hour, want := range map[int]time.Time{11: at(12), 12: at(13), 13: at(14), 14: {}} {
		if next, dated := set.Next(at(hour)); !next.Equal(want) || !dated {
			t.Errorf("after %d:00 the next change is at %v, want %v", hour, next, want)
		}
	}
	if _, dated := set[2:].Next(at(0)); dated {
		t.Error("a line without a time changes")
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range golden.Inputs(f, "testdata/files/*.txt") {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		set, err := Parse(content)
		if err != nil {
			var line int
			if _, scanErr := fmt.Sscanf(err.Error(), "%d: ", &line); scanErr != nil || line < 1 {
				t.Fatalf("the error names no line: %v", err)
			}
			return
		}
		for i := range set {
			again, err := Parse([]byte(set[i].String()))
			if err != nil || len(again) != 1 || again[0].String() != set[i].String() {
				t.Fatalf("%q became %v, %v", set[i].String(), again, err)
			}
		}
	})
}

// An RRset goes back to its first tier when the last line for its name says so, once that time has
// come.
func TestFailback(t *testing.T) {
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	set, err := Parse([]byte(`
		www.h failback at 2026-12-01T11:00:00Z
		*.h failback at 2026-12-01T10:00:00Z
		www.h failback at 2026-12-01T13:00:00Z
		192.0.2.1 down`))
	if err != nil {
		t.Fatal(err)
	}
	for owner, want := range map[string]int{"www.h.": 11, "a.b.h.": 10, "h.": 0} {
		got := set.Failback(owner, now)
		if want == 0 && !got.IsZero() || want > 0 && got.Hour() != want {
			t.Errorf("%s goes back at %v, want %d o'clock", owner, got, want)
		}
	}
	if next, _ := set.Next(now); next.Hour() != 13 {
		t.Errorf("the next line takes effect at %v, want 13 o'clock", next)
	}
	if got := set.Of("www.h.", netip.MustParseAddr("0.0.0.0"), now); got != None {
		t.Errorf("an address is overridden %s", got)
	}
	if targets := set[:1].Targets(); targets[0] != "www.h. failback" {
		t.Errorf("the first line is for %q", targets[0])
	}
}
