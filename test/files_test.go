// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/testserver"
)

// linesWith returns the lines of a log that hold a text.
func linesWith(log, text string) (lines []string) {
	for line := range strings.Lines(log) {
		if strings.Contains(line, text) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// waitForLog waits until the log has a text. It returns the log.
func waitForLog(t *testing.T, j journal, text string) string {
	t.Helper()
	j.says(text)
	return j.text()
}

// share returns how often each member led 100 answers.
func share(c *testserver.Client) leads {
	lead := leads{}
	for range 100 {
		lead.add(c.Ask(query("www.example.org.", dns.TypeA)), dns.TypeA)
	}
	return lead
}

const someWeights = "www.example.org\n192.0.2.1 99\n192.0.2.2 1\n192.0.2.3 0\n"

// A weight file that was truncated, or is not text, changes nothing, and says so.
func TestWeightFilesThatWereSpoiled(t *testing.T) {
	utf16 := "\xff\xfew\x00w\x00w\x00\n\x00"
	for name, tc := range map[string]struct{ content, says string }{
		"truncated":   {"", "the file is empty, and had 3 weights"},
		"blank":       {"\n \t\n", "the file is empty, and had 3 weights"},
		"UTF-16":      {utf16, "UTF-16"},
		"half a line": {"www.example.org\n192.0.2.1 99\n192.0.", "192.0."},
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t, "weights", someWeights)
			j := newJournal(t)
			k := startChecked(t, rule("policy weighted", "weights "+path+" 100ms"), "file "+zone(t, "example.org.", threeAs))
			before := share(k.c)
			testserver.Write(t, path, tc.content)
			j.says(tc.says)
			if got := share(k.c); fmt.Sprint(got) != fmt.Sprint(before) || got["192.0.2.1"] != 99 {
				t.Errorf("leads are %v, want %v as before", got, before)
			}
			if good := k.seriesOf("coredns_balance_file_good"); len(good) != 1 || counts(t, k.metrics)[good[0]] != 0 {
				t.Errorf("file_good is %v, want one series with 0", good)
			}
			// A reload must not forget that it was better.
			if name == "truncated" && k.restart(k.block(rule("policy weighted", "weights "+path+" 100ms"), "whoami")) == nil {
				t.Error("a reload takes an empty file into force")
			}
		})
	}
}

// Some editors begin a file with a byte-order mark.
func TestFilesMayBeginWithAByteOrderMark(t *testing.T) {
	const bom = "\xef\xbb\xbf"
	s := start(t, block(rule("policy weighted", "weights "+file(t, "weights", bom+someWeights), "overrides "+file(t, "overrides", bom+"192.0.2.3 down\n")),
		"file "+zone(t, "example.org.", threeAs)))
	if got := share(dial(t, "udp", s.udp(), "")); got["192.0.2.1"] != 99 || got["192.0.2.2"] != 1 {
		t.Errorf("leads are %v, want 99 and 1", got)
	}
}

// A change of weights is logged: what changed, in a line of bounded length.
func TestChangesOfWeightsAreLogged(t *testing.T) {
	var lines strings.Builder
	lines.WriteString("www.example.org\n")
	for i := range 500 {
		fmt.Fprintf(&lines, "10.0.%d.%d 7\n", i>>8, i&255)
	}
	many := lines.String()
	path := file(t, "weights", someWeights)
	j := newJournal(t)
	start(t, block(rule("policy weighted", "weights "+path+" 100ms"), "file "+zone(t, "example.org.", threeAs)))
	testserver.Write(t, path, strings.Replace(someWeights, "99", "50", 1))
	said := linesWith(waitForLog(t, j, "1 weight changed"), "1 weight changed")
	if len(said) != 1 || !strings.Contains(said[0], "192.0.2.1") || !strings.Contains(said[0], "99") || !strings.Contains(said[0], "50") {
		t.Errorf("lines are %q, want one that names address, old and new weight", said)
	}
	testserver.Write(t, path, many)
	said = linesWith(waitForLog(t, j, "503 weights changed"), "503 weights changed")
	if len(said) != 1 || len(said[0]) > 1000 {
		t.Errorf("lines are %q, want one of bounded length", said)
	}
}

// Weights that fit no member of a name that is asked for are a warning, once.
func TestWeightsThatApplyToNothingAreSaid(t *testing.T) {
	j := newJournal(t)
	s := start(t, block(rule("policy weighted", "weights "+file(t, "weights", "wwww.example.org\n192.0.2.1 99\n")), "file "+zone(t, "example.org.", threeAs)))
	c := dial(t, "udp", s.udp(), "")
	share(c)
	said := linesWith(waitForLog(t, j, "no weight applies to www.example.org"), "no weight applies")
	if len(said) != 1 || !strings.Contains(said[0], "[WARNING]") {
		t.Errorf("lines are %q, want one warning", said)
	}
}

// An overrides file that goes, or goes empty, lifts what it held. Nobody may miss that.
func TestOverridesThatAreLifted(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"removed":   os.Remove,
		"truncated": func(path string) error { return os.Truncate(path, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t, "overrides", "192.0.2.1 drain # disk swap\n192.0.2.2 down\n")
			j := newJournal(t)
			k := startChecked(t, rule("overrides "+path+" 100ms"), "file "+zone(t, "example.org.", threeAs))
			if got := k.answer(dns.TypeA); !slices.Equal(got, []string{"192.0.2.3"}) {
				t.Fatalf("the answer is %v, want 192.0.2.3", got)
			}
			if err := spoil(path); err != nil {
				t.Fatal(err)
			}
			k.answers(300, "192.0.2.1", "192.0.2.2", "192.0.2.3")
			said := linesWith(waitForLog(t, j, "lifted 2 overrides"), "lifted")
			if len(said) != 1 || !strings.Contains(said[0], "[WARNING]") || !strings.Contains(said[0], "disk swap") || !strings.Contains(said[0], "192.0.2.2 down") {
				t.Errorf("lines are %q, want one warning that lists both lines", said)
			}
			series := fmt.Sprintf("coredns_balance_overrides_lifted_total{file=%q,zone=%q}", path, "example.org.")
			if n := k.grown(series); n != 2 {
				t.Errorf("%s grew by %v, want 2", series, n)
			}
		})
	}
}

// An overrides file that is not there is said once, and is on the page.
func TestMissingOverridesAreSaid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overrides")
	j := newJournal(t)
	s := startShown(t, "overrides "+path+" 100ms", "file "+zone(t, "example.org.", threeAs))
	s.ask(10, dns.TypeA)
	if said := linesWith(waitForLog(t, j, "is missing"), path); len(said) != 1 || !strings.Contains(said[0], "[WARNING]") {
		t.Errorf("lines are %q, want one warning", said)
	}
	_, page := get(t, "http://"+s.page+"/")
	if _, after, ok := strings.Cut(page, path+": "); !ok || !strings.HasPrefix(after, "missing") {
		t.Errorf("the page does not say that the file is missing:\n%s", page)
	}
	testserver.Write(t, path, "192.0.2.1 down\n")
	eventually(t, "the override is in force", func() bool { return len(s.document().Names[0].Members) == 3 && s.document().Names[0].Down == 1 })
}
