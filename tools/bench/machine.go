// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Machine is the computer of a run.
type Machine struct {
	Processor  string
	Processors int
	ServerOn   int // the number of the server's processor
	ClientOn   int
	Hypervisor bool
	Kernel     string
	System     string
	Go         string
	Commit     string
	Load       string            // averages when the run began
	Versions   map[string]string // of what is installed, by program
}

// versionCommands print the version of a program, on the line that has the word.
var versionCommands = []struct {
	program, word string
	arguments     []string
}{
	{"dnsperf", "Version", []string{"-h"}},
	{"gdnsd", "version", []string{"-h"}},
	{"pdns_server", "Server", []string{"--version"}},
	{"named", "BIND", []string{"-v"}},
}

// examine describes this machine.
func examine(o *Options, cpus processors) Machine {
	m := Machine{ServerOn: cpus.server, ClientOn: cpus.client, Processors: runtime.NumCPU(), Go: runtime.Version(), Versions: make(map[string]string)}
	m.Processor = valueIn("/proc/cpuinfo", "model name", ":")
	m.Hypervisor = strings.Contains(valueIn("/proc/cpuinfo", "flags", ":"), " hypervisor")
	m.System = strings.Trim(valueIn("/etc/os-release", "PRETTY_NAME", "="), `"`)
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load = strings.Join(strings.Fields(string(load))[:3], " ")
	}
	m.Commit = printed("", "git", "describe", "--always", "--dirty")
	m.Versions["coredns"] = printed("CoreDNS", o.CoreDNS, "-version")
	for _, v := range versionCommands {
		if _, err := exec.LookPath(v.program); err == nil {
			m.Versions[v.program] = printed(v.word, v.program, v.arguments...)
		}
	}
	return m
}

// valueIn returns the value of a key in a file of lines, "" if the key is not there.
func valueIn(file, key, separator string) string {
	f, err := os.Open(file) //nolint:gosec // one of two
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // only read
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if k, v, ok := strings.Cut(lines.Text(), separator); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// printed returns the first line with a word that a program prints.
func printed(word, program string, arguments ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, program, arguments...).CombinedOutput() //nolint:gosec // from our table; some exit with 1
	for line := range strings.Lines(string(out)) {
		if i := strings.Index(line, word); i >= 0 {
			return strings.TrimSpace(line[i:])
		}
	}
	return ""
}

// services of the packages in test/packages, which would share the processors.
var services = []string{"gdnsd", "pdns", "named"}

// refuseServices returns an error if a service of a peer's package runs.
func refuseServices() error {
	if _, err := exec.LookPath("systemctl"); err != nil {
		return nil //nolint:nilerr // no services then
	}
	for _, s := range services {
		if exec.Command("systemctl", "is-active", "--quiet", s).Run() == nil { //nolint:gosec // from our list
			return fmt.Errorf("service %s runs and would share the processors: end it (systemctl disable --now %s)", s, s)
		}
	}
	return nil
}
