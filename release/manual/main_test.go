// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

const page = "../../man/coredns-balance.7"

func content(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What is installed with the server says what README.md says.
func TestPageIsUpToDate(t *testing.T) {
	want, err := manual(content(t, "../../README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if content(t, page) != want {
		t.Error("man/coredns-balance.7 is not what README.md says: run make man")
	}
}

// Groff finds no fault with the page, in any line of it, and man finds its name.
func TestPageRenders(t *testing.T) {
	out, err := exec.Command("groff", "-t", "-man", "-Tutf8", "-Kutf8", "-ww", "-z", page).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("groff: %v: %s", err, out)
	}
	out, err = exec.Command("lexgrog", page).CombinedOutput()
	if want := `"balance - decides which records of an answer a client gets, and in which order."`; err != nil || !strings.Contains(string(out), want) {
		t.Errorf("lexgrog: %v: %s, want %s", err, out, want)
	}
}

func TestManual(t *testing.T) {
	const readme = "# balance\n\n*A plugin.*\n\n## Quick start\n\n~~~ sh\nmake run\n~~~\n\n## Name\n\n*balance* - does it.\n\n" +
		"## See Also\n\nSee [Sticky](#sticky).\n\n~~~ txt\n## no [heading](#x)\n~~~\n\n| a | b |\n|---|---|\n| one | a text of more than twelve |\n"
	got, err := manual(readme)
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
	_, err := manual("# balance\n\n## Syntax\n")
	if want := `found "# balance\n\n## Syntax\n": want a title and a section "## Name"`; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}
