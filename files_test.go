// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What happens to an overrides file is said: in the log, and by metrics if it may be a mistake.
func TestOverridesFileIsToldOf(t *testing.T) {
	file := filepath.Join(t.TempDir(), "overrides")
	logged := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		r := parsedRule(t, "balance told.example.org {\n overrides "+file+" 5s\n}")
		l := &life{rules: []*rule{r}}
		must(t, l.start())
		defer l.stop()
		until := time.Now().Add(time.Minute).UTC().Format(time.RFC3339)
		for _, step := range []struct {
			name                  string
			change                func()
			logged                string
			missing, good, lifted float64
		}{
			{"missing from the start", func() {}, "[WARNING] plugin/balance: FILE is missing: no overrides until it is there", 1, 1, 0},
			{"still missing", func() {}, "", 1, 1, 0},
			{"written", func() { writeFile(t, file, "192.0.2.1 drain # move\n192.0.2.2 down\n") }, "[INFO] plugin/balance: FILE: 2 overrides in force; added: 192.0.2.1 drain # move; 192.0.2.2 down", 0, 1, 0},
			{"a line in another place", func() { writeFile(t, file, "192.0.2.2 down\n192.0.2.1 drain # move\n") }, "", 0, 1, 0},
			{"another line", func() { writeFile(t, file, "192.0.2.1 drain # move\n192.0.2.3 up until "+until+"\n") }, "[INFO] plugin/balance: FILE: 2 overrides in force; added: 192.0.2.3 up until " + until + "; lifted: 192.0.2.2 down", 0, 1, 0},
			{"deleted", func() { must(t, os.Remove(file)) }, "[WARNING] plugin/balance: FILE is missing, which lifted 2 overrides: 192.0.2.1 drain # move; 192.0.2.3 up until " + until, 1, 1, 2},
			{"empty", func() { writeFile(t, file, "") }, "", 0, 1, 2},
			{"back", func() { writeFile(t, file, "192.0.2.1 drain\n") }, "[INFO] plugin/balance: FILE: 1 override in force; added: 192.0.2.1 drain", 0, 1, 2},
			{"emptied", func() { writeFile(t, file, "\n") }, "[WARNING] plugin/balance: FILE is empty, which lifted 1 override: 192.0.2.1 drain", 0, 1, 3},
			{"back again", func() { writeFile(t, file, "192.0.2.1 drain\n") }, "[INFO] plugin/balance: FILE: 1 override in force; added: 192.0.2.1 drain", 0, 1, 3},
			{"a comment line", func() { writeFile(t, file, "# none\n") }, "[INFO] plugin/balance: FILE: 0 overrides in force; lifted: 192.0.2.1 drain", 0, 1, 3},
			{"bad", func() { writeFile(t, file, "192.0.2.1 drian\n") }, `[ERROR] plugin/balance: FILE:1: unknown override "drian": want up, down or drain; did you mean "drain"?; what was read before stays in force`, 0, 0, 3},
			{"UTF-16", func() { writeFile(t, file, "\xff\xfe1\x00") }, `[ERROR] plugin/balance: FILE:1: the file is UTF-16: want UTF-8, as "Set-Content -Encoding utf8" writes it; what was read before stays in force`, 0, 0, 3},
			{"good", func() { writeFile(t, file, "\xef\xbb\xbf# none\n") }, "[INFO] plugin/balance: FILE is good again and in force", 0, 1, 3},
		} {
			step.change()
			wait(6 * time.Second)
			if got := strings.ReplaceAll(logLine(logged), file, "FILE"); got != step.logged {
				t.Errorf("%s: logged\n%q, want\n%q", step.name, got, step.logged)
			}
			logged.Reset()
			for name, want := range map[string]float64{"file_missing": step.missing, "file_good": step.good, "overrides_lifted_total": step.lifted} {
				if got := metric(t, "coredns_balance_"+name, file); got != want {
					t.Errorf("%s: %s is %v, want %v", step.name, name, got, want)
				}
			}
		}
	})
}

// logLine returns what was logged, without the time.
func logLine(logged *logLines) string {
	_, line, _ := strings.Cut(strings.TrimSpace(logged.String()), " [")
	if line != "" {
		line = "[" + line
	}
	return line
}

// An override that ends is logged when it does.
func TestEndOfAnOverrideIsLogged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "overrides")
	logged := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		line := "192.0.2.1 down until " + time.Now().Add(time.Minute).UTC().Format(time.RFC3339)
		writeFile(t, file, line+"\n")
		l := &life{rules: []*rule{parsedRule(t, "balance {\n overrides "+file+" 0\n}")}}
		must(t, l.start())
		defer l.stop()
		wait(time.Minute)
		if want := file + ": 0 overrides in force; lifted: " + line; !strings.Contains(logged.String(), want) {
			t.Errorf("logged %q, want %q", logged.String(), want)
		}
	})
}

// A reload is no way around: a weight file that was truncated meanwhile is an error, and an
// overrides file that is gone is told of. A file that never had anything is fine.
func TestFilesOverAReload(t *testing.T) {
	dir := t.TempDir()
	weights, overrides := filepath.Join(dir, "weights"), filepath.Join(dir, "overrides")
	stanza := "balance {\n policy weighted\n weights " + weights + " 0\n overrides " + overrides + " 0\n}"
	writeFile(t, weights, "")
	writeFile(t, overrides, "192.0.2.1 drain\n")
	parsedRule(t, stanza)
	writeFile(t, weights, "www.example.org\n192.0.2.1 1\n")
	parsedRule(t, stanza)
	must(t, os.Remove(overrides))
	logged := captureLog(t)
	parsedRule(t, stanza)
	if want := overrides + " is missing, which lifted 1 override: 192.0.2.1 drain"; !strings.Contains(logged.String(), want) {
		t.Errorf("logged %q, want %q", logged.String(), want)
	}
	writeFile(t, weights, "")
	want := weights + ":1: the file is empty, and had 1 weight: write a comment line if it is to have none"
	if _, err := newWeightFile(fileUser{}, weights, 0); fmt.Sprint(err) != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}

// A name that is answered without any weight is named once, until the file changes.
func TestNamesWithoutWeightsAreLogged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weights")
	writeFile(t, file, "ww.plain.test\n10.0.0.1 5\none.plain.test\n10.0.0.9 2\n")
	h := newHandler(t, "balance plain.test {\n policy weighted\n weights "+file+"\n}", echo)
	logged := captureLog(t)
	want := func(step string, records, line string) {
		t.Helper()
		owner, _, _ := strings.Cut(records, " ")
		ask(t, h, message(t, owner+" A", records))
		if got := logLine(logged); got != line {
			t.Errorf("%s: logged %q, want %q", step, got, line)
		}
		logged.Reset()
	}
	const two = " A 10.0.0.1\n www.plain.test. A 10.0.0.2"
	want("one of two has a weight", "ww.plain.test. A 10.0.0.1\n ww.plain.test. A 10.0.0.2", "")
	want("an only address", "one.plain.test. A 10.0.0.1", "")
	want("weights are for IPv4 only", "www.plain.test. AAAA 2001:db8::1\n www.plain.test. AAAA 2001:db8::2", "")
	want("no weight", "www.plain.test."+two, "[WARNING] plugin/balance: policy weighted: no weight applies to www.plain.test.: its members have equal shares")
	want("again", "www.plain.test."+two, "")
	want("another name", "wwww.plain.test. A 10.0.0.3\n wwww.plain.test. A 10.0.0.4", "")
	writeFile(t, file, "ww.plain.test\n10.0.0.1 6\n")
	must(t, h.(*Balance).rules.only.file.Read())
	logged.Reset()
	want("the file changed", "www.plain.test."+two, "[WARNING] plugin/balance: policy weighted: no weight applies to www.plain.test.: its members have equal shares")
}

// The page has the lines that applied to no member.
func TestUnusedLinesAreShown(t *testing.T) {
	defer inUse.forget()
	dir := t.TempDir()
	weights, overrides := filepath.Join(dir, "weights"), filepath.Join(dir, "overrides")
	writeFile(t, weights, "www.unused\n10.0.0.1 5\n10.0.0.2 3\n10.0.0.9 4\n\nww.unused\n10.0.0.1 5\n*.unused\n10.0.0.0/24 7\n")
	writeFile(t, overrides, "10.0.0.1 down\n10.0.0.1 up\n# comment\nww.unused 10.0.0.1 drain # typo\n10.0.0.7 down until 2020-01-01T00:00:00Z\n")
	h := newHandler(t, "balance unused {\n policy weighted\n weights "+weights+"\n overrides "+overrides+"\n status\n}", echo)
	ask(t, h, message(t, "www.unused. A", "www.unused. A 10.0.0.1\n www.unused. A 10.0.0.2"))
	r := h.(*Balance).rules.only.rule
	var shown []string
	for _, f := range r.files() {
		shown = append(shown, fileOf(f).Unused...)
	}
	want := []string{
		"4: www.unused. 10.0.0.9 4", "7: ww.unused. 10.0.0.1 5", "9: *.unused. 10.0.0.0/24 7",
		"1: 10.0.0.1 down", "4: ww.unused. 10.0.0.1 drain # typo",
	}
	if diff := cmp.Diff(want, shown); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	writeFile(t, weights, "www.unused\n"+strings.Repeat("10.1.0.0/16 1\n", 50))
	must(t, r.file.Read())
	if f := fileOf(r.file); len(f.Unused) != maxShownLines || f.UnusedOmitted != 30 || f.Unused[0] != "2: www.unused. 10.1.0.0/16 1" {
		t.Errorf("%d lines and %d omitted, the first %q", len(f.Unused), f.UnusedOmitted, f.Unused[0])
	}
}
