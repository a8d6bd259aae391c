// SPDX-License-Identifier: Apache-2.0

// Package golden compares what becomes of an input with a file, in tests. A golden file holds the
// input, a line of dashes and the result. The flag -update writes the results again.
package golden

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files with what the code does")

const separator = "----------\n"

// Check runs a test for each of the files that a pattern matches.
func Check(t *testing.T, pattern string, become func(input string) string) {
	t.Helper()
	for _, path := range match(t, pattern) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) { check(t, path, become) })
	}
}

func check(t *testing.T, path string, become func(input string) string) {
	t.Helper()
	input, want, _ := strings.Cut(read(t, path), separator)
	got := become(input)
	if *update {
		if err := os.WriteFile(path, []byte(input+separator+got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// Inputs returns the inputs of the files that a pattern matches, as seeds for a fuzz test.
func Inputs(tb testing.TB, pattern string) (inputs []string) {
	tb.Helper()
	for _, path := range match(tb, pattern) {
		input, _, _ := strings.Cut(read(tb, path), separator)
		inputs = append(inputs, input)
	}
	return inputs
}

func match(tb testing.TB, pattern string) []string {
	tb.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		tb.Fatalf("no files match %s: %v", pattern, err)
	}
	return paths
}

func read(tb testing.TB, path string) string {
	tb.Helper()
	content, err := os.ReadFile(path) //nolint:gosec // ours
	if err != nil {
		tb.Fatal(err)
	}
	return string(content)
}
