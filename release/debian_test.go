// SPDX-License-Identifier: Apache-2.0

package main

import (
	"debug/elf"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDebVersion(t *testing.T) {
	versions := []string{"8ccf3bd", "v0.1.0-rc.1", "v0.1.0-rc.1-2-gabcdef0", "v0.1.0", "v0.1.0-3-gabcdef0", "v0.1.0-12-g0123456-dirty", "v0.1.1"}
	for i, v := range versions[1:] {
		before, after := debVersion(versions[i]), debVersion(v)
		if out, err := exec.Command("dpkg", "--compare-versions", before, "lt", after).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s is not before %s: %v %s", before, after, err, out)
		}
	}
}

// The package has what it says, as dpkg reads it, and balancectl is static and small.
func TestDebianPackage(t *testing.T) {
	for _, arch := range architectures {
		path := filepath.Join(dist(t), testName+arch+".deb")
		got := strings.TrimSpace(command(t, ".", "dpkg-deb", "--show", "--showformat", "${Package} ${Version} ${Architecture} ${Conflicts}", path))
		if want := "coredns-balance 0.0.1+2.gabcdef0 " + arch + " coredns"; got != want {
			t.Errorf("it is %q, want %q", got, want)
		}
		root := scratch(t)
		command(t, ".", "dpkg-deb", "--raw-extract", path, root)
		var names []string
		for line := range strings.Lines(command(t, root, "find", ".", "-type", "f", "-printf", "%m %P\n")) {
			names = append(names, strings.TrimSpace(line))
		}
		for _, want := range []string{
			"755 usr/bin/coredns", "755 usr/bin/balancectl", "644 lib/systemd/system/coredns.service", "644 etc/coredns/Corefile",
			"644 usr/share/man/man7/coredns-balance.7", "644 usr/share/man/man1/balancectl.1", "644 usr/share/doc/coredns-balance/copyright",
			"644 usr/share/bash-completion/completions/balancectl", "755 DEBIAN/postinst",
		} {
			if !strings.Contains("\n"+strings.Join(names, "\n")+"\n", "\n"+want+"\n") {
				t.Errorf("no %q in %q", want, names)
			}
		}
		if diff := cmp.Diff("/etc/coredns/Corefile\n", string(content(t, filepath.Join(root, "DEBIAN", "conffiles")))); diff != "" {
			t.Errorf("conffiles (-want +got):\n%s", diff)
		}
		checkControl(t, filepath.Join(root, "usr", "bin", "balancectl"))
	}
}

func checkControl(t *testing.T, path string) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if libraries, err := f.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("balancectl needs %q, %v: want a static program", libraries, err)
	}
	const most = 15 << 20
	if size := len(content(t, path)); size > most {
		t.Errorf("balancectl has %d bytes, want at most %d", size, most)
	}
}

// systemd takes the unit; that its program is not installed here is no fault of it.
func TestUnit(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("no systemd here")
	}
	out, _ := exec.Command("systemd-analyze", "verify", "--man=no", "debian/coredns.service").CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, "is not executable") {
			t.Error(line)
		}
	}
}
