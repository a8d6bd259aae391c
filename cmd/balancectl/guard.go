// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/seed-f1518d44/balance/internal/names"
	"github.com/seed-f1518d44/balance/internal/overrides"
	"github.com/seed-f1518d44/balance/internal/statuspage"
)

// overridesFiles returns the paths of the overrides files that rules on the page read.
func overridesFiles(d *statuspage.Document) (paths []string) {
	for i := range d.Rules {
		if path := located(d, d.Rules[i].Overrides); path != "" && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths
}

// located returns the path of a file on the page. A relative one starts from the directory of the
// server, if that is known.
func located(d *statuspage.Document, path string) string {
	if path == "" || filepath.IsAbs(path) || d.Process.Directory == "" {
		return path
	}
	return filepath.Join(d.Process.Directory, path)
}

// fleetOf returns the name of the fleet that a rule which reads a file belongs to, "" if there is
// none.
func fleetOf(d *statuspage.Document, file string) string {
	for i := range d.Rules {
		for _, option := range d.Rules[i].Options {
			if words := strings.Fields(option); len(words) > 1 && words[0] == "fleet" && isSame(file, located(d, d.Rules[i].Overrides)) {
				return words[1]
			}
		}
	}
	return ""
}

// isSame reports whether a file is that of a page, whose path may be relative to a directory that
// is not known.
func isSame(file, onPage string) bool {
	if absolute, err := filepath.Abs(file); err == nil {
		file = absolute
	}
	return onPage != "" && (file == filepath.Clean(onPage) || strings.HasSuffix(file, "/"+onPage))
}

// leftWithout returns the names that a change of a file leaves without a member that can serve,
// and that had one before.
func leftWithout(d *statuspage.Document, file string, before, after overrides.Set, now time.Time) (left []string) {
	for i := range d.Names {
		n := &d.Names[i]
		if n.MembersOmitted > 0 || !isSame(file, located(d, d.Rules[n.Rule].Overrides)) {
			continue
		}
		if canServe(n, before, now) && !canServe(n, after, now) {
			left = append(left, n.Name+" "+n.Type)
		}
	}
	return left
}

// canServe reports whether a name has a member that is neither down nor drained. One that has
// members other than addresses is taken to have one.
func canServe(n *statuspage.Name, set overrides.Set, now time.Time) bool {
	owner := names.Spell(n.Name)
	return slices.ContainsFunc(n.Members, func(m statuspage.Member) bool {
		addr, err := netip.ParseAddr(m.Member)
		if err != nil {
			return true
		}
		switch set.Of(owner, addr, now) {
		case overrides.Up:
			return true
		case overrides.Down, overrides.Drain:
			return false
		}
		if m.Override == nil { // else the verdict is that of the override
			return m.Verdict != "down"
		}
		return !slices.ContainsFunc(m.Probes, func(p statuspage.Probe) bool { return p.Verdict == "down" })
	})
}

// refusal returns why a change is refused, nil if it is not.
func (c *change) refusal(d *statuspage.Document, before, after overrides.Set, now time.Time) error {
	if c.force {
		return nil
	}
	if !slices.ContainsFunc(overridesFiles(d), func(path string) bool { return isSame(c.file, path) }) {
		return fmt.Errorf("%w: no rule on the page reads %s; -force does it anyway", errRefused, c.file)
	}
	if left := leftWithout(d, c.file, before, after, now); len(left) > 0 {
		return fmt.Errorf("%w: no member would be left to serve %s; -force does it anyway", errRefused, strings.Join(left, ", "))
	}
	return nil
}

// note says that what was written may be misspelled, "" if it is not.
func (c *change) note(shown []shownPage) string {
	switch {
	case c.matchesNothing(shown):
		return "note: it changes no member of a name in use; is the spelling right?\n"
	case c.isUnknown(shown):
		return "note: it changes no name in use; is the spelling right?\n"
	}
	return ""
}

// matchesNothing reports whether what was written is for no member on the pages, as far as they
// show all.
func (c *change) matchesNothing(shown []shownPage) bool {
	if len(shown) == 0 || c.what == "clear" || c.what == "failback" {
		return false
	}
	fresh, _ := c.lines() // apply has checked them
	for _, p := range shown {
		for i := range p.document.Names {
			n := &p.document.Names[i]
			isMatched := func(m statuspage.Member) bool {
				addr, err := netip.ParseAddr(m.Member)
				return err != nil || fresh.Of(names.Spell(n.Name), addr, c.now) != overrides.None
			}
			if n.MembersOmitted > 0 || slices.ContainsFunc(n.Members, isMatched) {
				return false
			}
		}
		if p.document.NamesOmitted > 0 {
			return false
		}
	}
	return true
}

// nothingWaits returns why a failback is refused, nil if it is not: on no page that has a name would
// the name go back to an earlier tier. A name that is not in use, or a wildcard, is not refused.
func (c *change) nothingWaits(shown []shownPage) error {
	if c.force || c.what != "failback" {
		return nil
	}
	for _, target := range c.targets {
		var obstacles []string
		uses := usesOf(target, shown)
		for _, u := range uses {
			if obstacle := u.obstacle(); obstacle != "" {
				obstacles = append(obstacles, obstacle)
			}
		}
		if len(uses) > 0 && len(obstacles) == len(uses) {
			return fmt.Errorf("%w: %s; -force does it anyway", errRefused, fmt.Sprintf(obstacles[0], target))
		}
	}
	return nil
}

// use is an RRset of a name that is in use, and its rule.
type use struct {
	*statuspage.Name
	rule *statuspage.Rule
}

// usesOf returns the RRsets of a name on some pages.
func usesOf(target string, shown []shownPage) (uses []use) {
	for _, p := range shown {
		for i := range p.document.Names {
			if n := &p.document.Names[i]; names.Spell(n.Name) == names.Spell(target) {
				uses = append(uses, use{n, &p.document.Rules[n.Rule]})
			}
		}
	}
	return uses
}

// obstacle says why an RRset would not go back to an earlier tier, with %s for its name. It is empty
// if the RRset would.
func (u use) obstacle() string {
	isManual := func(option string) bool { return slices.Equal(strings.Fields(option), []string{"failback", "manual"}) }
	switch {
	case !u.FailedOver:
		return "no later tier serves %s"
	case !slices.ContainsFunc(u.rule.Options, isManual):
		return "no line makes %s go back, because its rule does not have failback manual"
	case u.Failback == "":
		return "no earlier tier of %s can serve yet"
	}
	return ""
}

// isUnknown reports whether a failback is for a name that no page shows to be in use, as far as
// they show all. Wildcards are not known to be in use.
func (c *change) isUnknown(shown []shownPage) bool {
	if len(shown) == 0 || c.what != "failback" {
		return false
	}
	if slices.ContainsFunc(shown, func(p shownPage) bool { return p.document.NamesOmitted > 0 }) {
		return false
	}
	return slices.ContainsFunc(c.targets, func(target string) bool {
		return !strings.HasPrefix(target, "*.") && len(usesOf(target, shown)) == 0
	})
}
