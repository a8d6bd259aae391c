// SPDX-License-Identifier: Apache-2.0

// Package terminal knows what a stream can show.
package terminal

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/term"
)

// Screen is what a stream can show.
type Screen struct {
	Terminal bool
	Width    int // columns
	Colour   bool
	Unicode  bool
}

// Bounds of the width that is made use of.
const (
	defaultWidth = 80
	LeastWidth   = 40
	MostWidth    = 140
)

// Of finds out what a stream can show. Colours are for terminals, unless NO_COLOR is set
// (no-color.org); blocks and other signs beyond ASCII are for those whose locale says UTF-8.
func Of(f *os.File, env func(string) string) Screen {
	fd := int(f.Fd())
	s := Screen{Terminal: term.IsTerminal(fd), Width: defaultWidth, Unicode: isUTF8(env)}
	if n, err := strconv.Atoi(env("COLUMNS")); err == nil && n > 0 {
		s.Width = n
	} else if width, _, err := term.GetSize(fd); err == nil && width > 0 {
		s.Width = width
	}
	s.Width = min(max(s.Width, LeastWidth), MostWidth)
	s.Colour = s.Terminal && env("NO_COLOR") == "" && env("TERM") != "dumb"
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

// Colour is the number of a terminal's colour (ECMA-48, SGR).
type Colour int

// Colours and styles.
const (
	Bold   Colour = 1
	Faint  Colour = 2
	Red    Colour = 31
	Green  Colour = 32
	Yellow Colour = 33
	Blue   Colour = 34
)

// Paint puts text into a colour if the screen has any.
func (s Screen) Paint(c Colour, text string) string {
	if !s.Colour || text == "" {
		return text
	}
	return "\x1b[" + strconv.Itoa(int(c)) + "m" + text + "\x1b[0m"
}
