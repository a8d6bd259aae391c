// SPDX-License-Identifier: Apache-2.0

package overrides

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/cidr"
	"github.com/seed-f1518d44/balance/internal/names"
	"github.com/seed-f1518d44/balance/internal/text"
	"github.com/seed-f1518d44/balance/internal/weights"
)

const form = "[NAME] ADDRESS|CIDR up|down|drain [from TIME] [until TIME] [# why]"

const failbackForm = "NAME failback at TIME [# why]"

// Parse reads lines of "[NAME] ADDRESS|CIDR up|down|drain [from RFC3339] [until RFC3339] [# why]"
// and of "NAME failback at RFC3339 [# why]". Errors start with the number of the line.
func Parse(content []byte) (Set, error) {
	var set Set
	number := 0
	for line := range bytes.Lines(content) {
		number++
		l, err := parseLine(line)
		if err != nil {
			return nil, fmt.Errorf("%d: %w", number, err)
		}
		if l != nil {
			l.Number = number
			set = append(set, l)
		}
	}
	return set, nil
}

// parseLine reads a line. It returns nil for one that is empty or a comment.
func parseLine(line []byte) (*Line, error) {
	rule, why, _ := bytes.Cut(line, []byte("#"))
	if len(bytes.TrimSpace(rule)) == 0 {
		return nil, nil //nolint:nilnil // documented
	}
	if err := weights.CheckLength(line); err != nil {
		return nil, err
	}
	l := &Line{Why: strings.TrimSpace(string(why))}
	found := strings.Fields(string(rule))
	if len(found) > 1 && found[1] == Failback.String() {
		return l, l.readFailback(found)
	}
	found, err := l.readTargets(found)
	if err != nil {
		return nil, err
	}
	return l, l.readOverride(found)
}

// readTargets reads the name and the address of a line, and returns the words that follow.
func (l *Line) readTargets(found []string) (rest []string, err error) {
	if l.targets, err = cidr.ParseTargets(found[0]); err == nil {
		return found[1:], nil
	}
	if len(found) < 2 || slices.Contains(words[Up:], found[1]) {
		return nil, err // the first word was meant as the address
	}
	if err := l.readName(found[0]); err != nil {
		return nil, err
	}
	l.targets, err = cidr.ParseTargets(found[1])
	return found[2:], err
}

func (l *Line) readName(word string) error {
	if err := weights.CheckName(word); err != nil {
		return err
	}
	l.name, l.owner = dns.CanonicalName(word), names.Spell(strings.TrimPrefix(word, "*."))
	return nil
}

// readFailback reads "NAME failback at TIME".
func (l *Line) readFailback(found []string) (err error) {
	if _, err := cidr.ParseTargets(found[0]); err == nil {
		return fmt.Errorf("failback is for a name, and found %q: want %s", found[0], failbackForm)
	}
	if len(found) != 4 || found[2] != "at" {
		return fmt.Errorf("behind failback: %s: want %s", text.Found(found[2:]), failbackForm)
	}
	if err := l.readName(found[0]); err != nil {
		return err
	}
	l.Override = Failback
	l.From, err = parseTime(found[3])
	return err
}

// readOverride reads the words after the address.
func (l *Line) readOverride(found []string) error {
	if len(found) == 0 || len(found) > 5 {
		return fmt.Errorf("behind the address: %s: want %s", text.Found(found), form)
	}
	what := slices.Index(words[:], found[0])
	if what < int(Up) || what == int(Failback) {
		return text.Unknown("override", found[0], words[Up:Failback])
	}
	l.Override = Override(what)
	return l.readTimes(found[1:])
}

// readTimes reads "[from TIME] [until TIME]".
func (l *Line) readTimes(found []string) (err error) {
	rest := found
	for _, word := range []string{"from", "until"} {
		if len(rest) < 2 || rest[0] != word {
			continue
		}
		at, err := parseTime(rest[1])
		if err != nil {
			return err
		}
		if word == "from" {
			l.From = at
		} else {
			l.Until = at
		}
		rest = rest[2:]
	}
	switch {
	case len(rest) > 0:
		return fmt.Errorf("behind the override: %s: want %s", text.Found(found), form)
	case len(found) == 4 && !l.From.Before(l.Until):
		return fmt.Errorf("until %q is not after from %q: never in force", found[3], found[1])
	}
	return nil
}

// parseTime reads a time. A duration is refused, because the file does not say when it began. The
// error says which time to write if it begins now.
func parseTime(word string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, word)
	if err == nil {
		_, err = at.MarshalText() // time.Parse takes offsets that RFC 3339 does not have
	}
	if err == nil && !at.IsZero() {
		return at, nil
	}
	if after, err := time.ParseDuration(strings.TrimPrefix(word, "+")); err == nil && after > 0 {
		return time.Time{}, fmt.Errorf("bad time %q: a line does not know when it was written: want %s, which is %s from now",
			word, time.Now().Add(after).UTC().Format(time.RFC3339), strings.TrimPrefix(word, "+"))
	}
	return time.Time{}, fmt.Errorf("bad time %q: want one such as 2026-12-01T00:00:00Z", word)
}
