// SPDX-License-Identifier: Apache-2.0

package test

import (
	golog "log"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	clog "github.com/coredns/coredns/plugin/pkg/log"

	"github.com/coredns/coredns/core/dnsserver"
)

// Lines of the log that documents quote, in blocks marked "log", are those that the server writes,
// except times, ports and addresses.
func TestLogLinesInTheDocuments(t *testing.T) {
	golden := goldenErrors(t)
	var quoted []fenced
	for _, path := range documents(t) {
		quoted = append(quoted, slices.DeleteFunc(blocksOf(t, path), func(b fenced) bool { return b.kind != "log" })...)
	}
	if len(quoted) == 0 {
		t.Fatal("no document quotes a line")
	}
	written := alike(everyLogLine(t))
	for _, b := range quoted {
		for line := range strings.Lines(b.text) {
			line = strings.TrimSpace(line)
			if !strings.Contains(written, alike(line)) && !strings.Contains(golden, position.ReplaceAllString(line, "")) {
				t.Errorf("%s: the server writes no %q", b.at, line)
			}
		}
	}
	if t.Failed() {
		t.Log(written)
	}
}

// Reasons of probes that documents explain, in tables, are those that probes give.
func TestReasonsInTheDocuments(t *testing.T) {
	source := reasons.ReplaceAllString(run(t, ourModule(t), "bash", "-c", "cat internal/probe/*.go"), "#")
	for _, path := range documents(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		explained := false
		for line := range strings.Lines(string(text)) {
			cells := strings.Split(line, "|")
			switch {
			case len(cells) < 3:
				explained = false
			case strings.Contains(cells[1], "reason in the log") || strings.Contains(cells[1], "`not probed: ...`"):
				explained = true
			case explained:
				for _, quoted := range inBackticks.FindAllStringSubmatch(cells[1], -1) {
					reason, _, _ := strings.Cut(quoted[1], "...")
					reason = strings.TrimRight(strings.TrimPrefix(reason, "tls: "), `" `)
					if !strings.Contains(source, reasons.ReplaceAllString(reason, "#")) {
						t.Errorf("%s: no probe says %q", path, reason)
					}
				}
			}
		}
	}
}

var (
	reasons     = regexp.MustCompile(`%[dsq]|\d+`)
	inBackticks = regexp.MustCompile("`([^`]+)`")
	variable    = regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:]+Z|\b(?:\d+(?:\.\d+)?(?:h|m|s|ms|µs))+\b|:\d{4,5}\b|\d+\.\d+\.\d+\.\d+`)
	position    = regexp.MustCompile(`^Corefile:\d+: `)
	inTemp      = regexp.MustCompile(`/\S*/`)
)

// alike returns a text without what differs from one time to the next.
func alike(text string) string {
	return inTemp.ReplaceAllString(variable.ReplaceAllString(text, "#"), "")
}

// goldenErrors returns the golden files of the Corefile, which have its errors.
func goldenErrors(t *testing.T) string {
	t.Helper()
	return run(t, ourModule(t), "bash", "-c", "cat testdata/corefile/*.txt")
}

// journal is what CoreDNS logs while a test lasts.
type journal struct {
	t    *testing.T
	path string
}

func newJournal(t *testing.T) journal {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	clog.D.Clear()
	golog.SetOutput(f)
	t.Cleanup(func() {
		golog.SetOutput(nowhere.Writer())
		f.Close()
	})
	return journal{t, f.Name()}
}

func (j journal) text() string {
	text, err := os.ReadFile(j.path)
	if err != nil {
		j.t.Fatal(err)
	}
	return string(text)
}

// says waits until a text is logged.
func (j journal) says(text string) {
	j.t.Helper()
	eventually(j.t, "the log says "+text, func() bool { return strings.Contains(j.text(), text) })
}

// everyLogLine returns a log with a line of every kind, and starts what is wrong in every way that gives one.
func everyLogLine(t *testing.T) string {
	t.Helper()
	t.Chdir(examplesTwice(t))
	j := newJournal(t)
	verdictsAndFiles(t, j)

	faults := start(t, block("balance {\n health_check tcp "+freePort(t)+" {\n allow 127.0.0.0/8\n source 192.0.2.99\n watch app.example.org\n "+quick+"\n }\n }",
		"file db.example.org"))
	j.says("failed locally; verdict unchanged")
	faults.stop()

	order := dnsserver.Directives
	t.Cleanup(func() { dnsserver.Directives = order })
	dnsserver.Directives = slices.DeleteFunc(slices.Clone(order), func(d string) bool { return d == "balance" })
	at := slices.Index(dnsserver.Directives, "rewrite") + 1
	dnsserver.Directives = slices.Insert(dnsserver.Directives, at, "balance")
	start(t, block("balance www.example.org {\n observe\n }", "loadbalance", "file db.example.org")).stop()
	return j.text()
}

// verdictsAndFiles has backends die and come back, and files change.
func verdictsAndFiles(t *testing.T, j journal) {
	t.Helper()
	web := freePort(t)
	open := func(addr string) func() { return serving(saying(200, "ok"))(t, addr+":"+web) }
	first, third := open("127.0.0.101"), open("127.0.0.103")
	s := start(t, block("balance app.example.org {\n overrides overrides.example.org 1s\n health_check http "+web+" /healthz {\n allow 127.0.0.0/8\n watch app.example.org\n "+
		quick+"\n }\n }", "balance api.example.org {\n policy weighted\n weights weights.example.org 1s\n }", "file db.example.org"))
	j.says("endpoint 127.0.0.102 http:" + web + "/healthz is down: connection refused (was unknown for ")
	second := open("127.0.0.102")
	j.says("endpoint 127.0.0.102 http:" + web + "/healthz is up (was down for ")
	first()
	second()
	third()
	j.says("the fault may be local")

	weights, err := os.ReadFile("weights.example.org")
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("weights.example.org", "# bad\napi.example.org\n192.0.2.1 70000\n")
	j.says("what was read before stays in force")
	write("weights.example.org", string(weights))
	j.says("is good again and in force")
	write("overrides.example.org", "192.0.2.2 drain until 2099-12-01T00:00:00Z # disk swap\n")
	j.says("1 override in force")
	s.stop()
}
