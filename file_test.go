// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-f1518d44/balance/internal/weights"
)

// What an operator may put in a file's place by mistake is an error, of a few words, and at once.
func TestReadRegular(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	writeFile(t, path("good"), "good")
	must(t, os.Truncate(path("good"), 4))
	writeFile(t, path("long"), "")
	must(t, os.Truncate(path("long"), maxFile+1))
	must(t, os.Mkdir(path("directory"), 0o700))
	must(t, syscall.Mkfifo(path("pipe"), 0o600))
	must(t, os.Symlink(path("loop"), path("loop")))
	for name, want := range map[string]string{
		"good":      "<nil>",
		"long":      fmt.Sprintf("too long, %d bytes: want at most %d", maxFile+1, maxFile),
		"directory": "not a regular file",
		"pipe":      "not a regular file",
		"loop":      "too many levels of symbolic links",
		"none":      "no such file or directory",
	} {
		content, err := readRegular(path(name))
		if fmt.Sprint(err) != want || err == nil && string(content) != "good" {
			t.Errorf("%s: %q, %v, want %s", name, content, err, want)
		}
	}
}

// An error repeats what it found, but not a file's worth of it.
func TestErrorsOfLongLinesAreShort(t *testing.T) {
	content := []byte(strings.Repeat("x", 1<<20))
	_, ofWeights := weights.Parse(content)
	_, ofOverrides := parseOverrides(content)
	for _, err := range []error{ofWeights, ofOverrides} {
		if want := fmt.Sprintf("1: line of %d bytes: want at most %d", 1<<20, weights.MaxLine); fmt.Sprint(err) != want {
			t.Errorf("error is %.100q, want %q", fmt.Sprint(err), want)
		}
	}
}
