// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

const (
	tags = "grpcnotrace" // CoreDNS' own
	// CoreDNS prints this variable behind its version and Go's, and has it in coredns_build_info.
	stamp = "github.com/coredns/coredns/coremain.GitCommit"
)

// wantedGo returns the Go that releases are made with, as "go1.26.8": what .go-version says.
func wantedGo(tree string) (string, error) {
	version, err := os.ReadFile(filepath.Join(tree, ".go-version")) //nolint:gosec // ours
	return "go" + strings.TrimSpace(string(version)), err
}

// checkGo returns an error if this is not the Go of the tree: another one makes other bytes.
func checkGo(tree string) error {
	want, err := wantedGo(tree)
	if err != nil {
		return err
	}
	if runtime.Version() != want {
		return fmt.Errorf("this is %s: want %s, as .go-version says; GOTOOLCHAIN=%s fetches it", runtime.Version(), want, want)
	}
	return nil
}

// goCommand is the go command in the tree, for Linux on arch. Nothing of the caller's settings that
// changes what comes out is left in its environment.
func (r release) goCommand(ctx context.Context, arch string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // ours
	cmd.Dir = r.tree
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN="+runtime.Version(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1",
		"GOARM64=v8.0", "GOFIPS140=off", "GOWORK=off", "GOFLAGS=-mod=readonly")
	return cmd
}

// output runs the go command and returns what it prints; an error has its complaints.
func (r release) output(ctx context.Context, arch string, args ...string) ([]byte, error) {
	cmd := r.goCommand(ctx, arch, args...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(complaints.Bytes()))
	}
	return out, nil
}

// compile returns a command for Linux on arch, built as CoreDNS builds its releases: static,
// stripped, without paths of this machine. The commit is stamped by hand and not by Go, so that a
// tree without its git directory, as in docker build, gives the same bytes.
func (r release) compile(ctx context.Context, arch, command string) ([]byte, error) {
	r.progress("%s for %s", command, arch)
	dir, err := os.MkdirTemp("", "balance-release-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	binary := filepath.Join(dir, command)
	if _, err := r.output(ctx, arch, "build", "-tags", tags, "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -X "+stamp+"=balance-"+r.version, "-o", binary, "./cmd/"+command); err != nil {
		return nil, err
	}
	return os.ReadFile(binary) //nolint:gosec // ours
}

// built is what was compiled for one architecture, and the licences of what it is linked from.
type built struct {
	arch   string
	server []byte
	ctl    []byte // balancectl
	texts  texts
}

func (r release) build(ctx context.Context, arch string) (built, error) {
	texts, err := r.texts(ctx, arch)
	if err != nil {
		return built{}, err
	}
	server, err := r.compile(ctx, arch, "coredns")
	if err != nil {
		return built{}, err
	}
	ctl, err := r.compile(ctx, arch, "balancectl")
	return built{arch, server, ctl, texts}, err
}

// buildAll builds for every architecture.
func (r release) buildAll(ctx context.Context) ([]built, error) {
	var all []built
	for _, arch := range architectures {
		b, err := r.build(ctx, arch)
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return all, nil
}
