// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
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
	p := serve(t, binary, func(port string) string { return blockOf("example.org:"+port, "balance", "cache", db) })
	follows(t, threeSorted, p.leads(t, 7))
	p.end(t)
	if strings.Contains(p.log.String(), "plugin/balance") {
		t.Errorf("a warning about the place in plugin.cfg: %s", p.log.String())
	}
}

func TestOurOwnBinary(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "coredns")
	build(t, ourModule(t), binary, "./cmd/coredns")
	db := "file " + zone(t, "example.org.", threeAs)

	t.Run("rotates and reloads", func(t *testing.T) {
		p := serve(t, binary, func(port string) string { return blockOf("example.org:"+port, "balance", db) })
		order := p.leads(t, 7)
		p.reload(t, blockOf("example.org:"+p.port, "balance {\n ttl 7\n }", db), "Reloading complete")
		order = append(order, p.leads(t, 4)...)
		p.reload(t, blockOf("example.org:"+p.port, "balance {\n ttl seven\n }", db), "Restart failed")
		order = append(order, p.leads(t, 4)...)
		follows(t, threeSorted, order)
		if ttl := p.client.ask(query("www.example.org.", dns.TypeA)).Answer[0].Header().Ttl; ttl != 7 {
			t.Errorf("TTL is %d, want 7: the last good Corefile stays in force", ttl)
		}
		p.end(t)
	})
	t.Run("refuses a bad Corefile", func(t *testing.T) {
		corefile := file(t, "Corefile", blockOf("example.org:"+freePort(t), "balance {\n policy fastest\n }", db))
		out, err := command(t, ".", binary, "-conf", corefile).CombinedOutput()
		if err == nil {
			t.Errorf("no exit status, want one")
		}
		want := "plugin/balance: " + corefile + `:4 - Error during parsing: policy: unknown policy "fastest": want `
		if !strings.Contains(string(out), want) {
			t.Errorf("it says %q, want %q", out, want)
		}
	})
}

// process is a CoreDNS in a process of its own, with one client.
type process struct {
	cmd      *exec.Cmd
	corefile string
	port     string
	client   *client
	log      *logbook
}

// serve starts a binary on a free port and waits until it answers.
func serve(t *testing.T, binary string, corefile func(port string) string) *process {
	t.Helper()
	p := &process{port: freePort(t), log: new(logbook)}
	p.corefile = file(t, "Corefile", corefile(p.port))
	p.cmd = command(t, filepath.Dir(p.corefile), binary, "-conf", p.corefile)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.cmd.Process.Kill() // in case the test ended early
		p.cmd.Wait()
	})
	// A socket that asked before anybody listens has got an error to show.
	eventually(t, "the process serves", func() bool {
		c := dial(t, "udp", "127.0.0.1:"+p.port, "")
		_, err := c.tryAsk(query("www.example.org.", dns.TypeA))
		p.client = c
		return err == nil
	})
	return p
}

// leads returns who leads the next answers.
func (p *process) leads(t *testing.T, n int) (order []string) {
	t.Helper()
	for range n {
		order = append(order, members(p.client.ask(query("www.example.org.", dns.TypeA)), dns.TypeA)[0])
	}
	return order
}

// reload replaces the Corefile and waits for the log to say how that went.
func (p *process) reload(t *testing.T, corefile, says string) {
	t.Helper()
	if err := os.WriteFile(p.corefile, []byte(corefile), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	eventually(t, says, func() bool { return strings.Contains(p.log.String(), says) })
}

// end asks the process to end and waits until it has.
func (p *process) end(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(patience, func() { p.cmd.Process.Kill() }).Stop()
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, p.log.String())
	}
}

// logbook is a buffer that can be read while a process writes to it. Safe for concurrent use.
type logbook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
