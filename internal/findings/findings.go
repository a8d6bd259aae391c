// SPDX-License-Identifier: Apache-2.0

// Package findings holds what a check of configuration files found, and writes it as compilers do,
// so that editors and CI services understand it.
package findings

import (
	"cmp"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"

	"github.com/seed-f1518d44/balance/internal/text"
)

// Exit statuses of a check.
const (
	Fine     = 0
	Problems = 1 // errors, or in a strict check warnings
	Failed   = 2 // the check was not done
)

// Finding is something about a file.
type Finding struct {
	File string
	Line int // 0: the file as a whole
	Kind Kind
	Text string
}

// Kind is how bad a finding is.
type Kind string

// The kinds. A note is about the check itself.
const (
	Error   Kind = "error"
	Warning Kind = "warning"
	Note    Kind = "note"
)

// String writes a finding: "FILE:LINE: error: TEXT".
func (f Finding) String() string {
	at := f.File
	if f.Line > 0 {
		at += ":" + strconv.Itoa(f.Line)
	}
	return fmt.Sprintf("%s: %s: %s", at, f.Kind, f.Text)
}

// List is what a check found. The zero List is empty.
type List struct{ all []Finding }

// Errorf adds an error whose text may begin with its file and line. Otherwise it is about at, which
// is "FILE" or "FILE:LINE".
func (l *List) Errorf(at, format string, args ...any) { l.add(at, fmt.Sprintf(format, args...), Error) }

// Warnf adds a warning likewise.
func (l *List) Warnf(at, format string, args ...any) {
	l.add(at, fmt.Sprintf(format, args...), Warning)
}

// Notef adds a note likewise. Notes do not count.
func (l *List) Notef(at, format string, args ...any) { l.add(at, fmt.Sprintf(format, args...), Note) }

// position is how messages name a line: "Corefile:3: " or, in those of Caddy, "Corefile:3 - ". The
// name of another plugin may stand before it.
var position = regexp.MustCompile(`^(plugin/\S+: )?([^\s"]+|/[^"]*?):([0-9]+)(?:: ?| - )(.*)$`)

func (l *List) add(at, message string, kind Kind) {
	f := Finding{File: at, Kind: kind, Text: message}
	m := position.FindStringSubmatch(message)
	if m == nil {
		m = position.FindStringSubmatch(at + ": " + message)
	}
	if m != nil {
		if line, err := strconv.Atoi(m[3]); err == nil {
			f.File, f.Line, f.Text = m[2], line, m[1]+m[4]
		}
	}
	f.Text = text.OneLine(f.Text)
	if !slices.Contains(l.all, f) {
		l.all = append(l.all, f)
	}
}

// Count returns how many errors and warnings there are.
func (l *List) Count() (errors, warnings int) {
	for _, f := range l.all {
		switch f.Kind {
		case Error:
			errors++
		case Warning:
			warnings++
		}
	}
	return errors, warnings
}

// Write writes the findings, by file and line, and a line that sums them up. It returns the exit
// status.
func (l *List) Write(out io.Writer, strict bool) (status int, err error) {
	slices.SortStableFunc(l.all, func(a, b Finding) int { return cmp.Or(cmp.Compare(a.File, b.File), a.Line-b.Line) })
	for _, f := range l.all {
		if _, err := fmt.Fprintln(out, f); err != nil {
			return Failed, err
		}
	}
	errors, warnings := l.Count()
	_, err = fmt.Fprintf(out, "%s, %s\n", text.Count(errors, "error"), text.Count(warnings, "warning"))
	if errors > 0 || strict && warnings > 0 {
		return Problems, err
	}
	return Fine, err
}
