// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-f1518d44/balance/cmd/balancectl/terminal"
	"github.com/seed-f1518d44/balance/internal/overrides"
	"github.com/seed-f1518d44/balance/internal/statuspage"
)

var epoch = time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)

// sample is a page with one name of two members, of which one is down.
func sample(file string) *statuspage.Document {
	before := epoch.Add(-90 * time.Minute)
	return &statuspage.Document{
		Version: statuspage.Version, Time: epoch, Window: 60,
		Process:  statuspage.Process{Host: "ns1", Version: "CoreDNS-1.15.0", Started: epoch.Add(-50 * time.Hour)},
		Problems: []statuspage.Problem{{Kind: "all_failing", Zone: "other.example.org.", Text: "every endpoint fails"}},
		Rules: []statuspage.Rule{{
			Zone: "example.org.", Policy: "round_robin", Overrides: file,
			Files: []statuspage.File{{Path: file, Since: time.Now().Add(time.Hour)}},
		}},
		Names: []statuspage.Name{{
			Name: "www.example.org.", Type: "A", Answer: "members", Answers: 12,
			Members: []statuspage.Member{
				{Member: "192.0.2.1", Verdict: "up", Since: &before, State: "answers", Weight: 1, Leads: statuspage.Leads{Wanted: 1, Served: 1}},
				{Member: "192.0.2.2", Verdict: "down", Since: &before, State: "down", Weight: 1, Probes: []statuspage.Probe{{Check: "tcp:80", Verdict: "down", Error: "connection refused"}}},
			},
		}},
	}
}

// serve serves a page and returns its address.
func serve(t *testing.T, d *statuspage.Document) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != statuspage.JSONPath {
			http.NotFound(w, r)
			return
		}
		json.NewEncoder(w).Encode(d)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// ctl runs a command line.
func ctl(t *testing.T, args ...string) (status int, out, problems string) {
	t.Helper()
	var o, e bytes.Buffer
	status = carryOut(t.Context(), args, streams{&o, &e, terminal.Screen{}})
	return status, o.String(), e.String()
}

func TestStatus(t *testing.T) {
	at := serve(t, sample("/etc/overrides"))
	status, out, problems := ctl(t, "status", "-at", at)
	want := `ns1, CoreDNS-1.15.0, up for 2d
problem: other.example.org. every endpoint fails

www.example.org. A  round_robin, 12 answers in 1m
  member     verdict  for    state    weight  leads    wanted
  192.0.2.1  up       1h30m  answers  1       100.0 %  100.0 %
  192.0.2.2  down     1h30m  down     1       0.0 %    0.0 %    tcp:80: connection refused
`
	if diff := cmp.Diff(want, out); diff != "" || status != exitNot || problems != "" {
		t.Errorf("exit status %d, %q, and (- want, + got):\n%s", status, problems, diff)
	}
	status, out, _ = ctl(t, "status", "--json", "-at", at)
	if !json.Valid([]byte(out)) || status != exitNot {
		t.Errorf("exit status %d with %s", status, out)
	}
	if _, out, _ := ctl(t, "status", "-at", at, "other.example.org"); strings.Contains(out, "www") || !strings.Contains(out, "not in use: other.example.org;") {
		t.Errorf("it shows %s, want that another name is not in use", out)
	}
	if status, _, problems := ctl(t, "status", "-at", "127.0.0.1:1"); status != exitFailure || !strings.Contains(problems, "cannot ask the status page") {
		t.Errorf("without a page: exit status %d, %q", status, problems)
	}
}

// Who is in the fleet, and who disagrees.
func TestStatusOfFleet(t *testing.T) {
	d := sample("/etc/overrides")
	d.Fleet = &statuspage.Fleet{
		Name: "dns", Replica: "ns1-a", Checks: []statuspage.FleetCheck{{Name: "tcp:80", Differ: 1}},
		Replicas: []statuspage.Replica{{Name: "ns1-a", Locality: "zone-a"}, {Name: "ns2-b", Doubts: true}, {Name: "ns3-c"}},
	}
	d.Names[0].Members[1].Probes[0].Votes = &statuspage.Votes{
		Up: 1, Down: 2, Differ: true, Voters: []statuspage.Voter{
			{Replica: "ns1-a", Vote: "down", Counts: true}, {Replica: "ns2-b", Vote: "none", Counts: true}, {Replica: "ns3-c", Vote: "up", Counts: true},
		},
	}
	d.Problems = append(d.Problems, statuspage.Problem{Kind: "alone", Text: "fleet dns: alone"},
		statuspage.Problem{Kind: "fail_open", Zone: "api.example.org.", Text: "api.example.org. A: every member is down"})
	_, out, _ := ctl(t, "status", "-at", serve(t, d))
	for _, want := range []string{
		"\nproblem: fleet dns: alone\nproblem: api.example.org. A: every member is down\n",
		"\nfleet dns, 3 replicas: ns1-a (this one, in zone-a), ns2-b (doubts itself), ns3-c; they disagree on 1 endpoint\n",
		"tcp:80: connection refused; votes: 1 up, 2 down (ns1-a down; ns2-b has not voted; ns3-c up), not probed here\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it shows %s, want %s", out, want)
		}
	}
}

// What gives a member less than its share, and why a later tier goes on serving.
func TestStatusOfWhatChanges(t *testing.T) {
	d := sample("/etc/overrides")
	n := &d.Names[0]
	n.FailedOver, n.Failback, n.Members[0].Ramp, n.Members[0].LoadWeights = true, "tier 2 goes on serving: failback manual", 30, 50
	n.Members[1].State, n.Members[1].Probes[0] = "damped", statuspage.Probe{Check: "tcp:80", Verdict: "up", Reuse: &epoch}
	_, out, _ := ctl(t, "status", "-at", serve(t, d))
	for _, want := range []string{
		"A  round_robin, tier 2 goes on serving: failback manual, 12 answers",
		"100.0 %  slow_start 30 %; load_weights 50 %\n",
		"0.0 %    it flaps: out until " + epoch.Format(time.RFC3339) + "\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it shows %s, want %s", out, want)
		}
	}
}

// Every edit of a file, and what it leaves.
func TestEdits(t *testing.T) {
	const file = "# ours\n10.0.0.0/8 drain # rack 4\nwww.example.org 192.0.2.2 down\n"
	tests := []struct {
		name     string
		args     []string
		status   int
		want     string // the file; "": unchanged
		problems string // part of what it says
	}{
		{"drain", []string{"drain", "192.0.2.2", "-why", "disk swap"}, exitDone, file + "192.0.2.2 drain # disk swap\n", ""},
		{"until", []string{"down", "192.0.2.0/25", "-until", "2999-01-01T00:00:00Z", "-why", "x", "-force"}, exitDone, file + "192.0.2.0/25 down until 2999-01-01T00:00:00Z # x\n", ""},
		{"one name", []string{"up", "-name", "app.example.org", "192.0.2.2", "--why", "x"}, exitDone, file + "app.example.org. 192.0.2.2 up # x\n", ""},
		{"a name as a whole", []string{"drain", "old.example.org", "-why", "x"}, exitDone, file + "old.example.org. 0.0.0.0/0 drain # x\nold.example.org. ::/0 drain # x\n", ""},
		{"replaces the line for the same", []string{"down", "10.0.0.0/8", "-why", "y"}, exitDone, "# ours\nwww.example.org 192.0.2.2 down\n10.0.0.0/8 down # y\n", ""},
		{"clear", []string{"clear", "-name", "WWW.example.org.", "192.0.2.2"}, exitDone, "# ours\n10.0.0.0/8 drain # rack 4\n", ""},
		{"clear what is not there", []string{"clear", "192.0.2.2"}, exitNot, "", "has no line for 192.0.2.2"},
		{"the last one", []string{"down", "192.0.2.1", "-why", "x"}, exitNot, "", "no member would be left to serve www.example.org. A"},
		{"the last one, forced", []string{"down", "192.0.2.1", "-why", "x", "-force"}, exitDone, file + "192.0.2.1 down # x\n", ""},
		{"a dry run", []string{"drain", "192.0.2.2", "-why", "x", "-dry-run"}, exitDone, "", ""},
		{"failback", []string{"failback", "WWW.example.org", "-why", "caught up"}, exitNot, "", "no later tier serves WWW.example.org; -force"},
		{"failback of an address", []string{"failback", "192.0.2.1", "-why", "x"}, exitFailure, "", `failback is for a name, and found "192.0.2.1": want NAME failback at TIME`},
		{"no reason", []string{"drain", "192.0.2.2"}, exitFailure, "", "-why is required"},
		{"a reason that a terminal obeys", []string{"drain", "192.0.2.2", "-why", "\x1b[31m"}, exitFailure, "", "want one line without control characters"},
		{"no target", []string{"drain", "-why", "x"}, exitFailure, "", "want a name, an address or a CIDR"},
		{"a bad target", []string{"drain", "192.0.2.0/33", "-why", "x"}, exitFailure, "", `bad target "192.0.2.0/33"`},
		{"two ends", []string{"drain", "192.0.2.2", "-why", "x", "-for", "1h", "-until", "2999-01-01T00:00:00Z"}, exitFailure, "", "want one of them"},
		{"an end that is past", []string{"drain", "192.0.2.2", "-why", "x", "-until", "2001-01-01T00:00:00Z"}, exitFailure, "", "want a time to come"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "overrides")
			if err := os.WriteFile(path, []byte(file), 0o640); err != nil {
				t.Fatal(err)
			}
			status, _, problems := ctl(t, append(tc.args, "-at", serve(t, sample(path)))...)
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want := tc.want
			if want == "" {
				want = file
			}
			if diff := cmp.Diff(want, string(got)); diff != "" || status != tc.status || !strings.Contains(problems, tc.problems) {
				t.Errorf("exit status %d, %q, and the file (- want, + got):\n%s", status, problems, diff)
			}
			if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 {
				t.Errorf("mode %v, %v: want it as it was", info.Mode(), err)
			}
			if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
				t.Errorf("files %v, %v: want one", left, err)
			}
		})
	}
}

// A member that is up although a check fails, as with require any, is left to serve.
func TestWhoIsLeftByTheVerdict(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overrides")
	d := sample(path)
	d.Names[0].Members[1].Verdict = "up"
	if status, _, problems := ctl(t, "drain", "192.0.2.1", "-why", "x", "-dry-run", "-at", serve(t, d)); status != exitDone {
		t.Errorf("exit status %d, %q: want a drain", status, problems)
	}
}

// Without the option overrides there is no file to change.
func TestNoOverrides(t *testing.T) {
	d := sample("")
	d.Rules[0].Files = nil
	want := "no rule on the page has the option overrides"
	if status, _, problems := ctl(t, "drain", "192.0.2.2", "-why", "x", "-at", serve(t, d)); status != exitFailure || !strings.Contains(problems, want) {
		t.Errorf("exit status %d, %q: want %q", status, problems, want)
	}
}

// A relative path on the page starts from the server's directory.
func TestRelativeFile(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		directory, spelled, want, problems string
	}{
		{dir, "overrides", filepath.Join(dir, "overrides"), ""},
		{filepath.Join(dir, "zones"), "../overrides", filepath.Join(dir, "overrides"), ""},
		{filepath.Join(dir, "missing"), "overrides", "", "found no directory of " + dir + "/missing/overrides, which the page names, perhaps on another host or in a container: want the file as -file"},
		{"", "overrides", "", "found no directory of overrides, which"},
	}
	for _, tc := range tests {
		d := sample(tc.spelled)
		d.Process.Directory = tc.directory
		status, out, problems := ctl(t, "drain", "192.0.2.2", "-why", "x", "-at", serve(t, d))
		if !strings.Contains(problems, tc.problems) || (status == exitDone) != (tc.want != "") || !strings.HasPrefix(out, tc.want) {
			t.Errorf("%s in %q: exit status %d, %q and %s", tc.spelled, tc.directory, status, problems, out)
		}
		if tc.want == "" {
			continue
		}
		if err := os.Remove(tc.want); err != nil {
			t.Error(err)
		}
	}
	d := sample("overrides")
	d.Process.Directory = dir
	t.Chdir(dir)
	if status, _, problems := ctl(t, "drain", "192.0.2.2", "-why", "x", "-file", "overrides", "-at", serve(t, d)); status != exitDone {
		t.Errorf("-file: exit status %d, %q", status, problems)
	}
}

// An edit for nobody in use is made, with a note, because it may be misspelled.
func TestEditThatMatchesNothing(t *testing.T) {
	at := serve(t, sample(filepath.Join(t.TempDir(), "overrides")))
	for target, want := range map[string]bool{"192.0.2.2": false, "192.0.2.99": true, "wwww.example.org": true} {
		_, out, problems := ctl(t, "drain", target, "-why", "x", "-dry-run", "-at", at)
		if noted := strings.Contains(out, "note: it changes no member of a name in use"); noted != want {
			t.Errorf("%s: %q, %q: want a note: %v", target, out, problems, want)
		}
	}
}

// A failback is written for a name that a later tier serves, once, and cleared with the name.
func TestFailback(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overrides")
	if err := os.WriteFile(path, []byte("www.example.org failback at 2020-01-01T00:00:00Z # last year\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := sample(path)
	d.Names[0].FailedOver, d.Names[0].Failback = true, "it waits"
	d.Rules[0].Options = append(d.Rules[0].Options, "failback manual")
	at := serve(t, d)
	status, out, problems := ctl(t, "failback", "www.example.org", "-why", "caught up", "-at", at)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	set, err := overrides.Parse(content)
	if err != nil || len(set) != 1 || set[0].Why != "caught up" || time.Since(set[0].From) > time.Minute || status != exitDone {
		t.Errorf("exit status %d, %s, %s: %v and\n%s", status, out, problems, err, content)
	}
	status, _, problems = ctl(t, "clear", "www.example.org", "-at", at)
	if content, err := os.ReadFile(path); err != nil || len(content) > 0 || status != exitDone {
		t.Errorf("exit status %d, %s: %v, %q", status, problems, err, content)
	}
}

// A failback that would do nothing is refused, and one for a name that nobody asks for is noted.
func TestFailbackThatDoesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overrides")
	for _, tc := range []struct {
		name, option, waits, target string
		wantStatus                  int
		want                        string
	}{
		{"it waits", "failback manual", "it waits", "www.example.org", exitDone, ""},
		{"another mode", "failback after 10m", "it waits", "www.example.org", exitNot, "its rule does not have failback manual"},
		{"no earlier tier is well", "failback manual", "", "www.example.org", exitNot, "no earlier tier of www.example.org can serve yet"},
		{"not in use", "failback manual", "it waits", "old.example.org", exitDone, "note: it changes no name in use"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := sample(path)
			d.Names[0].FailedOver, d.Names[0].Failback = true, tc.waits
			d.Rules[0].Options = append(d.Rules[0].Options, tc.option)
			status, out, problems := ctl(t, "failback", tc.target, "-why", "x", "-at", serve(t, d))
			if status != tc.wantStatus || !strings.Contains(out+problems, tc.want) {
				t.Errorf("exit status %d, %s, %s: want %d and %q", status, out, problems, tc.wantStatus, tc.want)
			}
		})
	}
}

// Several replicas are shown one after the other, and each says for itself whether it has taken a
// file.
func TestReplicas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overrides")
	first, second := sample(path), sample(path)
	second.Process.Host, second.Problems = "ns2", nil
	second.Rules[0].Files[0].Since = time.Time{}
	at, other := serve(t, first), serve(t, second)
	status, out, problems := ctl(t, "status", "-at", at, "-at", other, "-at", "127.0.0.1:1", "none.example.org")
	if !strings.HasPrefix(out, "== "+at+"\nns1, ") || !strings.Contains(out, "\n\n== "+other+"\nns2, ") || status != exitFailure || !strings.Contains(problems, "127.0.0.1:1") {
		t.Errorf("exit status %d, %s, and %s", status, problems, out)
	}
	if status, out, _ := ctl(t, "status", "-at", other, "-at", at, "-json"); strings.Count(out, "\n") != 2 || status != exitNot {
		t.Errorf("exit status %d, %s: want a line for each", status, out)
	}
	first.Rules[0].Options = append(first.Rules[0].Options, "fleet east")
	const note = "other replicas of the fleet east were not asked, and each reads the file for itself: name their pages with -at too\n"
	if _, out, _ := ctl(t, "drain", "192.0.2.2", "-why", "w", "-at", at); !strings.HasSuffix(out, note) {
		t.Errorf("it says %s, want at its end %s", out, note)
	}
	status, out, problems = ctl(t, "drain", "192.0.2.2", "-why", "x", "-at", other, "-at", at, "-wait", "1ms")
	if strings.Contains(out, note) {
		t.Errorf("it says %s, although two replicas were asked", out)
	}
	if status != exitNot || !strings.Contains(out, "in force at ns1, "+at+" after") || problems != "written, but the server has not taken it within 1ms at ns2, "+other+"\n" {
		t.Errorf("exit status %d, %s, and %s", status, problems, out)
	}
}

// A file with an error is not made worse, and a server that refuses one says why.
func TestBadFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overrides")
	if err := os.WriteFile(path, []byte("\n192.0.2.1 sideways\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	status, _, problems := ctl(t, "drain", "192.0.2.2", "-why", "x", "-at", serve(t, sample(path)))
	if status != exitFailure || !strings.Contains(problems, path+`:2: unknown override "sideways"`) {
		t.Errorf("exit status %d, %q", status, problems)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	d := sample(path)
	d.Rules[0].Files[0].Problem = "overrides: too many lines"
	status, _, problems = ctl(t, "drain", "192.0.2.2", "-why", "x", "-at", serve(t, d))
	if status != exitNot || !strings.Contains(problems, "does not take it: overrides: too many lines") {
		t.Errorf("exit status %d, %q", status, problems)
	}
	d.Rules[0].Files[0] = statuspage.File{Path: path}
	status, _, problems = ctl(t, "drain", "192.0.2.2", "-why", "y", "-at", serve(t, d), "-wait", "1ms")
	if status != exitNot || !strings.Contains(problems, "has not taken it within 1ms") {
		t.Errorf("exit status %d, %q", status, problems)
	}
}

// A mounted ConfigMap is left alone: kubectl changes it, with content that the shell leaves as it
// is.
func TestConfigMap(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "..data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "..data", "overrides"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "overrides")
	if err := os.Symlink(filepath.Join("..data", "overrides"), path); err != nil {
		t.Fatal(err)
	}
	status, out, problems := ctl(t, "drain", "192.0.2.2", "-why", "it's \"old\"", "-at", serve(t, sample(path)))
	_, command, found := strings.Cut(out, "kubectl ")
	if !found || status != exitDone {
		t.Fatalf("exit status %d, %s, %s", status, out, problems)
	}
	words, err := exec.Command("bash", "-c", "printf '%s\\n' "+command).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := "--namespace\nkube-system\npatch\nconfigmap\ncoredns-overrides\n--type\nmerge\n--patch\n" +
		`{"data":{"overrides":"192.0.2.2 drain # it's \"old\"\n"}}` + "\n"
	if diff := cmp.Diff(want, string(words)); diff != "" {
		t.Errorf("words (- want, + got):\n%s", diff)
	}
}

// The shells take the completion, and every flag is in it.
func TestCompletion(t *testing.T) {
	packaged, err := os.ReadFile("../../release/debian/completion")
	for _, shell := range []string{"bash", "zsh"} {
		if _, out, _ := ctl(t, "completion", shell); err != nil || out != string(packaged) {
			t.Errorf("release/debian/completion is not what completion %s writes: %v: run make man", shell, err)
		}
	}
	_, script, _ := ctl(t, "completion", "bash")
	script += "\nCOMP_WORDS=(balancectl drain -wh); COMP_CWORD=2; _balancectl; echo \"${COMPREPLY[@]}\"\n" +
		"COMP_WORDS=(balancectl sp); COMP_CWORD=1; _balancectl; echo \"${COMPREPLY[@]}\"\n"
	out, err := exec.Command("bash", "-euc", script).CombinedOutput()
	if err != nil || string(out) != "-why\nspread\n" {
		t.Errorf("%v: %s", err, out)
	}
	if status, _, problems := ctl(t, "complete"); status != exitFailure || !strings.Contains(problems, `unknown command "complete"`) {
		t.Errorf("exit status %d, %q", status, problems)
	}
}

func TestWhy(t *testing.T) {
	var asked string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.String()
		if r.URL.Query().Get("name") == "busy" {
			http.Error(w, "too many questions", http.StatusTooManyRequests)
			return
		}
		why := statuspage.Why{Name: "www.example.org.", Type: "AAAA", Client: "192.0.2.7", Time: epoch}
		if r.URL.Query().Get("name") != "elsewhere" {
			why.Answers = []statuspage.WhyAnswer{{Servers: []string{"dns://:53"}, Zone: "example.org.", Rule: "Corefile:2", Rcode: "NOERROR", Result: "ordered"}}
		}
		json.NewEncoder(w).Encode(why)
	}))
	defer s.Close()
	for _, test := range []struct {
		args   []string
		asked  string
		status int
		want   string // part of what is written
	}{
		{[]string{"www.example.org", "AAAA", "from", "192.0.2.7", "at", s.URL}, "/v1/why?client=192.0.2.7&name=www.example.org&type=AAAA", exitDone,
			";; www.example.org. AAAA for 192.0.2.7, now 2026-12-01T10:00:00Z\n\n;; dns://:53, rule example.org. (Corefile:2)\n;; NOERROR, ordered\n"},
		{[]string{"-at", s.URL, "elsewhere"}, "/v1/why?name=elsewhere", exitNot, "no rule with the option status has a zone that holds the name"},
		{[]string{"-at", s.URL, "busy"}, "/v1/why?name=busy", exitFailure, "429 Too Many Requests: too many questions"},
		{[]string{"-at", s.URL}, "", exitFailure, "found no name: want NAME [TYPE] [from CLIENT] [at PAGE]"},
		{[]string{"a", "A", "b"}, "", exitFailure, `found "b": want NAME [TYPE] [from CLIENT] [at PAGE]`},
		{[]string{"a", "from"}, "", exitFailure, `found nothing behind "from"`},
	} {
		asked = ""
		status, out, problems := ctl(t, append([]string{"why"}, test.args...)...)
		if status != test.status || asked != test.asked || !strings.Contains(out+problems, test.want) {
			t.Errorf("why %q: exit status %d, asked %q, wrote %q and %q", test.args, status, asked, out, problems)
		}
	}
}

// Files without a Corefile are read as the server reads them.
func TestCheckFiles(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"good": "www.example.org\n192.0.2.1 5\n192.0.2.1 6\n", "bad": "\nwww.example.org\n192.0.2.1 5x\n", "utf16": "\xff\xfe\x31\x00",
		"overrides": "192.0.2.1 down until 2020-01-01T00:00:00Z\n192.0.2.2 drain until 2999-01-01T00:00:00Z\n", "sideways": "192.0.2.1 sideways\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	for _, test := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"weights", "good"}, exitDone, `good:3: warning: "192.0.2.1" has the weight 6, but on line 2 the weight 5, which counts: want one weight for it and its name` + "\n0 errors, 1 warning\n"},
		{[]string{"-strict", "weights", "good"}, exitNot, ""},
		{[]string{"weights", "bad", "overrides", "sideways"}, exitNot, `bad:3: error: bad weight "5x": want a whole number from 0 to 65535` + "\n" +
			`sideways:1: error: unknown override "sideways": want up, down or drain` + "\n2 errors, 0 warnings\n"},
		{[]string{"weights", "utf16"}, exitNot, `utf16:1: error: the file is UTF-16: want UTF-8, as "Set-Content -Encoding utf8" writes it` + "\n1 error, 0 warnings\n"},
		{[]string{"overrides", "overrides"}, exitDone, "overrides:1: warning: no effect, because it ended at 2020-01-01T00:00:00Z\n0 errors, 1 warning\n"},
		{[]string{"weights", "nowhere"}, exitFailure, "balancectl check: nowhere: no such file or directory\n"},
		{[]string{"weights"}, exitFailure, "balancectl check: found nothing behind \"weights\": want a file\n"},
		{[]string{"weights", "good", "weights", "bad"}, exitFailure, "balancectl check: weights: given twice: want it once\n"},
		{[]string{"Corefile", "good"}, exitFailure, "balancectl check: found \"good\": want [COREFILE] [weights FILE] [overrides FILE]\n"},
	} {
		status, out, problems := ctl(t, append([]string{"check"}, test.args...)...)
		if got := out + problems; status != test.status || test.want != "" && got != test.want {
			t.Errorf("check %q: exit status %d, %q, want %d, %q", test.args, status, got, test.status, test.want)
		}
	}
}

// A Corefile is for a CoreDNS with balance: beside balancectl, in PATH or the one that is named.
func TestCheckFindsCoreDNS(t *testing.T) {
	dir := t.TempDir()
	script := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	script("coredns", `echo "$@"; exit 1`)
	without := script("without", "echo 'flag provided but not defined: -balance.check' >&2; exit 2")
	failing := script("failing", "echo 'open Corefile: no such file' >&2; exit 2")
	for _, test := range []struct {
		path   string
		args   []string
		status int
		want   string
	}{
		{dir, nil, exitNot, "-balance.check Corefile\n"},
		{dir, []string{"-strict", "/etc/Corefile", "weights", "w"}, exitNot, "-balance.check /etc/Corefile weights w strict\n"},
		{t.TempDir(), nil, exitFailure, "balancectl check: found no coredns beside this program or in PATH: want -coredns FILE, a CoreDNS with balance, because only its plugins can read a Corefile\n"},
		{dir, []string{"-coredns", without}, exitFailure, "balancectl check: " + without + " is no CoreDNS with balance that can check: want one of this version as -coredns\n"},
		{dir, []string{"-coredns", "/bin/true"}, exitFailure, "balancectl check: /bin/true is no CoreDNS with balance that can check: want one of this version as -coredns\n"},
		{dir, []string{"-coredns", failing}, exitFailure, "balancectl check: open Corefile: no such file\n"},
		{dir, []string{"-coredns", "/nowhere"}, exitFailure, "balancectl check: fork/exec /nowhere: no such file or directory\n"},
	} {
		t.Setenv("PATH", test.path)
		status, out, problems := ctl(t, append([]string{"check"}, test.args...)...)
		if got := out + problems; status != test.status || got != test.want {
			t.Errorf("check %q: exit status %d, %q, want %d, %q", test.args, status, got, test.status, test.want)
		}
	}
}
