// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"bytes"
	"fmt"
	"io/fs"
	stdlog "log"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-f1518d44/balance/internal/cidr"
	"github.com/seed-f1518d44/balance/internal/weights"
)

// Every file in testdata/weights holds a weight file, a line of dashes, and what becomes of it.
func TestWeightFile(t *testing.T) {
	golden(t, "testdata/weights/*.txt", func(content string) string {
		n, err := weights.Parse([]byte(content))
		if err != nil {
			return "error: weights.db:" + err.Error() + "\n"
		}
		return describeWeights("", n.Names) + describeWeights("*.", n.Wildcards)
	})
}

// asWritten spells a name as it may stand in a file, where a hash begins a comment.
var asWritten = strings.NewReplacer(`\ `, `\032`, "#", `\035`, "*", `\042`)

func describeWeights(prefix string, lists map[string]*weights.List) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(lists)) {
		fmt.Fprintf(&b, "%s\n", strings.Replace(prefix+asWritten.Replace(name), "*..", "*.", 1))
		for _, line := range lists[name].Lines() {
			fmt.Fprintf(&b, "    %s %d\n", cidr.Word(line.Targets), line.Weight)
		}
	}
	return b.String()
}

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
		if got := r.weightOf(tc.owner, netip.MustParseAddr(tc.addr)); got != tc.want {
			t.Errorf("%s %s has weight %d, want %d", tc.owner, tc.addr, got, tc.want)
		}
	}
}

// A weight file of 100,000 names with three addresses each fits into 60 MB.
func TestWeightFileMemory(t *testing.T) {
	content := manyWeights(100000)
	before := heapBytes()
	n, err := weights.Parse(content)
	if err != nil {
		t.Fatal(err)
	}
	used := heapBytes() - before
	t.Logf("%d names of 3 addresses, %d bytes of text: %d bytes in memory", len(n.Names), len(content), used)
	if used > 60_000_000 {
		t.Errorf("%d bytes in memory, want at most 60,000,000", used)
	}
	runtime.KeepAlive(content)
}

// heapBytes returns what the process keeps.
func heapBytes() int64 {
	runtime.GC()
	runtime.GC() // pools keep for one collection what others left in them
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc) //nolint:gosec // far from overflow
}

// manyWeights returns a weight file with some names of three addresses each.
func manyWeights(names int) []byte {
	var b strings.Builder
	for i := range names {
		fmt.Fprintf(&b, "host-%d.example.org\n", i)
		for j := range 3 {
			fmt.Fprintf(&b, "10.%d.%d.%d %d\n", i>>16&255, i>>8&255, i&255^j<<6, 1+j)
		}
	}
	return []byte(b.String())
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
		{"written in place", func() { writeFile(t, file, weigh("2")) }, 2, 0, ""},
		{"renamed", func() { rename(weigh("3")) }, 3, 0, ""},
		{"broken", func() { rename(weigh("-4")) }, 3, 1, file + `:2: bad weight "-4": want a whole number from 0 to 65535; what was read before stays in force`},
		{"still broken", func() {}, 3, 1, ""},
		{"broken otherwise", func() { rename(weigh("70000")) }, 3, 2, `bad weight "70000"`},
		{"mended", func() { rename(weigh("5")) }, 5, 2, file + " is good again and in force"},
		{"gone", func() { must(t, os.Remove(file)) }, 5, 3, file + ": no such file or directory; what was read before stays in force"},
		{"still gone", func() {}, 5, 3, ""},
		{"back as it was", func() { rename(weigh("5")) }, 5, 3, file + " is good again and in force"},
		{"a directory", func() { must(t, os.Remove(file)); must(t, os.Mkdir(file, 0o750)) }, 5, 4, file + ": not a regular file"},
		{"a link", func() {
			turnLink(weigh("6"))
			must(t, os.Remove(file))
			must(t, os.Symlink("..data/weights.db", file))
		}, 6, 4, "is good again"},
		{"the link turned", func() { turnLink(weigh("7")) }, 7, 4, ""},
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
			<-time.After(10 * time.Second)
			synctest.Wait()
			if got := r.weightOf("www.example.org.", netip.MustParseAddr("192.0.2.1")); got != step.weight {
				t.Errorf("%s: weight %d, want %d", step.name, got, step.weight)
			}
			if got := metric(t, "coredns_balance_file_reload_failures_total", file); got != step.failures {
				t.Errorf("%s: %v failures counted, want %v", step.name, got, step.failures)
			}
			if got, good := metric(t, "coredns_balance_file_good", file), strings.Contains(step.logged, "good"); good && got != 1 || step.logged != "" && !good && got != 0 {
				t.Errorf("%s: the file is %v, want 1 for good and 0 for bad", step.name, got)
			}
			if lines := logged.String(); !strings.Contains(lines, step.logged) || (lines == "") != (step.logged == "") {
				t.Errorf("%s: logged %q, want %q", step.name, lines, step.logged)
			}
		}
	})
}

// A server that starts has in force what the file says then, whatever it said when the Corefile was read: the server before may
// have it in force already.
func TestWeightFileChangesBeforeTheStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weights.db")
	writeFile(t, file, "www.example.org\n192.0.2.1 3\n")
	synctest.Test(t, func(t *testing.T) {
		r := parsedRule(t, "balance start.example.org {\n policy weighted\n weights "+file+" 1h\n}")
		writeFile(t, file, "www.example.org\n192.0.2.1 7\n")
		l := &life{rules: []*rule{r}}
		l.start()
		defer l.stop()
		synctest.Wait()
		if got := r.weightOf("www.example.org.", netip.MustParseAddr("192.0.2.1")); got != 7 {
			t.Errorf("weight is %d, want 7", got)
		}
	})
}

// A path is bytes, and a label has to be UTF-8: one that is not, as an environment variable can bring it, would leave no metric at all.
func TestPathsThatAreNoText(t *testing.T) {
	file := filepath.Join(t.TempDir(), "odd.db")
	writeFile(t, file, "www.example.org\n10.0.0.1 1\n")
	r := parsedRule(t, "balance odd.example.org {\n policy weighted\n weights "+file+" 0s\n}") // read no more
	r.files()[0].path += "\xff"
	l := &life{rules: []*rule{r}}
	l.start()
	defer l.stop()
	r.files()[0].report(nil, fs.ErrNotExist, []string{"odd.example.org."})
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
	must(t, r.file.read())
	want("10.0.0.2", "10.0.0.2")
}

// metric returns the value that a scrape finds for a metric with some label values, 0 for none.
func metric(t *testing.T, name string, labels ...string) (value float64) {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	must(t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			has := 0
			for _, label := range m.GetLabel() {
				if slices.Contains(labels, label.GetValue()) {
					has++
				}
			}
			if family.GetName() == name && has == len(labels) {
				value += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return value
}

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

func BenchmarkParseWeights(b *testing.B) {
	content := manyWeights(100000)
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := weights.Parse(content); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzParseWeights(f *testing.F) {
	addSeeds(f, "testdata/weights/*.txt")
	f.Fuzz(func(t *testing.T, content []byte) {
		n, err := weights.Parse(content)
		if err != nil {
			var line int
			if _, scanErr := fmt.Sscanf(err.Error(), "%d: ", &line); scanErr != nil || line < 1 {
				t.Fatalf("the error names no line: %v", err)
			}
			return
		}
		// What was understood, written out, is understood the same.
		text := describeWeights("", n.Names) + describeWeights("*.", n.Wildcards)
		again, err := weights.Parse([]byte(text))
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if got := describeWeights("", again.Names) + describeWeights("*.", again.Wildcards); got != text {
			t.Fatalf("became\n%s, was\n%s", got, text)
		}
	})
}
