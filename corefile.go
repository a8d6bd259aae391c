// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/coredns/caddy"

	"github.com/seed-f1518d44/balance/internal/text"
)

// position is a line of a Corefile, or of a file that it imports.
type position struct {
	file string
	line int
}

func (p position) String() string { return fmt.Sprintf("%s:%d", p.file, p.line) }

// line is a line of a Corefile: a word and its arguments, and the lines of its block if it has one.
type line struct {
	at    position
	name  string
	args  []string
	block []line
}

// String returns the line without its block, as it may stand in a Corefile.
func (l *line) String() string {
	words := []string{l.name}
	for _, arg := range l.args {
		if arg == "" || strings.ContainsAny(arg, " \t\"") {
			arg = fmt.Sprintf("%q", arg)
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}

// textOf returns lines and their blocks as one text. Stanzas with the same text are the same.
func textOf(lines []line) string {
	var b strings.Builder
	for i := range lines {
		b.WriteString(lines[i].String())
		if lines[i].block != nil {
			b.WriteString(" {\n" + textOf(lines[i].block) + "}")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// errorf returns an error about the line.
func (l *line) errorf(format string, args ...any) error {
	return &lineError{l.at, fmt.Errorf(format, args...)}
}

// lineError is an error about a line of a Corefile.
type lineError struct {
	at  position
	err error
}

func (e *lineError) Error() string { return fmt.Sprintf("%s: %v", e.at, e.err) }

func (e *lineError) Unwrap() error { return e.err }

// readLine reads the line that begins at the current word of c, and its block.
func readLine(c *caddy.Controller) (line, error) {
	l := line{at: position{c.File(), c.Line()}, name: c.Val()}
	if l.name == "{" {
		return l, l.errorf(`found "{" on a line of its own: want it at the end of the line before`)
	}
	l.args = c.RemainingArgs()
	if !c.NextArg() { // RemainingArgs stops at a brace
		return l, nil
	}
	err := l.readBlock(c)
	return l, err
}

// readBlock reads the lines between the braces. The current word of c is the opening brace.
func (l *line) readBlock(c *caddy.Controller) error {
	l.block = []line{}
	for c.Next() {
		if c.Val() == "}" {
			return l.readEnd(c)
		}
		next, err := readLine(c)
		if err != nil {
			return err
		}
		l.block = append(l.block, next)
	}
	return l.errorf(`%s: its block has no end: want a line with "}"`, l.name)
}

// readEnd returns an error if a word follows the closing brace on its line.
func (l *line) readEnd(c *caddy.Controller) error {
	if c.NextArg() {
		next := line{at: position{c.File(), c.Line()}}
		return next.errorf(`found %q behind the "}" of %s: want it on a line of its own`, c.Val(), l.name)
	}
	return nil
}

// option is a word that begins a line of a block, from which a T is made.
type option[T any] struct {
	name    string
	usage   string // the arguments
	repeats bool
	block   bool // a block may follow the arguments
	read    func(into *T, l *line) error
}

// set returns how to read an option with one value.
func set[T, V any](parse func(args []string) (V, error), assign func(*T, V)) func(*T, *line) error {
	return add(parse, func(into *T, value V) error {
		assign(into, value)
		return nil
	})
}

// add returns how to read an option whose value may contradict what was read before.
func add[T, V any](parse func(args []string) (V, error), assign func(*T, V) error) func(*T, *line) error {
	return addAt(parse, func(into *T, value V, _ position) error { return assign(into, value) })
}

// addAt is add for an option whose position matters later.
func addAt[T, V any](parse func(args []string) (V, error), assign func(*T, V, position) error) func(*T, *line) error {
	return func(into *T, l *line) error {
		value, err := parse(l.args)
		if err != nil {
			return &misread{err, hintOn(l.args, func(args []string) error {
				_, err := parse(args)
				return err
			})}
		}
		return assign(into, value, l.at)
	}
}

// readOptions reads the lines of a block into a T, and returns where each option stands first.
// unknown returns the error for a word that is no option.
func readOptions[T any](into *T, lines []line, options []option[T], unknown func(word string) error) (map[string]position, error) {
	seen := make(map[string]position)
	for i := range lines {
		l := &lines[i]
		o := optionNamed(options, l.name)
		if o == nil {
			return seen, &lineError{l.at, unknown(l.name)}
		}
		if first, again := seen[l.name]; !again {
			seen[l.name] = l.at
		} else if !o.repeats {
			return seen, l.errorf("%s: given twice, first at %s: want it once", l.name, first)
		}
		if err := o.readLine(into, l); err != nil {
			return seen, err
		}
	}
	return seen, nil
}

// readLine reads a line into a T. Errors say which line is wrong and how it should look.
func (o *option[T]) readLine(into *T, l *line) error {
	if !o.block && l.block != nil {
		return l.errorf(`%s: found "{": want no block`, l.name)
	}
	err := o.read(into, l)
	if inside := new(lineError); err == nil || errors.As(err, &inside) {
		return err
	}
	hint := ""
	if m := new(misread); errors.As(err, &m) {
		err, hint = m.err, m.hint
	}
	return l.errorf("%s: %w%s", l.name, wanting(err, l.name, o.usage), hint)
}

// misread is the error of a parser and what may be meant by the arguments.
type misread struct {
	err  error
	hint string
}

func (m *misread) Error() string { return m.err.Error() + m.hint }

func optionNamed[T any](options []option[T], name string) *option[T] {
	at := slices.IndexFunc(options, func(o option[T]) bool { return o.name == name })
	if at < 0 {
		return nil
	}
	return &options[at]
}

// optionNames returns the names of options in alphabetical order.
func optionNames[T any](options []option[T]) (names []string) {
	for _, o := range options {
		names = append(names, o.name)
	}
	slices.Sort(names)
	return names
}

// wrongCount is the error of a parser that was given too many or too few arguments. Its caller
// knows which ones are wanted.
type wrongCount []string

func (found wrongCount) Error() string { return text.Found(found) }

// wanting adds to a wrongCount what is wanted instead.
func wanting(err error, name, usage string) error {
	found := wrongCount(nil)
	switch {
	case !errors.As(err, &found):
		return err
	case usage == "":
		return fmt.Errorf("%s: want %q alone", text.Found(found), name)
	case len(found) > 1 && takesText(usage):
		return fmt.Errorf("%s: want %q, with a text of several words in quotes", text.Found(found), name+" "+usage)
	}
	return fmt.Errorf("%s: want %q", text.Found(found), name+" "+usage)
}

// takesText reports whether the last argument of an option may have spaces.
func takesText(usage string) bool {
	return strings.HasSuffix(usage, "TEXT") || strings.HasSuffix(usage, "VALUE") || strings.HasSuffix(usage, "RE2")
}
