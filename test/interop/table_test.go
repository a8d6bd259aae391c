// SPDX-License-Identifier: Apache-2.0

//go:build linux

package interop

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the tables in bench/results/clients.md with what the clients did")

// document holds the tables that these tests fill.
const document = "../../bench/results/clients.md"

// table is one of the document's, between two comments that name it.
type table struct {
	marker string
	head   []string
	rows   [][]string
}

// attempts is how often a client is tried that does something else than expected: one that a busy
// machine keeps waiting asks again, or goes on to the next address.
const attempts = 3

// add adds the row of a client.
func (tb *table) add(t *testing.T, try func() (row []string)) {
	t.Helper()
	said, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	row := try()
	for n := 1; n < attempts && !strings.Contains(string(said), line(row)); n++ {
		t.Log("not as said:", row)
		row = try()
	}
	t.Log(row)
	tb.rows = append(tb.rows, row)
}

// line is a line of a table.
func line(cells []string) string { return fmt.Sprintf("| %s |\n", strings.Join(cells, " | ")) }

func (tb table) String() string {
	var b strings.Builder
	b.WriteString(line(tb.head))
	b.WriteString("|" + strings.Repeat("---|", len(tb.head)) + "\n")
	for _, row := range tb.rows {
		b.WriteString(line(row))
	}
	return b.String()
}

// isPartOf reports whether text holds these rows, where only some clients were run.
func (tb table) isPartOf(text string) bool {
	if len(tb.rows) == len(lookupClients)+len(connectClients) {
		return false
	}
	for line := range strings.Lines(tb.String()) {
		if !strings.Contains(text, line) {
			return false
		}
	}
	return true
}

// compare fails the test unless the document says what was seen; with -update it makes it so.
func (tb table) compare(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	place := regexp.MustCompile(`(?s)(<!-- ` + tb.marker + `:[^>]*-->\n\n).*?(\n<!-- end -->)`)
	found := place.FindStringSubmatch(string(text))
	if found == nil {
		t.Fatalf("%s has no place for table %q", document, tb.marker)
	}
	want := strings.TrimSuffix(strings.TrimPrefix(found[0], found[1]), found[2])
	if want == tb.String() || tb.isPartOf(want) {
		return
	}
	if *update && len(tb.rows) == len(lookupClients)+len(connectClients) {
		text = place.ReplaceAll(text, []byte("${1}"+tb.String()+"${2}"))
		if err := os.WriteFile(document, text, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("the clients of this machine do not do what table %q of %s says; -update rewrites it.\nseen:\n%s\nsaid:\n%s", tb.marker, document, tb, want)
}
