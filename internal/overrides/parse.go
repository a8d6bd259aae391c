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

const form = "[NAME] ADDRESS|CIDR up|down|drain [until TIME] [# why]"

// Parse reads lines of "[NAME] ADDRESS|CIDR up|down|drain [until RFC3339] [# why]". Errors start with
// the number of the line.
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
	found, err := l.readTargets(strings.Fields(string(rule)))
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
	if err := weights.CheckName(found[0]); err != nil {
		return nil, err
	}
	l.name, l.owner = dns.CanonicalName(found[0]), names.Spell(strings.TrimPrefix(found[0], "*."))
	l.targets, err = cidr.ParseTargets(found[1])
	return found[2:], err
}

// readOverride reads the words after the address.
func (l *Line) readOverride(found []string) error {
	if len(found) != 1 && len(found) != 3 {
		return fmt.Errorf("behind the address: %s: want %s", text.Found(found), form)
	}
	what := slices.Index(words[:], found[0])
	if what < int(Up) {
		return text.Unknown("override", found[0], words[Up:])
	}
	l.Override = Override(what)
	if len(found) == 1 {
		return nil
	}
	if found[1] != "until" {
		return fmt.Errorf("found %q: want %s", found[1], form)
	}
	return l.readUntil(found[2])
}

func (l *Line) readUntil(word string) (err error) {
	if l.Until, err = time.Parse(time.RFC3339, word); err == nil {
		_, err = l.Until.MarshalText() // time.Parse takes offsets that RFC 3339 does not have
	}
	if err != nil {
		return fmt.Errorf("bad time %q: want one such as 2026-12-01T00:00:00Z", word)
	}
	return nil
}
