// SPDX-License-Identifier: Apache-2.0

package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/testserver"
)

// run runs a command and returns what it prints.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	out, err := command(t, dir, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func command(t *testing.T, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return cmd
}

// build is how the Makefile builds; its cache serves this, too.
func build(t *testing.T, dir, binary, pkg string) {
	t.Helper()
	run(t, dir, "go", "build", "-p", "2", "-tags", "grpcnotrace", "-trimpath", "-o", binary, pkg)
}

func ourModule(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// The way that most users will take: the line in plugin.cfg as the README has it, after tsig.
func TestBuildWithPluginCfg(t *testing.T) {
	onlyWhole(t, "it builds a CoreDNS")
	t.Parallel()
	source := strings.TrimSpace(run(t, ourModule(t), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/coredns/coredns"))
	tree := filepath.Join(t.TempDir(), "coredns")
	if err := os.CopyFS(tree, os.DirFS(source)); err != nil {
		t.Fatal(err)
	}
	run(t, tree, "chmod", "-R", "u+w", ".") // the module cache is read-only
	run(t, tree, "sed", "-i", "/^tsig:tsig/a balance:github.com/seed-f1518d44/balance", "plugin.cfg")
	run(t, tree, "go", "run", "directives_generate.go")
	run(t, tree, "go", "mod", "edit", "-require=github.com/seed-f1518d44/balance@v0.0.0", "-replace=github.com/seed-f1518d44/balance="+ourModule(t))
	run(t, tree, "go", "get", "github.com/seed-f1518d44/balance@v0.0.0")

	directives, err := os.ReadFile(filepath.Join(tree, "core", "dnsserver", "zdirectives.go"))
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`"tsig",\s*"balance",\s*"rewrite",`).Match(directives) {
		t.Errorf("balance does not stand between tsig and rewrite:\n%s", directives)
	}
	binary := filepath.Join(tree, "coredns")
	build(t, tree, binary, ".")
	if plugins := strings.Fields(run(t, tree, binary, "-plugins")); !slices.Contains(plugins, "balance") {
		t.Errorf("plugins are %q, want balance among them", plugins)
	}
	db := "file " + zone(t, "example.org.", threeAs)
	p := testserver.Serve(t, binary, func(port string) string { return blockOf("example.org:"+port, "balance", "cache", db) })
	follows(t, threeSorted, leadsOf(p, 7))
	p.End()
	if strings.Contains(p.Log.String(), "plugin/balance") {
		t.Errorf("a warning about the place in plugin.cfg: %s", p.Log.String())
	}
}

func TestOurOwnBinary(t *testing.T) {
	onlyWhole(t, "it builds a CoreDNS")
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "coredns")
	build(t, ourModule(t), binary, "./cmd/coredns")
	db := "file " + zone(t, "example.org.", threeAs)

	t.Run("rotates and reloads", func(t *testing.T) {
		p := testserver.Serve(t, binary, func(port string) string { return blockOf("example.org:"+port, "balance", db) })
		order := leadsOf(p, 7)
		p.Reload(blockOf("example.org:"+p.Port, "balance {\n ttl 7\n }", db), "Reloading complete")
		order = append(order, leadsOf(p, 4)...)
		p.Reload(blockOf("example.org:"+p.Port, "balance {\n ttl seven\n }", db), "Restart failed")
		order = append(order, leadsOf(p, 4)...)
		follows(t, threeSorted, order)
		if ttl := p.Client.Ask(query("www.example.org.", dns.TypeA)).Answer[0].Header().Ttl; ttl != 7 {
			t.Errorf("TTL is %d, want 7: the last good Corefile stays in force", ttl)
		}
		p.End()
	})
	t.Run("refuses a bad Corefile", func(t *testing.T) {
		corefile := file(t, "Corefile", blockOf("example.org:"+freePort(t), "balance {\n policy fastest\n }", db))
		out, err := command(t, ".", binary, "-conf", corefile).CombinedOutput()
		if err == nil {
			t.Errorf("no exit status, want one")
		}
		want := "plugin/balance: " + corefile + `:4: policy: unknown policy "fastest": want `
		if !strings.Contains(string(out), want) {
			t.Errorf("it says %q, want %q", out, want)
		}
	})
}

// leadsOf returns who leads the next answers of a process.
func leadsOf(p *testserver.Server, n int) (order []string) {
	for range n {
		order = append(order, members(p.Client.Ask(query("www.example.org.", dns.TypeA)), dns.TypeA)[0])
	}
	return order
}
