// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // the format
	"github.com/goreleaser/nfpm/v2/files"
)

// deb returns the Debian package for an architecture: the server as a service that is not enabled,
// balancectl with its completions, and the manual pages.
func (r release) deb(b built) ([]byte, error) {
	dir, err := os.MkdirTemp("", "balance-deb-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	contents, err := r.debContents(b, dir)
	if err != nil {
		return nil, err
	}
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "coredns-balance", Arch: b.arch, Platform: "linux", Version: debVersion(r.version), VersionSchema: "none",
		Section: "net", Priority: "optional", Maintainer: "the authors of balance <balance@localhost>",
		Homepage: "https://github.com/seed-f1518d44/balance", License: "Apache-2.0", MTime: r.when,
		Description: "CoreDNS with the plugin balance\nA DNS server with every stock plugin of CoreDNS, and one that balances load:\nround robin, weights, health checks and failover.",
		Overridables: nfpm.Overridables{
			Conflicts: []string{"coredns"}, Provides: []string{"coredns"}, Replaces: []string{"coredns"}, Contents: contents,
			Scripts: nfpm.Scripts{PostInstall: r.debian("postinst"), PreRemove: r.debian("prerm"), PostRemove: r.debian("postrm")},
		},
	})
	packager, err := nfpm.Get("deb")
	if err != nil {
		return nil, err
	}
	if err := nfpm.PrepareForPackager(info, "deb"); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = packager.Package(info, &out)
	return out.Bytes(), err
}

// debian is the path of a file that only the package has.
func (r release) debian(name string) string {
	return filepath.Join(r.tree, "release", "debian", name)
}

// debContents writes what is made into dir, and returns all that the package holds.
func (r release) debContents(b built, dir string) (files.Contents, error) {
	made := map[string][]byte{"coredns": b.server, "balancectl": b.ctl, licencesF: b.texts.linked}
	for name, content := range made {
		if err := writeFile(filepath.Join(dir, name), content); err != nil {
			return nil, err
		}
	}
	const doc = "/usr/share/doc/coredns-balance/"
	all := files.Contents{
		r.debFile(filepath.Join(dir, "coredns"), "/usr/bin/coredns", 0o755),
		r.debFile(filepath.Join(dir, "balancectl"), "/usr/bin/balancectl", 0o755),
		r.debFile(filepath.Join(dir, licencesF), doc+licencesF, 0o644),
		r.debFile(r.debian("coredns.service"), "/lib/systemd/system/coredns.service", 0o644),
		r.debFile(r.debian("Corefile"), "/etc/coredns/Corefile", 0o644),
		r.debFile(filepath.Join(r.tree, "LICENSE"), doc+"copyright", 0o644),
		r.debFile(filepath.Join(r.tree, "CHANGELOG.md"), doc+"CHANGELOG.md", 0o644),
		r.debFile(filepath.Join(r.tree, "README.md"), doc+"README.md", 0o644),
		r.debFile(r.debian("completion"), "/usr/share/bash-completion/completions/balancectl", 0o644),
		r.debFile(r.debian("completion"), "/usr/share/zsh/vendor-completions/_balancectl", 0o644),
	}
	all[4].Type = files.TypeConfigNoReplace
	pages, err := filepath.Glob(filepath.Join(r.tree, "man", "*.[1-8]"))
	for _, page := range pages {
		section := strings.TrimPrefix(filepath.Ext(page), ".")
		all = append(all, r.debFile(page, "/usr/share/man/man"+section+"/"+filepath.Base(page), 0o644))
	}
	return all, err
}

func (r release) debFile(source, destination string, mode os.FileMode) *files.Content {
	return &files.Content{
		Source: source, Destination: destination,
		FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: mode, MTime: r.when},
	}
}

var describedVersion = regexp.MustCompile(`^(.*)-(\d+)-(g[0-9a-f]+)(-dirty)?$`)

// debVersion spells a version so that dpkg sorts it: candidates come before their release, and what
// "git describe" says comes after the tag that it starts with.
func debVersion(version string) string {
	version = strings.TrimPrefix(version, "v")
	after := ""
	if m := describedVersion.FindStringSubmatch(version); m != nil {
		version, after = m[1], fmt.Sprintf("+%s.%s", m[2], m[3])
	}
	if !strings.Contains(version, ".") { // a commit alone
		return "0~" + strings.ReplaceAll(version, "-", ".") + after
	}
	return strings.ReplaceAll(strings.Replace(version, "-", "~", 1), "-", ".") + after
}
