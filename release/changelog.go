// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/mod/semver"
)

const unreleased = "Unreleased"

var (
	heading = regexp.MustCompile(`^(?:` + unreleased + `|(v\S+) / \d{4}-\d{2}-\d{2})$`)
	entry   = regexp.MustCompile(`(?s)^\[(CHANGE|FEATURE|ENHANCEMENT|BUGFIX)\] .+\.$`)
	// between is what git describe puts behind the last release.
	between = regexp.MustCompile(`-\d+-g[0-9a-f]+`)
)

// section is what CHANGELOG.md says of a release.
type section struct {
	version string // "Unreleased", or as "v0.1.0"
	entries string // its lines, trimmed
}

// sections takes CHANGELOG.md apart. An error says what is not as CONTRIBUTING.md wants it: first
// "Unreleased", then a section for every release, newest first, with its day; in each entries that
// start with a tag and end with a full stop, or groups of entries.
func sections(changelog []byte) ([]section, error) {
	var all []section
	for _, text := range strings.Split(string(changelog), "\n## ")[1:] {
		title, body, _ := strings.Cut(text, "\n")
		m := heading.FindStringSubmatch(title)
		if m == nil {
			return nil, fmt.Errorf("CHANGELOG.md: heading %q: want %q or as \"v0.1.0 / 2026-12-24\"", title, unreleased)
		}
		s := section{version: m[1], entries: strings.TrimSpace(body)}
		if err := s.place(all); err != nil {
			return nil, err
		}
		if s.version == "" {
			s.version = unreleased
		}
		if err := s.check(); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("CHANGELOG.md: no section: want at least %q", unreleased)
	}
	return all, nil
}

// place returns an error if s cannot follow the sections above it.
func (s section) place(above []section) error {
	if len(above) == 0 {
		if s.version != "" {
			return fmt.Errorf("CHANGELOG.md: first section is %q: want %q", s.version, unreleased)
		}
		return nil
	}
	if !semver.IsValid(s.version) || semver.Canonical(s.version) != s.version {
		return fmt.Errorf("CHANGELOG.md: version %q: want one as \"v0.1.0\", and %q once", s.version, unreleased)
	}
	if last := above[len(above)-1].version; last != unreleased && semver.Compare(last, s.version) <= 0 {
		return fmt.Errorf("CHANGELOG.md: %s stands below %s: want the newest first", s.version, last)
	}
	return nil
}

// check returns an error for the first entry that is not as it should be. The first release says
// what there is, in groups; all others say what changed, and every entry has a tag.
func (s section) check() error {
	if s.entries == "" || strings.Contains(s.entries, "\n### ") {
		return nil
	}
	for _, text := range strings.Split("\n"+s.entries, "\n* ")[1:] {
		if !entry.MatchString(strings.TrimSpace(text)) {
			return fmt.Errorf("CHANGELOG.md: %s: entry %q: want as \"[BUGFIX] What was wrong.\", tags are CHANGE, FEATURE, ENHANCEMENT, BUGFIX", s.version, text)
		}
	}
	if !strings.HasPrefix(s.entries, "* ") {
		return fmt.Errorf("CHANGELOG.md: %s: %.40q: want entries, each a line that starts with \"* [\"", s.version, s.entries)
	}
	return nil
}

// notes returns what CHANGELOG.md says of version: its own section, and for what lies between two
// releases, or ahead of the first, what is not released yet. A release without a section, or with
// entries left under "Unreleased", is an error.
func notes(changelog []byte, version string) (string, error) {
	all, err := sections(changelog)
	if err != nil {
		return "", err
	}
	if !isRelease(version) {
		return all[0].entries, nil
	}
	if all[0].entries != "" {
		return "", fmt.Errorf("CHANGELOG.md: entries are left under %q: want them under %s", unreleased, version)
	}
	for _, s := range all {
		if s.version == version && s.entries != "" {
			return s.entries, nil
		}
	}
	return "", fmt.Errorf("CHANGELOG.md: nothing on %s: want a section with entries", version)
}

// isRelease says whether version is a release, and not what git describe makes of a commit that is
// none.
func isRelease(version string) bool {
	return semver.IsValid(version) && !between.MatchString(version) && !strings.HasSuffix(version, "-dirty")
}

// notes returns what the tree's own CHANGELOG.md says of this version.
func (r release) notes() (string, error) {
	changelog, err := os.ReadFile(filepath.Join(r.tree, "CHANGELOG.md"))
	if err != nil {
		return "", err
	}
	return notes(bytes.ReplaceAll(changelog, []byte("\r\n"), []byte("\n")), r.version)
}
