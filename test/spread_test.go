// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// spreadReport is what of the JSON of cmd/balancectl matters here.
type spreadReport struct {
	Answered int            `json:"answered"`
	Lost     int            `json:"lost"`
	TTLs     map[string]int `json:"ttls"`
	Sets     []struct {
		What    string
		Verdict string
		Members []struct {
			Member string
			Leads  int
			Place  float64 `json:"mean_place"`
		}
	}
}

// spread runs the command and returns its report and exit status.
func spread(t *testing.T, binary string, args ...string) (r spreadReport, status int) {
	t.Helper()
	out, err := command(t, "", binary, append([]string{"spread", "-json", "-timeout", "1m"}, args...)...).Output()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	if failed != nil {
		status = failed.ExitCode()
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("spread %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return r, status
}

// What cmd/balancectl says of a server is what it does.
func TestSpread(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "balancectl")
	build(t, ourModule(t), binary, "./cmd/balancectl")
	records := threeAs + "api IN A 192.0.2.11\napi IN A 192.0.2.12\napi IN A 192.0.2.13\n" +
		"@ IN MX 10 a\n@ IN MX 10 b\n@ IN MX 20 c\n"
	weights := file(t, "weights", "api.example.org\n192.0.2.11 5\n192.0.2.12 1\n192.0.2.13 1\n")
	s := start(t, block("balance", "balance api.example.org {\n policy weighted\n weights "+weights+"\n }", "file "+zone(t, "example.org.", records))+
		blockOf("keep.example.org:0", "file "+zone(t, "keep.example.org.", "fixed IN A 192.0.2.1\nfixed IN A 192.0.2.2\n")))
	at := "@" + s.udp()
	tests := []struct {
		name    string
		args    []string
		verdict []string // of each set
		status  int
	}{
		{"round robin", []string{"www.example.org", at, "-n", "3000", "-c", "8"}, []string{"exact"}, 0},
		{"by weight file", []string{"api.example.org", at, "-n", "700", "-weights", weights}, []string{"exact"}, 0},
		{"by weight", []string{"api.example.org", at, "-n", "701", "-weights", "192.0.2.11=5", "-source", "127.0.0.0/29"}, []string{"exact"}, 0},
		{"other weights", []string{"api.example.org", at, "-n", "700"}, []string{"not as wanted"}, 1},
		{"few answers", []string{"www.example.org", at, "-n", "3"}, []string{"too few answers to tell"}, 2},
		{"MX", []string{"example.org", "mx", at, "-n", "100"}, []string{"exact", "one member only"}, 0},
		{"a server that keeps the order", []string{"fixed.keep.example.org", at, "-n", "100"}, []string{"not as wanted"}, 1},
	}
	for _, tc := range tests {
		r, status := spread(t, binary, tc.args...)
		var verdicts []string
		for _, set := range r.Sets {
			verdicts = append(verdicts, set.Verdict)
		}
		if strings.Join(verdicts, ", ") != strings.Join(tc.verdict, ", ") || status != tc.status || r.Lost != 0 {
			t.Errorf("%s: exit status %d, verdicts %q, %d lost; want %d and %q", tc.name, status, verdicts, r.Lost, tc.status, tc.verdict)
		}
	}
	r, _ := spread(t, binary, "www.example.org", at, "-n", "300")
	for _, m := range r.Sets[0].Members {
		if m.Leads != 100 || m.Place != 2 {
			t.Errorf("%s leads %d times and has place %v on average, want 100 and 2", m.Member, m.Leads, m.Place)
		}
	}
}

// A backend that dies and comes back is seen by -watch.
func TestSpreadWatch(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "balancectl")
	build(t, ourModule(t), binary, "./cmd/balancectl")
	f := newFarm(t, 3, listening)
	k := startChecked(t, rule(f.check("tcp", ""), "answers 1"), "file "+zone(t, "example.org.", f.as("www")))
	k.verdicts(3, 0)
	cmd := command(t, "", binary, "spread", "-watch", "-every", "50ms", "-timeout", "1m", "www.example.org", "@"+k.udp())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(4*patience, func() { cmd.Process.Kill() }).Stop()
	lines := bufio.NewScanner(out)
	until := func(part string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), part) {
				return
			}
		}
		t.Fatalf("never: %s", part)
	}
	until("+ " + f.addrs[2])
	f.kill(1)
	until("- " + f.addrs[1] + " (was there for ")
	until("! TTL 5") // "was 30", or "was 5 and 30" where the verdict came in the middle of a round
	f.revive(1)
	until("+ " + f.addrs[1] + " (was away for ")
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	until(f.addrs[1] + " was there for ")
	for lines.Scan() {
		if !strings.HasSuffix(lines.Text(), "and went 0 times") {
			t.Errorf("after the interrupt: %q", lines.Text())
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
