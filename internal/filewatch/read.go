// SPDX-License-Identifier: Apache-2.0

package filewatch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"syscall"

	"github.com/seed-f1518d44/balance/internal/text"
)

const maxSize = 64 << 20 // bytes; a weight file of a million addresses has a third of that

// ReadRegular returns the content of a file of at most maxSize bytes. Devices and pipes, which may
// never end, are errors.
func ReadRegular(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // the operator's choice; opening a pipe would block
	if err != nil {
		return nil, withoutPath(err)
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return nil, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	if info.Size() > maxSize {
		return nil, fmt.Errorf("too long, %d bytes: want at most %d", info.Size(), maxSize)
	}
	content := make([]byte, info.Size()) // a file that changes meanwhile is read again
	n, err := io.ReadFull(f, content)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return content[:n], withoutPath(err)
}

// withoutPath returns what is wrong with a file, without its path.
func withoutPath(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// decode returns a text without the byte-order mark that editors on Windows put in front of UTF-8.
// Content in UTF-16, as PowerShell writes it, is an error.
func decode(content []byte) ([]byte, error) {
	if bytes.HasPrefix(content, []byte("\xff\xfe")) || bytes.HasPrefix(content, []byte("\xfe\xff")) {
		return nil, errors.New("1: the file is UTF-16: want UTF-8, as \"Set-Content -Encoding utf8\" writes it")
	}
	if at := bytes.IndexByte(content, 0); at >= 0 {
		return nil, fmt.Errorf("%d: found a NUL byte, as UTF-16 and binary files have: want text in UTF-8", 1+bytes.Count(content[:at], []byte("\n")))
	}
	return bytes.TrimPrefix(content, []byte("\xef\xbb\xbf")), nil
}

// Bytes of a word of a file in an error: a longer one may be a key or the hash of a password.
const maxShown = 64

var quotedWords = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

// discreet returns an error about the content of a file without most of its long words. The file
// may be another than the operator believes, and more people read the log than the file.
func discreet(message string) string {
	return text.OneLine(quotedWords.ReplaceAllStringFunc(message, func(word string) string {
		if len(word) <= maxShown {
			return word
		}
		return strings.TrimRight(word[:maxShown/4], `\`) + `..."`
	}))
}
