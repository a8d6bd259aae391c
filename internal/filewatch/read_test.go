// SPDX-License-Identifier: Apache-2.0

package filewatch

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What an operator may put in a file's place by mistake is an error, of a few words, and at once.
func TestReadRegular(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write(t, path("good"), "good")
	write(t, path("long"), "")
	must(t, os.Truncate(path("long"), maxSize+1))
	must(t, os.Mkdir(path("directory"), 0o700))
	must(t, syscall.Mkfifo(path("pipe"), 0o600))
	must(t, os.Symlink(path("loop"), path("loop")))
	for name, want := range map[string]string{
		"good":      "<nil>",
		"long":      fmt.Sprintf("too long, %d bytes: want at most %d", maxSize+1, maxSize),
		"directory": "not a regular file",
		"pipe":      "not a regular file",
		"loop":      "too many levels of symbolic links",
		"none":      "no such file or directory",
	} {
		content, err := ReadRegular(path(name))
		if fmt.Sprint(err) != want || err == nil && string(content) != "good" {
			t.Errorf("%s: %q, %v, want %s", name, content, err, want)
		}
	}
}

func TestDecode(t *testing.T) {
	for content, want := range map[string]string{
		"":                          "",
		"a b\n":                     "a b\n",
		"\xef\xbb\xbfa b\n":         "a b\n", // a byte-order mark
		"a\xef\xbb\xbf b\n":         "a\xef\xbb\xbf b\n",
		"\xff\xfea\x00b\x00":        `1: the file is UTF-16: want UTF-8, as "Set-Content -Encoding utf8" writes it`,
		"\xfe\xff\x00a\x00b":        `1: the file is UTF-16: want UTF-8, as "Set-Content -Encoding utf8" writes it`,
		"a\nb\x00\n":                "2: found a NUL byte, as UTF-16 and binary files have: want text in UTF-8",
		"a\x00b\x00":                "1: found a NUL byte, as UTF-16 and binary files have: want text in UTF-8",
		"\xef\xbb\xbf# \u4f8b\n1\n": "# \u4f8b\n1\n",
	} {
		got, err := decode([]byte(content))
		if err != nil {
			got = []byte(err.Error())
		}
		if string(got) != want {
			t.Errorf("%q became %q, want %q", content, got, want)
		}
	}
}

// An error repeats what it found, but neither a file's worth of it nor a secret.
func TestDiscreet(t *testing.T) {
	secret := strings.Repeat("s3cret", 20)
	got := discreet(`3: found "short" and "` + secret + `": want` + "\n")
	if want := `3: found "short" and "s3crets3crets3c...": want\n`; got != want {
		t.Errorf("error is %q, want %q", got, want)
	}
}
