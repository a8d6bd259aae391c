// SPDX-License-Identifier: Apache-2.0

package test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-f1518d44/balance/internal/testserver"
)

// Every command that README.md and docs/ show is run, or is in unrunnable with the reason. Commands
// are the lines of blocks marked "sh", and those behind "$ " in other blocks. They are run where
// the files of examples are, one after the other, against a server with the Corefile that the
// document showed last before them, or with that of the demo. What the server logs is in
// coredns.log.

// runnable are the first words of commands that are run. They must succeed and print something,
// after a while at the latest.
var runnable = []string{"dig", "curl", "grep", "for", "balancectl", ".cache/balancectl", "coredns"}

// wordless commands are run too, and print nothing.
var wordless = []string{"echo", "kill -USR1"}

// unrunnable are beginnings of commands that no test can run, with the reason. Such a command is
// parsed, and the files of the tree and the flags of our own commands in it must exist.
var unrunnable = map[string]string{
	"make ":                        "takes long, or is what runs this test; its targets must exist",
	"kubectl ":                     "wants a cluster; what it applies is tried in test/kubernetes/manifests",
	"kubeadm ":                     "makes a cluster",
	"helm ":                        "wants a cluster; the values are tried in test/kubernetes/manifests",
	"sed 's/\\bloadbalance\\b/":    "changes what kubectl fetched",
	"docker ":                      "wants Docker; the image is tried in release/",
	"podman ":                      "wants an image that was made; it is tried in release/",
	"git ":                         "publishes",
	"openssl ":                     "wants OpenSSL, and makes random bytes",
	"sed -i '/^tsig:tsig/":         "wants CoreDNS' source tree; TestBuildWithPluginCfg does it",
	"go get github.com/seed-f1518": "likewise",
	"go generate && go build":      "likewise",
	".cache/soak ":                 "takes half an hour; make test-soak runs it",
	"sysctl ":                      "changes the machine",
	"aws ":                         "wants an account",
}

// ours are our own commands, by what starts them, with where they are.
var ours = map[string]string{".cache/balancectl": "cmd/balancectl", "balancectl": "cmd/balancectl", ".cache/soak": "tools/soak"}

// fenced is a block of a document.
type fenced struct{ at, kind, text string }

var fence = regexp.MustCompile("^( *)(~~~|```) *(\\w*)$")

// blocksOf returns the fenced blocks of a document.
func blocksOf(t *testing.T, path string) (all []fenced) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	indent, open := "", ""
	for i, line := range strings.Split(string(text), "\n") {
		m := fence.FindStringSubmatch(line)
		switch {
		case open != "" && strings.TrimSpace(line) == open:
			open = ""
		case open != "":
			all[len(all)-1].text += strings.TrimPrefix(line, indent) + "\n"
		case m != nil:
			indent, open = m[1], m[2]
			all = append(all, fenced{at: fmt.Sprintf("%s:%d", path, i+1), kind: m[3]})
		}
	}
	return all
}

// commands returns the commands in a block. One goes on where a line ends in a backslash or a pipe.
func (s fenced) commands() (all []string) {
	more := false
	for line := range strings.Lines(s.text) {
		command, prompted := strings.CutPrefix(line, "$ ")
		if !more && (s.kind != "sh" && !prompted || strings.TrimSpace(command) == "" || strings.HasPrefix(command, "#")) {
			continue
		}
		if more {
			all[len(all)-1] += command
		} else {
			all = append(all, command)
		}
		end := strings.TrimSpace(command)
		more = strings.HasSuffix(end, `\`) || strings.HasSuffix(end, "|")
	}
	return all
}

func startsWithOne(command string, words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(command, w+" ") })
}

func documents(t *testing.T) (paths []string) {
	t.Helper()
	for _, pattern := range []string{"README.md", "docs/*.md"} {
		found, err := filepath.Glob(filepath.Join("..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, found...)
	}
	return paths
}

// A new command in a document is run, or somebody has said why not.
func TestCommandsInTheDocuments(t *testing.T) {
	onlyWhole(t, "it runs programs that test/install installs")
	t.Parallel()
	for _, path := range documents(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			d := &document{t: t, blocks: blocksOf(t, path)}
			d.try()
		})
	}
}

func TestUnrunnableCommandsAreInADocument(t *testing.T) {
	used := map[string]bool{}
	for _, path := range documents(t) {
		for _, b := range blocksOf(t, path) {
			for _, command := range b.commands() {
				used[beginningOf(command)] = true
			}
		}
	}
	for beginning := range unrunnable {
		if !used[beginning] {
			t.Errorf("no document has a command that starts with %q: take it from the list", beginning)
		}
	}
}

// document is one whose commands are tried.
type document struct {
	t        *testing.T
	blocks   []fenced
	corefile string              // the last one shown, that of the demo before
	server   *testserver.Process // nil until a command wants it
	dir      string              // where it and the commands run
	ports    *strings.Replacer   // those that documents have, for those that are free here
	tree     string
}

func (d *document) try() {
	d.tree = ourModule(d.t)
	corefile, err := os.ReadFile(filepath.Join("..", "examples", "Corefile"))
	if err != nil {
		d.t.Fatal(err)
	}
	d.corefile = string(corefile)
	for _, b := range d.blocks {
		if b.kind == "corefile" {
			d.show(b.text)
			continue
		}
		for _, command := range b.commands() {
			if out, err := exec.Command("bash", "-n", "-c", command).CombinedOutput(); err != nil {
				d.t.Errorf("%s: %s", b.at, out)
			}
			d.exists(b.at, command)
			switch {
			case startsWithOne(command, runnable):
				d.run(b.at, command, true)
			case startsWithOne(command, wordless):
				d.run(b.at, command, false)
			case beginningOf(command) == "":
				d.t.Errorf("%s: nobody knows whether a test can run %q: see commands_test.go", b.at, command)
			}
		}
	}
	d.show("") // end the server
}

func beginningOf(command string) string {
	for beginning := range unrunnable {
		if strings.HasPrefix(command, beginning) {
			return beginning
		}
	}
	return ""
}

// show has the commands that follow ask a server with another Corefile.
func (d *document) show(corefile string) {
	if d.server != nil {
		if err := d.server.End(syscall.SIGTERM); err != nil {
			log, _ := os.ReadFile(filepath.Join(d.dir, "coredns.log"))
			d.t.Errorf("%v\nThe server's log:\n%s", err, log)
		}
		d.server = nil
	}
	d.corefile = corefile
}

// run runs a command until it succeeds.
func (d *document) run(at, command string, prints bool) {
	d.serve()
	command = strings.ReplaceAll(d.ports.Replace(command), ".cache/balancectl", "balancectl")
	var out []byte
	var err error
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	succeeded := false
	defer func() {
		if !succeeded {
			log, _ := os.ReadFile(filepath.Join(d.dir, "coredns.log"))
			d.t.Logf("%s: %s: %v\n%s\nThe server's log:\n%s", at, command, err, out, log)
		}
	}()
	eventually(d.t, command+" succeeds", func() bool {
		shell := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", command)
		shell.Dir, shell.Env = d.dir, append(os.Environ(), "PATH="+d.dir+"/bin:"+os.Getenv("PATH"))
		out, err = shell.CombinedOutput()
		succeeded = err == nil && (len(out) > 0) == prints
		return succeeded
	})
}

// serve starts the server that commands ask, with two of three backends, where the files of examples are.
func (d *document) serve() {
	if d.server != nil {
		return
	}
	web := freePort(d.t)
	d.ports = strings.NewReplacer("1053", freePort(d.t), "9153", freePort(d.t), "9154", freePort(d.t), "8181", freePort(d.t), "8081", web)
	d.dir = examplesTwice(d.t)
	for _, addr := range []string{"127.0.0.101", "127.0.0.103"} {
		d.t.Cleanup(serving(saying(200, "ok"))(d.t, addr+":"+web))
	}
	build(d.t, ourModule(d.t), filepath.Join(d.dir, "bin", "balancectl"), "./cmd/balancectl")
	self, err := os.Executable()
	if err != nil {
		d.t.Fatal(err)
	}
	d.script("coredns", "exec env "+serverEnv+"=1 "+self+` "$@"`)
	d.server = d.start()
	d.script("pidof", fmt.Sprintf("echo %d", d.server.Cmd.Process.Pid)) // no other CoreDNS of this machine is ours to reload
	eventually(d.t, "the server listens", func() bool {                 // before that a signal would end it
		c, err := net.Dial("tcp", "127.0.0.1:"+d.ports.Replace("1053"))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// start starts the server, whose output is in coredns.log.
func (d *document) start() *testserver.Process {
	port := d.ports.Replace("1053")
	corefile := pages.ReplaceAllString(d.corefile, "$1 127.0.0.1:9154$2") // where it is unless told otherwise
	corefile = onLoopback(d.ports.Replace(corefile), resolverOfTheNode(d.t))
	corefile = strings.ReplaceAll(corefile, ":0 {", ":"+port+" {")
	testserver.Write(d.t, filepath.Join(d.dir, "Corefile"), corefile)
	log, err := os.Create(filepath.Join(d.dir, "coredns.log"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(d.dir, "bin", "coredns"), "-conf", "Corefile", "-dns.port", port)
	cmd.Dir, cmd.Stdout, cmd.Stderr = d.dir, log, log
	return testserver.Start(d.t, cmd)
}

func (d *document) script(name, text string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, "bin", name), []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		d.t.Fatal(err)
	}
}

// examplesTwice returns a directory with the files of examples, in itself and in examples.
func examplesTwice(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, to := range []string{dir, filepath.Join(dir, "examples")} {
		if err := os.CopyFS(to, os.DirFS(filepath.Join("..", "examples"))); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var (
	targetsOfMake = regexp.MustCompile(`(?m)^([a-z-]+):`)
	ofTheTree     = regexp.MustCompile(`(?:^|[\s"'=])((?:deploy|examples|docs|release|test|tools|bench|cmd|internal|man)/[\w./-]*)`)
	flagsIn       = regexp.MustCompile(`\s-([a-z][a-z-]*)`)
)

// exists fails the test unless what a command names exists: targets and variables of make, files of the tree, flags of our own commands.
func (d *document) exists(at, command string) {
	d.t.Helper()
	for _, path := range ofTheTree.FindAllStringSubmatch(command, -1) {
		if _, err := os.Stat(filepath.Join(d.tree, path[1])); err != nil {
			d.t.Errorf("%s: %s: %v", at, command, err)
		}
	}
	text, _, _ := strings.Cut(command, " #")
	words := strings.Fields(text)
	if words[0] == "make" {
		d.targetsExist(at, words[1:])
	}
	if dir, ok := ours[words[0]]; ok {
		d.flagsExist(at, text, dir)
	}
}

func (d *document) targetsExist(at string, words []string) {
	makefile, err := os.ReadFile(filepath.Join(d.tree, "Makefile"))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, word := range words {
		name, _, isVariable := strings.Cut(word, "=")
		known := strings.Contains(string(makefile), "$("+name+")") || strings.Contains(string(makefile), name+" ")
		if !isVariable {
			known = slices.ContainsFunc(targetsOfMake.FindAllStringSubmatch(string(makefile), -1), func(m []string) bool { return m[1] == name })
		}
		if !known {
			d.t.Errorf("%s: make knows no %q", at, name)
		}
	}
}

func (d *document) flagsExist(at, command, dir string) {
	out := run(d.t, d.tree, "bash", "-c", "cat $(find "+dir+" -name '*.go')")
	for _, flag := range flagsIn.FindAllStringSubmatch(command, -1) {
		if !strings.Contains(out, fmt.Sprintf("%q", flag[1])) {
			d.t.Errorf("%s: %s has no flag -%s", at, dir, flag[1])
		}
	}
}
