// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"bytes"
	"io/fs"
	stdlog "log"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/testserver"
)

func TestWeightPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weights.db")
	writeFile(t, file, "www.example.org\n192.0.2.1 10\n192.0.2.0/24 20\n192.0.2.128/25 30\n"+
		"*.example.org\n192.0.2.0/24 40\n198.51.100.1 50\n*.sub.example.org\n192.0.2.0/25 60\n*.\n203.0.113.1 70\n"+
		`Dot\046ted.example.org`+"\n192.0.2.1 80\n"+`bob's.\069xample.org`+"\n192.0.2.1 90\n*.c.example.net\n192.0.2.1 100\n"+`\042.d.example.net`+"\n192.0.2.1 110\n")
	r := parsedRule(t, "balance {\n policy weighted\n weights "+file+"\n weight 192.0.2.66 1\n weight 192.0.2.64/30 2\n weight 192.0.2.64/29 3\n}")
	tests := []struct {
		owner, addr string
		want        uint16
	}{
		{"www.example.org.", "192.0.2.66", 1},      // inline, the address
		{"www.example.org.", "192.0.2.67", 2},      // inline, the longest CIDR
		{"www.example.org.", "192.0.2.68", 3},      // inline, a CIDR
		{"www.example.org.", "192.0.2.1", 10},      // the file's name and address
		{"www.example.org.", "192.0.2.2", 20},      // the file's name and CIDR
		{"www.example.org.", "192.0.2.200", 30},    // the longest of them
		{"www.example.org.", "198.51.100.1", 50},   // the name has not the address, the wildcard does
		{"a.b.example.org.", "192.0.2.1", 40},      // a wildcard is for every depth
		{"a.sub.example.org.", "192.0.2.1", 60},    // the longest wildcard
		{"a.sub.example.org.", "192.0.2.200", 40},  // that has the address
		{"example.org.", "192.0.2.1", 1},           // a wildcard is not for the name itself
		{"example.net.", "203.0.113.1", 70},        // the wildcard of the root
		{`dot\.ted.example.org.`, "192.0.2.1", 80}, // as answers spell it
		{`bob\'s.example.org.`, "192.0.2.1", 90},
		{`b.c.example.net.`, "192.0.2.1", 100},
		{`b\.c.example.net.`, "192.0.2.1", 1}, // one label, which is not under c.example.net
		{`*.d.example.net.`, "192.0.2.1", 110},
		{`b.d.example.net.`, "192.0.2.1", 1},
		{"www.example.org.", "::ffff:192.0.2.67", 2}, // in the spelling of IPv6
		{"www.example.org.", "::ffff:192.0.2.1", 10},
		{"www.example.org.", "2001:db8::1", 1},  // the default
		{"www.example.org.", "203.0.113.99", 1}, // the default
	}
	for _, tc := range tests {
		if got, _ := r.weightOf(tc.owner, netip.MustParseAddr(tc.addr)); got != tc.want {
			t.Errorf("%s %s has weight %d, want %d", tc.owner, tc.addr, got, tc.want)
		}
	}
	for addr, want := range map[string]string{"192.0.2.66": "the option weight", "192.0.2.200": file + ":4", "198.51.100.1": file + ":7", "203.0.113.99": "the default"} {
		if got := r.weightSource("www.example.org.", netip.MustParseAddr(addr)); got != want {
			t.Errorf("the weight of %s comes from %s, want %s", addr, got, want)
		}
	}
}

// A new content is seen however it came, a bad one changes nothing and is reported once.
func TestWeightFileReload(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "weights.db")
	weigh := func(weight string) string { return "www.example.org\n192.0.2.1 " + weight + "\n" }
	rename := func(content string) {
		writeFile(t, file+".new", content)
		must(t, os.Rename(file+".new", file))
	}
	turnLink := func(content string) { // as the kubelet does: file -> ..data/weights.db, ..data -> a directory
		versioned, err := os.MkdirTemp(dir, "..v")
		must(t, err)
		writeFile(t, filepath.Join(versioned, "weights.db"), content)
		must(t, os.Symlink(filepath.Base(versioned), filepath.Join(dir, "..new")))
		must(t, os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")))
	}
	steps := []struct {
		name     string
		change   func()
		weight   uint16
		failures float64
		logged   string
	}{
		{"nothing", func() {}, 1, 0, ""},
		{"written in place", func() { writeFile(t, file, weigh("2")) }, 2, 0, file + ": 1 weight changed: www.example.org. 192.0.2.1 2 instead of 1"},
		{"renamed", func() { rename(weigh("3")) }, 3, 0, "192.0.2.1 3 instead of 2"},
		{"broken", func() { rename(weigh("-4")) }, 3, 1, file + `:2: bad weight "-4": want a whole number from 0 to 65535; what was read before stays in force`},
		{"still broken", func() {}, 3, 1, ""},
		{"broken otherwise", func() { rename(weigh("70000")) }, 3, 2, `bad weight "70000": want a whole number from 0 to 65535; what was read before stays in force`},
		{"mended", func() { rename(weigh("5")) }, 5, 2, file + " is good again and in force"},
		{"gone", func() { must(t, os.Remove(file)) }, 5, 3, file + ": no such file or directory; what was read before stays in force"},
		{"still gone", func() {}, 5, 3, ""},
		{"back as it was", func() { rename(weigh("5")) }, 5, 3, file + " is good again and in force"},
		{"a directory", func() { must(t, os.Remove(file)); must(t, os.Mkdir(file, 0o750)) }, 5, 4, file + ": not a regular file; what was read before stays in force"},
		{"a link", func() {
			turnLink(weigh("6"))
			must(t, os.Remove(file))
			must(t, os.Symlink("..data/weights.db", file))
		}, 6, 4, "is good again"},
		{"truncated", func() { writeFile(t, filepath.Join(dir, "..data/weights.db"), "\n \n") }, 6, 5, file + ":1: the file is empty, and had 1 weight: write a comment line if it is to have none; what was read before stays in force"},
		{"a comment line", func() { turnLink("# none\n") }, 1, 5, "192.0.2.1 6 is gone"},
		{"nothing, after a comment line", func() { turnLink("") }, 1, 5, ""},
		{"weights again", func() { turnLink(weigh("6")) }, 6, 5, "192.0.2.1 6 is new"},
		{"the link turned", func() { turnLink(weigh("7")) }, 7, 5, "192.0.2.1 7 instead of 6"},
	}
	writeFile(t, file, weigh("1"))
	logged := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		r := parsedRule(t, "balance reload.example.org {\n policy weighted\n weights "+file+" 10s\n}")
		l := &life{rules: []*rule{r}}
		l.start()
		defer l.stop()
		for _, step := range steps {
			logged.Reset()
			step.change()
			<-time.After(20 * time.Second)
			synctest.Wait()
			if got, _ := r.weightOf("www.example.org.", netip.MustParseAddr("192.0.2.1")); got != step.weight {
				t.Errorf("%s: weight %d, want %d", step.name, got, step.weight)
			}
			if got := metric(t, "coredns_balance_file_reload_failures_total", file); got != step.failures {
				t.Errorf("%s: %v failures counted, want %v", step.name, got, step.failures)
			}
			if got, bad := metric(t, "coredns_balance_file_good", file), strings.Contains(step.logged, "stays in force"); bad && got != 0 || step.logged != "" && !bad && got != 1 {
				t.Errorf("%s: the file is %v, want 1 for good and 0 for bad", step.name, got)
			}
			if lines := logged.String(); !strings.Contains(lines, step.logged) || (lines == "") != (step.logged == "") {
				t.Errorf("%s: logged %q, want %q", step.name, lines, step.logged)
			}
		}
	})
}

// A ramp makes its steps while the server runs, and a server that starts in the middle of it goes
// on from there. The log has its beginning and its end.
func TestWeightFileRamp(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weights.db")
	writeFile(t, file, "www.example.org\n192.0.2.1 5 to 50 from 2000-01-01T01:00:00Z over 2h\n192.0.2.2 50\n")
	logged := captureLog(t)
	synctest.Test(t, func(t *testing.T) { // begins at midnight of 2000-01-01
		run := func(steps map[time.Duration]uint16) {
			r := parsedRule(t, "balance ramp.example.org {\n policy weighted\n weights "+file+" 0s\n}")
			l := &life{rules: []*rule{r}}
			l.start()
			defer l.stop()
			for _, after := range slices.Sorted(maps.Keys(steps)) {
				epoch := r.epoch.Load()
				wait(time.Until(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(after)))
				if got, want := r.weightRamp("www.example.org.", netip.MustParseAddr("192.0.2.1")), "5 to 50 from 2000-01-01T01:00:00Z over 2h"; got != want {
					t.Errorf("the page has the ramp %q, want %q", got, want)
				}
				if got, _ := r.weightOf("www.example.org.", netip.MustParseAddr("192.0.2.1")); got != steps[after] {
					t.Errorf("after %v the weight is %d, want %d", after, got, steps[after])
				}
				if r.epoch.Load() == epoch {
					t.Errorf("after %v plans are still current", after)
				}
			}
		}
		run(map[time.Duration]uint16{time.Hour: 5, time.Hour + 160*time.Second: 6, 2 * time.Hour: 27})
		run(map[time.Duration]uint16{2*time.Hour + 80*time.Second: 28, 3 * time.Hour: 50})
	})
	lines := logged.String()
	for _, want := range []string{
		file + ": www.example.org. 192.0.2.1 begins its ramp: 5 to 50 from 2000-01-01T01:00:00Z over 2h\n",
		file + ": www.example.org. 192.0.2.1 ends its ramp: weight 50\n",
	} {
		if strings.Count(lines, want) != 1 {
			t.Errorf("logged %q, want %q once", lines, want)
		}
	}
	if strings.Count(lines, "\n") != 2 {
		t.Errorf("logged %q, want two lines", lines)
	}
}

// A server that starts has in force what the file says then, whatever it said when the Corefile was
// read: the server before may have it in force already.
func TestWeightFileChangesBeforeTheStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weights.db")
	writeFile(t, file, "www.example.org\n192.0.2.1 3\n")
	synctest.Test(t, func(t *testing.T) {
		r := parsedRule(t, "balance start.example.org {\n policy weighted\n weights "+file+" 1h\n}")
		writeFile(t, file, "www.example.org\n192.0.2.1 7\n")
		l := &life{rules: []*rule{r}}
		l.start()
		defer l.stop()
		wait(time.Second)
		if got, _ := r.weightOf("www.example.org.", netip.MustParseAddr("192.0.2.1")); got != 7 {
			t.Errorf("weight is %d, want 7", got)
		}
	})
}

// A path is bytes, and a label has to be UTF-8: one that is not, as an environment variable can
// bring it, would leave no metric at all.
func TestPathsThatAreNoText(t *testing.T) {
	file := filepath.Join(t.TempDir(), "odd.db")
	writeFile(t, file, "www.example.org\n10.0.0.1 1\n")
	r := parsedRule(t, "balance odd.example.org {\n policy weighted\n weights "+file+" 0s\n}") // read no more
	r.file.Path += "\xff"
	l := &life{rules: []*rule{r}}
	l.start()
	defer l.stop()
	r.file.Report(fs.ErrNotExist)
	for _, name := range []string{"coredns_balance_file_good", "coredns_balance_file_reload_failures_total"} {
		if got := metric(t, name, file+"\ufffd", "odd.example.org."); got != 1 {
			t.Errorf("%s is %v, want 1", name, got)
		}
	}
}

// The leads follow a new file at once, and those of a name whose weights stay go on as they were.
func TestWeightFileChangesLeads(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weights.db")
	writeFile(t, file, "www.example.org\n10.0.0.1 1\n10.0.0.2 0\n")
	m := addressesMsg(2)
	h := newHandler(t, "balance {\n policy weighted\n weights "+file+"\n}", answering(m))
	r := h.(*Balance).rules.of(m)
	want := func(leads ...string) {
		t.Helper()
		for _, lead := range leads {
			if got := ask(t, h, m).Answer; len(got) != 1 || got[0].(*dns.A).A.String() != lead {
				t.Fatalf("answer is %v, want %s", got, lead)
			}
		}
	}
	want("10.0.0.1", "10.0.0.1")
	writeFile(t, file, "www.example.org\n10.0.0.1 0\n10.0.0.2 1\n")
	must(t, r.file.Read())
	want("10.0.0.2", "10.0.0.2")
}

var metric = testserver.Metric

// captureLog returns what is logged from now to the end of the test.
func captureLog(t *testing.T) *logLines {
	t.Helper()
	logged := &logLines{}
	before := stdlog.Writer()
	stdlog.SetOutput(logged)
	t.Cleanup(func() { stdlog.SetOutput(before) })
	return logged
}

// logLines is what was logged. Safe for concurrent use.
type logLines struct {
	sync.Mutex
	text bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.text.Write(p)
}

func (l *logLines) Reset() {
	l.Lock()
	defer l.Unlock()
	l.text.Reset()
}

func (l *logLines) String() string {
	l.Lock()
	defer l.Unlock()
	return l.text.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
