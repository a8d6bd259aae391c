// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	testVersion = "v0.0.1-2-gabcdef0"
	testEpoch   = "1700000000"
	testImage   = "registry.example.org/coredns"
	// distEnv names a directory that has been made already, for a test that starts itself as root.
	distEnv = "BALANCE_TEST_DIST"
)

var testTime = time.Unix(1700000000, 0)

func TestMain(m *testing.M) {
	if root := os.Getenv(containerEnv); root != "" {
		beContainer(root)
	}
	status := m.Run()
	for _, dir := range temporary {
		os.RemoveAll(dir)
	}
	os.Exit(status)
}

// temporary are directories that live for longer than a test.
var temporary []string

func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "balance-release-test-")
	if err != nil {
		t.Fatal(err)
	}
	temporary = append(temporary, dir)
	return dir
}

// command runs a command and returns what it prints.
func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// makeDist makes a release of tree as a person would, with the command.
func makeDist(t *testing.T, tree string) string {
	t.Helper()
	dir := scratch(t)
	tool, out := filepath.Join(dir, "release"), filepath.Join(dir, "dist")
	command(t, filepath.Join(tree, "release"), "go", "build", "-o", tool, ".")
	t.Log(command(t, dir, tool, "-tree", tree, "-out", out, "-version", testVersion, "-epoch", testEpoch,
		"-revision", "0123456789abcdef0123456789abcdef01234567", "-image", testImage, "dist"))
	return out
}

var made struct {
	sync.Mutex
	dir string
}

// dist is a release of this tree, made once for all tests.
func dist(t *testing.T) string {
	t.Helper()
	made.Lock()
	defer made.Unlock()
	if dir := os.Getenv(distEnv); dir != "" {
		return dir
	}
	if made.dir == "" {
		made.dir = makeDist(t, abs(t, ".."))
	}
	return made.dir
}

func abs(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// names of all files below dir, with what is in them.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			name, _ := filepath.Rel(dir, path)
			all[name] = string(content(t, path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// copyTree copies this source tree to somewhere else, without what git and make keep in it.
func copyTree(t *testing.T) string {
	t.Helper()
	from, to := abs(t, ".."), filepath.Join(scratch(t), "another", "place")
	err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(from, path)
		switch {
		case e.IsDir() && (name == ".git" || name == ".cache" || name == "dist"):
			return filepath.SkipDir
		case e.IsDir():
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		case e.Type().IsRegular():
			return os.WriteFile(filepath.Join(to, name), content(t, path), 0o600)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// Whoever builds the same version gets the same bytes, digests included: from another directory,
// with other permissions and times, without git.
func TestTwoBuildsAreTheSame(t *testing.T) {
	first, second := contents(t, dist(t)), contents(t, makeDist(t, copyTree(t)))
	if len(first) == 0 || len(first) != len(second) {
		t.Errorf("%d files and then %d, want as many", len(first), len(second))
	}
	for name, text := range first {
		if second[name] != text {
			t.Errorf("%s differs: %d bytes and %d", name, len(text), len(second[name]))
		}
	}
}

// The Dockerfile, .go-version and the Go that tests run with are one Go: another makes other bytes.
func TestOneGo(t *testing.T) {
	want, err := wantedGo("..")
	if err != nil {
		t.Fatal(err)
	}
	if runtime.Version() != want {
		t.Errorf("this is %s, want %s", runtime.Version(), want)
	}
	line := "ARG GO_IMAGE=golang:" + strings.TrimPrefix(want, "go") + "\n"
	if !strings.Contains(string(content(t, "../Dockerfile")), line) {
		t.Errorf("no %q in the Dockerfile", line)
	}
	tree := t.TempDir()
	if err := writeFile(filepath.Join(tree, ".go-version"), []byte("1.0.1\n")); err != nil {
		t.Fatal(err)
	}
	wantErr := "this is " + runtime.Version() + ": want go1.0.1, as .go-version says; GOTOOLCHAIN=go1.0.1 fetches it"
	if err := checkGo(tree); err == nil || err.Error() != wantErr {
		t.Errorf("another Go: error is %v, want %s", err, wantErr)
	}
}

func TestCommandLine(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"image", `no -version: want one, as v0.1.0`},
		{"-version v0.1.0", `command []: want image, dist or rootfs ARCH DIR`},
		{"-version v0.1.0 push", `command ["push"]: want image, dist or rootfs ARCH DIR`},
		{"-version v0.1.0 rootfs mips /tmp/x", `architecture "mips": want one of ["amd64" "arm64"]`},
	} {
		if err := run(t.Context(), strings.Fields(tt.args)); err == nil || err.Error() != tt.want {
			t.Errorf("%s: error is %v, want %s", tt.args, err, tt.want)
		}
	}
}
