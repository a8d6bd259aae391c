// SPDX-License-Identifier: Apache-2.0

package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"
)

// corefiles returns the Corefiles that a document shows, by where they stand.
func corefiles(t *testing.T, path string) map[string]string {
	t.Helper()
	if !strings.HasSuffix(path, ".md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return map[string]string{path: string(text)}
	}
	found := map[string]string{}
	for _, b := range blocksOf(t, path) {
		if b.kind == "corefile" {
			found[b.at] = b.text
		}
	}
	return found
}

var (
	ports  = regexp.MustCompile(`(?m)^([^\s#{}][^{#\n]*?):\d+(\s*\{|\s+[^{\n]*\{)`)
	pages  = regexp.MustCompile(`(?m)^(\s+status)(\s+#|$)`)
	blocks = regexp.MustCompile(`(?m)^([^\s#(].*\{)$`)
)

// onPort returns a Corefile whose status page, if it has one, is on a free port.
func onPort(t *testing.T, corefile string) string {
	t.Helper()
	return pages.ReplaceAllString(corefile, "$1 127.0.0.1:"+freePort(t)+"$2")
}

// documented is the address of the resolver that the documents forward to.
const documented = "192.0.2.53"

// onLoopback returns a Corefile with ports of the system's choice, on 127.0.0.1, that forwards to
// another resolver than the documented one.
func onLoopback(corefile, resolver string) string {
	corefile = strings.ReplaceAll(corefile, "forward . "+documented, "forward . "+resolver)
	corefile = ports.ReplaceAllString(corefile, "$1:0$2")
	if strings.Contains(corefile, " bind ") {
		return corefile
	}
	return blocks.ReplaceAllString(corefile, "$1\n    bind 127.0.0.1")
}

// Every Corefile that a user may copy starts. The files that they name are those in examples.
func TestEveryCorefileInTheDocumentsStarts(t *testing.T) {
	documents := []string{filepath.Join("..", "examples", "Corefile")}
	for _, pattern := range []string{"*.md", filepath.Join("docs", "*.md"), filepath.Join("examples", "*.md")} {
		paths, err := filepath.Glob(filepath.Join("..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, paths...)
	}
	shown := map[string]string{}
	for _, path := range documents {
		for at, corefile := range corefiles(t, path) {
			shown[at] = corefile
		}
	}
	examples := t.TempDir()
	if err := os.CopyFS(examples, os.DirFS(filepath.Join("..", "examples"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(geoipDatabase(t), filepath.Join(examples, "GeoLite2-City.mmdb")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(examples)
	t.Setenv("PROBE_INTERVAL", "2s") // of docs/recipes.md
	defaultPort := dnsserver.Port
	dnsserver.Port = "0"
	t.Cleanup(func() { dnsserver.Port = defaultPort })
	resolver := resolverOfTheNode(t)
	for at, corefile := range shown {
		t.Run(at, func(t *testing.T) {
			if out, status := checkText(t, corefile); status != 0 {
				t.Errorf("balancectl check: %s", out)
			}
			if strings.Contains(corefile, "kubernetes ") {
				serveInCluster(t, corefile, newCluster(t), resolver)
				return
			}
			start(t, onLoopback(onPort(t, corefile), resolver))
		})
	}
}
