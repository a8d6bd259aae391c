// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-f1518d44/balance/internal/text"
)

// Every test that docs/security.md names is there to be run.
func TestSecurityPageNamesTests(t *testing.T) {
	page, err := os.ReadFile("docs/security.md")
	must(t, err)
	there := map[string]bool{}
	for _, pattern := range []string{"*_test.go", "internal/*/*_test.go", "internal/*/*/*_test.go", "test/*_test.go"} {
		files, err := filepath.Glob(pattern)
		must(t, err)
		for _, file := range files {
			content, err := os.ReadFile(file)
			must(t, err)
			for _, found := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllStringSubmatch(string(content), -1) {
				there[found[1]] = true
			}
		}
	}
	named := regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`).FindAllString(string(page), -1)
	if len(named) < 30 {
		t.Errorf("the page names %d tests", len(named))
	}
	for _, name := range named {
		if !there[name] {
			t.Errorf("there is no %s", name)
		}
	}
	for i, line := range strings.Split(string(page), "\n") {
		if claim := strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| claim"); claim && !regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]`).MatchString(line) {
			t.Errorf("line %d claims something that no test shows: %s", i+1, line)
		}
	}
}

// Somebody may have put a link to a secret in the place of a file. The error about the file quotes
// hardly anything of it.
func TestErrorsDoNotTellSecrets(t *testing.T) {
	const secret = "6rounds5000saltsaltQkm1Xa9"
	dir := t.TempDir()
	for name, content := range map[string]string{
		"shadow": "root:$" + strings.Repeat(secret, 4) + ":19000:0:99999:7:::\n",
		"token":  "eyJhbGciOiJSUzI1NiJ9." + strings.Repeat(secret, 8) + "\n",
		"config": "password " + strings.Repeat(secret, 4) + " " + strings.Repeat(secret, 3) + "\n",
		"noise":  "\x1b[2J\x00\x07\u202e \r[ERROR] forged\n",
	} {
		at, link := filepath.Join(dir, name), filepath.Join(dir, name+".link")
		writeFile(t, at, content)
		must(t, os.Symlink(at, link))
		_, weights := newWeightFile(fileUser{}, link, 0)
		_, overrides := newOverridesFile(fileUser{}, link, 0)
		for _, err := range []error{weights, overrides} {
			if err == nil {
				t.Fatalf("%s was taken", name)
			}
			if said := err.Error(); strings.Contains(said, secret) || strings.ContainsFunc(said, func(r rune) bool { return r < ' ' || r == '\u202e' }) || len(said) > 2*text.MaxLine {
				t.Errorf("the error is %q", said)
			}
		}
	}
}

// What stands behind an override, too, is a line of the log and no more.
func TestLogOfOverridesIsText(t *testing.T) {
	logged := captureLog(t)
	file := filepath.Join(t.TempDir(), "overrides")
	writeFile(t, file, "192.0.2.1 down # Wartung für \x1b[2J\u202e\r[ERROR] forged "+strings.Repeat("x", 3000)+"\n")
	_, err := newOverridesFile(fileUser{changed: func() {}}, file, 0)
	must(t, err)
	said := strings.TrimSuffix(logged.String(), "\n")
	if strings.ContainsFunc(said, func(r rune) bool { return r < ' ' || r == '\u202e' }) || len(said) > 2*text.MaxLine || !strings.Contains(said, "für") {
		t.Errorf("the log has %q", said)
	}
}
