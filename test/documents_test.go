// SPDX-License-Identifier: Apache-2.0

package test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Configurations of other servers that the documents show are what those take.
func TestConfigurationsOfOthers(t *testing.T) {
	onlyWhole(t, "it runs programs that test/install installs")
	found := 0
	for _, path := range documents(t) {
		for _, b := range blocksOf(t, path) {
			if b.kind != "gdnsd" {
				continue
			}
			found++
			config := file(t, "config", b.text)
			if out, err := exec.Command("gdnsd", "-c", filepath.Dir(config), "checkconf").CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", b.at, err, out)
			}
		}
	}
	if found == 0 {
		t.Error("no configuration found")
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	dropped = regexp.MustCompile(`[^\w -]`)
)

// What the documents link to is there, the sections too.
func TestLinksInTheDocuments(t *testing.T) {
	results, err := filepath.Glob(filepath.Join("..", "bench", "results", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range slices.Concat(documents(t), results, []string{filepath.Join("..", "CONTRIBUTING.md")}) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(l[1], "://") {
				continue
			}
			name, section, _ := strings.Cut(l[1], "#")
			target := path
			if name != "" {
				target = filepath.Join(filepath.Dir(path), name)
			}
			linked, err := os.ReadFile(target)
			if err != nil || section != "" && !hasSection(string(linked), section) {
				t.Errorf("%s links to %s, which is not there", path, l[1])
			}
		}
	}
}

// hasSection reports whether a document has a heading of that name, as it is spelled in links.
func hasSection(text, name string) bool {
	for _, h := range heading.FindAllStringSubmatch(text, -1) {
		if strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-") == name {
			return true
		}
	}
	return false
}

// Every document is in the index.
func TestIndexOfTheDocuments(t *testing.T) {
	index, err := os.ReadFile(filepath.Join("..", "docs", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range documents(t) {
		if name := filepath.Base(path); name != "README.md" && !strings.Contains(string(index), "("+name+")") {
			t.Errorf("docs/README.md does not name %s", name)
		}
	}
}

// The demo does not start if something else has one of its ports, and says which.
func TestDemoNamesThePortThatIsTaken(t *testing.T) {
	const port = "127.0.0.1:1053"
	if l, err := net.Listen("tcp", port); err == nil { // otherwise somebody has it, as is wanted
		defer l.Close()
	}
	out, err := exec.Command(filepath.Join("..", "examples", "demo")).CombinedOutput()
	if want := "demo: " + port + " is in use and the demo needs it"; err == nil || !strings.HasPrefix(string(out), want) {
		t.Errorf("error %v, output %q: want a failure that begins with %q", err, out, want)
	}
}
