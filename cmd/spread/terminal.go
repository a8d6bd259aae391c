// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/term"
)

// screen is what a stream can show.
type screen struct {
	terminal bool
	width    int // columns
	colour   bool
	unicode  bool
}

// Bounds of the width that is made use of.
const (
	defaultWidth = 80
	leastWidth   = 40
	mostWidth    = 140
)

// screenOf finds out what a stream can show. Colours are for terminals, unless NO_COLOR is set
// (no-color.org); blocks and other signs beyond ASCII are for those whose locale says UTF-8.
func screenOf(f *os.File, env func(string) string) screen {
	fd := int(f.Fd())
	s := screen{terminal: term.IsTerminal(fd), width: defaultWidth, unicode: isUTF8(env)}
	if n, err := strconv.Atoi(env("COLUMNS")); err == nil && n > 0 {
		s.width = n
	} else if width, _, err := term.GetSize(fd); err == nil && width > 0 {
		s.width = width
	}
	s.width = min(max(s.width, leastWidth), mostWidth)
	s.colour = s.terminal && env("NO_COLOR") == "" && env("TERM") != "dumb"
	return s
}

// isUTF8 goes by the variable that counts (POSIX, 8.2).
func isUTF8(env func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := strings.ToLower(env(name)); value != "" {
			return strings.Contains(value, "utf-8") || strings.Contains(value, "utf8")
		}
	}
	return false
}

// colour is the number of a terminal's colour (ECMA-48, SGR).
type colour int

const (
	bold   colour = 1
	faint  colour = 2
	red    colour = 31
	green  colour = 32
	yellow colour = 33
	blue   colour = 34
)

// paint puts text into a colour if the screen has any.
func (s screen) paint(c colour, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + strconv.Itoa(int(c)) + "m" + text + "\x1b[0m"
}
