// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

func TestChangelogOfThisTree(t *testing.T) {
	if _, err := sections(content(t, "../CHANGELOG.md")); err != nil {
		t.Error(err)
	}
}

const released = `# Changelog

## Unreleased

## v0.2.0 / 2026-12-24

* [CHANGE] One
  goes on.
* [BUGFIX] Two.

## v0.1.0 / 2026-11-30

* [FEATURE] Three.
`

func TestNotes(t *testing.T) {
	for _, tt := range []struct{ name, changelog, version, want, wantErr string }{
		{"newest", released, "v0.2.0", "* [CHANGE] One\n  goes on.\n* [BUGFIX] Two.", ""},
		{"older", released, "v0.1.0", "* [FEATURE] Three.", ""},
		{"between", released, "v0.2.0-3-gabcdef0", "", ""},
		{"dirty", released, "v0.2.0-dirty", "", ""},
		{"commit", "# C\n\n## Unreleased\n\n* [BUGFIX] A.\n", "886146d", "* [BUGFIX] A.", ""},
		{"groups", "# C\n\n## Unreleased\n\n## v0.1.0 / 2026-11-30\n\nIt has:\n\n### Order\n\n* Turns.\n", "v0.1.0", "It has:\n\n### Order\n\n* Turns.", ""},
		{"missing", released, "v0.3.0", "", `CHANGELOG.md: nothing on v0.3.0: want a section with entries`},
		{"candidate", released, "v0.3.0-rc.1", "", `CHANGELOG.md: nothing on v0.3.0-rc.1: want a section with entries`},
		{"left", "# C\n\n## Unreleased\n\n* [BUGFIX] A.\n\n## v0.1.0 / 2026-11-30\n\n* [BUGFIX] B.\n", "v0.1.0", "",
			`CHANGELOG.md: entries are left under "Unreleased": want them under v0.1.0`},
		{"empty", "# C\n", "v0.1.0", "", `CHANGELOG.md: no section: want at least "Unreleased"`},
		{"no unreleased", "# C\n\n## v0.1.0 / 2026-11-30\n", "v0.1.0", "", `CHANGELOG.md: first section is "v0.1.0": want "Unreleased"`},
		{"no day", "# C\n\n## Unreleased\n\n## v0.1.0\n", "v0.1.0", "",
			`CHANGELOG.md: heading "v0.1.0": want "Unreleased" or as "v0.1.0 / 2026-12-24"`},
		{"short version", "# C\n\n## Unreleased\n\n## v0.1 / 2026-11-30\n", "v0.1.0", "",
			`CHANGELOG.md: version "v0.1": want one as "v0.1.0", and "Unreleased" once`},
		{"order", "# C\n\n## Unreleased\n\n## v0.1.0 / 2026-11-30\n\n## v0.2.0 / 2026-12-30\n", "v0.1.0", "",
			`CHANGELOG.md: v0.2.0 stands below v0.1.0: want the newest first`},
		{"tag", "# C\n\n## Unreleased\n\n* [FIX] A.\n", "v0.1.0", "",
			`CHANGELOG.md: Unreleased: entry "[FIX] A.": want as "[BUGFIX] What was wrong.", tags are CHANGE, FEATURE, ENHANCEMENT, BUGFIX`},
		{"prose", "# C\n\n## Unreleased\n\nMuch was done.\n", "v0.1.0", "",
			`CHANGELOG.md: Unreleased: "Much was done.": want entries, each a line that starts with "* ["`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := notes([]byte(tt.changelog), tt.version)
			if message := errorText(err); got != tt.want || message != tt.wantErr {
				t.Errorf("notes are %q, error %q; want %q, error %q", got, message, tt.want, tt.wantErr)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
