// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/coredns/coredns/coremain"

	"github.com/seed-f1518d44/balance/internal/statuspage"
)

// process is this process as the page shows it. Safe for concurrent use.
type process struct {
	host      string
	directory string
	started   time.Time

	mu       sync.Mutex
	up       bool // a server came up
	reloaded time.Time
	failed   bool // the last reload
}

var thisProcess = newProcess()

func newProcess() *process {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	directory, _ := os.Getwd() // "" if it was removed
	return &process{host: host, directory: directory, started: time.Now()}
}

// versions names CoreDNS, and balance if it is a module of the build. A build of cmd/coredns has
// the version of balance as its commit.
func versions() string {
	all := []string{coremain.CoreName + "-" + coremain.CoreVersion}
	if coremain.GitCommit != "" {
		all = append(all, coremain.GitCommit)
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "github.com/seed-f1518d44/balance" {
				all = append(all, "balance-"+module.Version)
			}
		}
	}
	return strings.Join(all, " ")
}

// cameUp notes that a server serves: after the first one, a reload that succeeded.
func (p *process) cameUp(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.up {
		p.reloaded, p.failed = now, false
	}
	p.up = true
}

// isUp reports whether a server came up: what starts now is a reload.
func (p *process) isUp() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up
}

// reloadFailed notes that a reload failed.
func (p *process) reloadFailed(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reloaded, p.failed = now, true
}

// shown returns the process as the page shows it.
func (p *process) shown() statuspage.Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	shown := statuspage.Process{
		Host: p.host, Version: versions(), Directory: p.directory,
		Started: p.started.UTC(), ReloadFailed: p.failed,
	}
	if !p.reloaded.IsZero() {
		shown.Reloaded = new(p.reloaded.UTC())
	}
	return shown
}
