// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/seed-f1518d44/balance/internal/cidr"
	"github.com/seed-f1518d44/balance/internal/overrides"
)

// edit is a command that changes the overrides file.
type edit struct{ name, about string }

var edits = []edit{
	{"drain", "have members serve only if nothing else does"},
	{"down", "take members out of the answers"},
	{"up", "keep members in the answers whatever their probes say"},
	{"failback", "have names that a later tier serves go back to an earlier one, with failback manual"},
	{"clear", "remove what drain, down, up or failback wrote"},
}

// arguments are those of an edit.
func (e edit) arguments() string {
	if e.name == "failback" {
		return "[flags] NAME..."
	}
	return "[flags] NAME|ADDRESS|CIDR..."
}

// change is what an edit was asked to do.
type change struct {
	what    string
	now     time.Time
	targets []string // NAME, ADDRESS or CIDR
	name    string   // the lines hold for this name alone
	until   time.Time
	why     string

	file      string
	at        pages
	configMap string
	dryRun    bool
	force     bool
	wait      time.Duration
}

const editHelp = `
A NAME stands for all of its addresses. A line for the same name and address is replaced.
FILE is by default the overrides file that the status page names, if there is one alone.
If it belongs to a ConfigMap, a kubectl command is written instead.
Exit status: 0 if the server has taken it, 1 if that was refused or did not happen, 2 if it failed.`

func (e edit) run(ctx context.Context, args []string, s streams) (status int, err error) {
	c, err := e.read(args, time.Now(), s)
	if err != nil {
		return 0, err
	}
	shown, err := c.at.get(ctx)
	if err != nil && !c.force {
		return 0, fmt.Errorf("%w; -force does without", err)
	}
	if err := c.findFile(shown); err != nil {
		return 0, err
	}
	return c.carryOut(ctx, shown, s)
}

// read reads a command line.
func (e edit) read(args []string, now time.Time, s streams) (*change, error) {
	c := &change{what: e.name, now: now}
	flags := newFlags(e.name, e.arguments(), "Has balance "+e.about+"."+editHelp, s)
	at := flags.atFlag()
	flags.StringVar(&c.file, "file", "", "overrides `FILE`")
	flags.StringVar(&c.configMap, "configmap", "", "`[NAMESPACE/]NAME` of the ConfigMap that holds the file: write a kubectl command")
	flags.BoolVar(&c.dryRun, "dry-run", false, "show the difference and change nothing")
	flags.BoolVar(&c.force, "force", false, "do it even if a name is left without members, or the page cannot be asked")
	flags.DurationVar(&c.wait, "wait", 30*time.Second, "time to wait until the server has taken it; 0: do not wait")
	var lasts *time.Duration
	var until *string
	if e.name != "failback" {
		flags.StringVar(&c.name, "name", "", "change this `NAME` only, which may be a wildcard")
	}
	if e.name != "clear" {
		flags.StringVar(&c.why, "why", "", "the reason, for the file and the page; required")
	}
	if e.name != "clear" && e.name != "failback" {
		lasts = flags.Duration("for", 0, "how long it holds, for example 2h; else until it is cleared")
		until = flags.String("until", "", "`TIME` at which it ends, for example 2026-12-01T00:00:00Z")
	}
	var err error
	if c.targets, err = flags.words(args); err != nil {
		return nil, err
	}
	c.at = at.all()
	if lasts != nil {
		err = c.readEnd(*lasts, *until, now)
	}
	if err == nil {
		err = c.validate()
	}
	return c, err
}

func (c *change) readEnd(lasts time.Duration, until string, now time.Time) (err error) {
	switch {
	case lasts != 0 && until != "":
		return errors.New("found -for and -until: want one of them")
	case lasts < 0:
		return fmt.Errorf("-for %v: want more than 0", lasts)
	case lasts > 0:
		c.until = now.Add(lasts + time.Second - 1).UTC().Truncate(time.Second)
	case until != "":
		if c.until, err = time.Parse(time.RFC3339, until); err != nil {
			return fmt.Errorf("-until %q: want a time such as 2026-12-01T00:00:00Z", until)
		}
		if !now.Before(c.until) {
			return fmt.Errorf("-until %s: want a time to come", until)
		}
	}
	return nil
}

func (c *change) validate() error {
	switch {
	case len(c.targets) == 0:
		return errors.New("found nothing to change: want a name, an address or a CIDR")
	case c.what != "clear" && strings.TrimSpace(c.why) == "":
		return errors.New("-why is required: who reads the file later wants to know")
	case strings.ContainsFunc(c.why, unicode.IsControl):
		return fmt.Errorf("-why %q: want one line without control characters", c.why)
	}
	return nil
}

// lines returns the overrides to write, or the targets to clear.
func (c *change) lines() (overrides.Set, error) {
	var text strings.Builder
	for _, target := range c.targets {
		lines, err := c.linesFor(target)
		if err != nil {
			return nil, err
		}
		for _, line := range lines {
			text.WriteString(strings.TrimSpace(line))
			if !c.until.IsZero() {
				text.WriteString(" until " + c.until.Format(time.RFC3339))
			}
			if c.why != "" {
				text.WriteString(" # " + c.why)
			}
			text.WriteString("\n")
		}
	}
	set, err := overrides.Parse([]byte(text.String()))
	if err != nil {
		// Behind the number of the line, which nobody wrote.
		_, reason, _ := strings.Cut(err.Error(), ": ")
		return nil, errors.New(reason)
	}
	return set, nil
}

// linesFor returns the lines for a target, without their end and reason. When lines are cleared,
// only their targets count.
func (c *change) linesFor(target string) (lines []string, err error) {
	isName := false
	if _, err := cidr.ParseTargets(target); err != nil {
		_, err := netip.ParseAddr(target)
		isName = err != nil && !strings.Contains(target, "/") && c.name == ""
		if !isName {
			return nil, fmt.Errorf("bad target %q: want a name, an address or a CIDR", target)
		}
	}
	what := c.what
	if what == "clear" {
		what = overrides.Up.String()
	}
	if c.what == "failback" || c.what == "clear" && isName {
		lines = append(lines, target+" failback at "+c.now.UTC().Format(time.RFC3339))
	}
	switch {
	case c.what == "failback":
	case isName:
		lines = append(lines, target+" 0.0.0.0/0 "+what, target+" ::/0 "+what)
	default:
		lines = append(lines, c.name+" "+target+" "+what)
	}
	return lines, nil
}

// apply returns what the file holds after the change. Lines for the same targets go, and new ones
// stand at the end, where they win.
func (c *change) apply(content string) (string, error) {
	old, err := overrides.Parse([]byte(content))
	if err != nil {
		return "", fmt.Errorf("%s:%w; mend it first", c.file, err)
	}
	lines, err := c.lines()
	if err != nil {
		return "", err
	}
	all := strings.SplitAfter(content, "\n")
	found := false
	for _, l := range old {
		for _, fresh := range lines {
			if l.SameTarget(fresh) {
				all[l.Number-1], found = "", true
			}
		}
	}
	changed := strings.Join(all, "")
	if c.what == "clear" {
		if !found {
			return "", fmt.Errorf("%w: %s has no line for %s", errRefused, c.file, strings.Join(lines.Targets(), ", "))
		}
		return changed, nil
	}
	if changed != "" && !strings.HasSuffix(changed, "\n") {
		changed += "\n"
	}
	changed += strings.Join(lines.Texts(), "\n") + "\n"
	_, err = overrides.Parse([]byte(changed))
	return changed, err
}

// findFile finds the overrides file on the pages, unless it was named.
func (c *change) findFile(shown []shownPage) error {
	if c.file != "" {
		return nil
	}
	if len(shown) == 0 {
		return errors.New("which file? want -file, because the page cannot be asked")
	}
	var found []string
	for _, p := range shown {
		found = append(found, overridesFiles(p.document)...)
	}
	slices.Sort(found)
	if len(found) == 0 {
		return errors.New("no rule on the page has the option overrides, so no file is read")
	}
	if found = slices.Compact(found); len(found) != 1 {
		return fmt.Errorf("the page names %d overrides files %q: want one as -file", len(found), found)
	}
	c.file = found[0]
	info, err := os.Stat(filepath.Dir(c.file)) //nolint:gosec // only looked at
	if !filepath.IsAbs(c.file) || err != nil || !info.IsDir() {
		return fmt.Errorf("found no directory of %s, which the page names, perhaps on another host or in a container: want the file as -file", c.file)
	}
	return nil
}
