// SPDX-License-Identifier: Apache-2.0

package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/coredns/caddy"
	"github.com/google/go-cmp/cmp"

	"github.com/seed-f1518d44/balance/internal/golden"
)

// check checks a Corefile as every CoreDNS with balance can. It returns what is written, and the
// exit status.
func check(t *testing.T, dir string, words ...string) (out string, status int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, append([]string{"-balance.check"}, words...)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), serverEnv+"=1")
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

// checkText checks a Corefile that names files of the working directory.
func checkText(t *testing.T, corefile string) (out string, status int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "Corefile")
	if err := os.WriteFile(path, []byte(corefile), 0o600); err != nil {
		t.Fatal(err)
	}
	return check(t, ".", path)
}

var fileName = regexp.MustCompile(`(?m)^-- (\S+) --\n`)

// unpack writes the files of a golden file, each after a line "-- NAME --", to a new directory.
func unpack(t *testing.T, files string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	at := fileName.FindAllStringSubmatchIndex(files, -1)
	for i, m := range at {
		end := len(files)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		path := filepath.Join(dir, files[m[2]:m[3]])
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[m[1]:end]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Every file in testdata/check holds a line with the words behind -balance.check, a Corefile and
// the files that it names, and what is found. DIR is where they are. A new case needs no Go.
func TestCheck(t *testing.T) {
	t.Setenv("WEIGHTS", "weights.db")
	golden.Check(t, "testdata/check/*.txt", func(input string) string {
		words, files, _ := strings.Cut(input, "\n")
		dir := unpack(t, files)
		out, status := check(t, dir, strings.Fields(words)...)
		return strings.ReplaceAll(out, dir, "DIR") + "exit status " + string(rune('0'+status)) + "\n"
	})
}

// A pipe without a writer is an error; reading it would not end.
func TestCheckReadsNoPipe(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "Corefile"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, status := check(t, dir, "Corefile"); status != 2 || out != "Corefile: not a regular file\n" {
		t.Errorf("exit status %d, %q", status, out)
	}
}

// The Corefiles that we ship pass, that of the demo without a warning.
func TestCheckPassesOurs(t *testing.T) {
	for _, tc := range []struct{ dir, words, want string }{
		{"../examples", "Corefile strict", `^0 errors, 0 warnings\n$`},
		{"../deploy/kubernetes/config", "Corefile", `no cluster around\n0 errors, 1 warning\n$`},
		{"../deploy/kubernetes/components/files", "Corefile weights weights overrides overrides", `0 errors, [0-9]+ warnings?\n$`},
		{"../release/debian", "Corefile", `0 errors, 1 warning\n$`}, // the overrides file comes later
	} {
		if out, status := check(t, tc.dir, strings.Fields(tc.words)...); status != 0 || !regexp.MustCompile(tc.want).MatchString(out) {
			t.Errorf("%s: exit status %d: %s", tc.dir, status, out)
		}
	}
}

// What a check finds wrong is what a server that starts says, and where.
func TestCheckSaysWhatTheServerSays(t *testing.T) {
	for _, corefile := range []string{
		"example.org {\n  balance {\n    polcy weighted\n  }\n}\n",
		"example.org {\n  balance {\n    weights nowhere\n  }\n}\n",
		"example.org {\n  balance\n  nonsense\n}\n",
		"example.org {\n  balance\n  file\n}\n",
		"example.org {\n  balance\n  file db.bad\n}\n",
		"example.org {\n  balance\n}\nexample.org {\n  balance\n}\n",
		"example.org {\n  balance\n  import nowhere\n}\n",
		"example.org {\n  balance\n",
		"example.org:99999 {\n  balance\n  whoami\n}\n",
	} {
		dir := t.TempDir()
		for name, content := range map[string]string{"Corefile": corefile, "db.bad": "@ SOA x\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		t.Chdir(dir)
		instance, err := caddy.Start(caddy.CaddyfileInput{Filepath: "Corefile", Contents: []byte(corefile), ServerTypeName: "dns"})
		if err == nil {
			instance.Stop()
			t.Errorf("a server starts with\n%s", corefile)
			continue
		}
		want := strings.TrimPrefix(err.Error(), "plugin/balance: ")
		if m := regexp.MustCompile(`^(plugin/\S+ )?(Corefile:\d+)(: | - )(.*)$`).FindStringSubmatch(want); m != nil {
			want = m[2] + ": error: " + m[1] + m[4]
		} else {
			want = "Corefile: error: " + want
		}
		out, status := check(t, dir, "Corefile")
		if diff := cmp.Diff(want+"\n1 error, 0 warnings\n", out); diff != "" || status != 1 {
			t.Errorf("%s: exit status %d, (-server +check)\n%s", corefile, status, diff)
		}
	}
}

// A check opens no listener, sends nothing and writes nothing: it runs where nothing of that can be
// done.
func TestCheckTouchesNothing(t *testing.T) {
	dir := unpack(t, "-- Corefile --\n"+`.:53 {
  balance {
    status
    health_check tcp 80 {
      allow 192.0.2.0/24
      watch www.example.org
    }
  }
  prometheus
  health
  ready
  log
  file db.example.org example.org
  forward . 192.0.2.53
}
-- db.example.org --
$TTL 60
@ SOA ns.example.org. h.example.org. 1 2 3 4 5
@ NS ns.example.org.
www.example.org. A 192.0.2.1
www.example.org. A 192.0.2.2
`)
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("no strace")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	calls := filepath.Join(t.TempDir(), "calls")
	cmd := exec.CommandContext(t.Context(), strace, "-f", "-o", calls, "-e", "trace=bind,listen,connect,sendto,sendmsg,rename,renameat,unlinkat,mkdirat,openat", self, "-balance.check", "Corefile")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), serverEnv+"=1")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.HasSuffix(string(out), "\n0 errors, 0 warnings\n") {
		t.Fatalf("%v: %s", err, out)
	}
	made, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	for call := range strings.Lines(string(made)) {
		opens := strings.Contains(call, "openat(")
		if opens && strings.Contains(call, "O_WRONLY|O_CREAT") || !opens && strings.Contains(call, "(") && !strings.Contains(call, "AF_UNIX") {
			t.Error(call)
		}
	}
}
