// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// pages are made of documents.
var pages = []struct{ name, section, document, whatis string }{
	{"coredns-balance", "7", "README.md", "balance - decides which records of an answer a client gets, and in which order."},
	{"balancectl", "1", "docs/balancectl.md", "balancectl - shows what balance does, checks its files, and takes members out of the answers."},
}

func content(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What is installed with the server says what the documents say.
func TestPagesAreUpToDate(t *testing.T) {
	for _, p := range pages {
		want, err := manual(p.name, p.section, content(t, "../../"+p.document))
		if err != nil {
			t.Fatal(err)
		}
		if content(t, "../../man/"+p.name+"."+p.section) != want {
			t.Errorf("man/%s.%s is not what %s says: run make man", p.name, p.section, p.document)
		}
	}
}

// Groff finds no fault with the pages, in any line of them, and man finds their names.
func TestPagesRender(t *testing.T) {
	for _, p := range pages {
		path := "../../man/" + p.name + "." + p.section
		out, err := exec.Command("groff", "-t", "-man", "-Tutf8", "-Kutf8", "-ww", "-z", path).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("groff: %v: %s", err, out)
		}
		out, err = exec.Command("lexgrog", path).CombinedOutput()
		if err != nil || !strings.Contains(string(out), `"`+p.whatis+`"`) {
			t.Errorf("lexgrog: %v: %s, want %q", err, out, p.whatis)
		}
	}
}

func TestManual(t *testing.T) {
	const readme = "# balance\n\n*A plugin.*\n\n## Quick start\n\n~~~ sh\nmake run\n~~~\n\n## Name\n\n*balance* - does it.\n\n" +
		"## See Also\n\nSee [Sticky](#sticky).\n\n~~~ txt\n## no [heading](#x)\n~~~\n\n| a | b |\n|---|---|\n| one | a text of more than twelve |\n"
	got, err := manual("coredns-balance", "7", readme)
	if err != nil {
		t.Fatal(err)
	}
	const want = `'\" t
.nh
.nr HY 0
.TH "COREDNS-BALANCE" "7" "" "CoreDNS" "CoreDNS Plugins"
.ad l
.SH NAME
\fIbalance\fP \- does it.

.SH SEE ALSO
See \fBSticky\fP\&.

.EX
## no [heading](#x)
.EE

.TS
allbox;
l lx.
T{
a
T}	T{
b
T}
T{
one
T}	T{
a text of more than twelve
T}
.TE
`
	if got != want {
		t.Errorf("the page is\n%s\nwant\n%s", got, want)
	}
}

func TestReadmeWithoutAName(t *testing.T) {
	_, err := manual("coredns-balance", "7", "# balance\n\n## Syntax\n")
	if want := `found "# balance\n\n## Syntax\n": want a title and a section "## Name"`; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}
