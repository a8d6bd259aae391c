// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/x509roots/fallback/bundle"
	"golang.org/x/sys/unix"
)

// file is a file or a directory of the image. All belong to root, so that the server, which does
// not run as root, can change none of them.
type file struct {
	name       string // relative to the root; a directory ends in a slash
	mode       int64  // permission bits
	content    []byte
	capability []byte // extended attribute security.capability, none if empty
}

func (f file) isDir() bool { return strings.HasSuffix(f.name, "/") }

const (
	nobody = 65532 // the user and group that the server runs as, CoreDNS' own image does too
	caFile = "etc/ssl/certs/ca-certificates.crt"
	users  = "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"
	groups = "root:x:0:\nnonroot:x:65532:\n"
)

// files returns what the image with b holds, sorted, every directory ahead of what is in it: the
// server, balancectl, and of what CoreDNS' own image has below it what a static server can read
// (certificates of issuers, time zones, names of users, a place for temporary files); and the
// licences.
func (r release) files(ctx context.Context, b built) ([]file, error) {
	zones, err := r.timeZones(ctx)
	if err != nil {
		return nil, err
	}
	plain := map[string][]byte{
		caFile:                               issuers(),
		"etc/passwd":                         []byte(users),
		"etc/group":                          []byte(groups),
		"usr/share/doc/balance/LICENSE":      b.texts.own,
		"usr/share/doc/balance/" + licencesF: b.texts.linked,
	}
	for name, zone := range zones {
		plain["usr/share/zoneinfo/"+name] = zone
	}
	all := []file{
		{name: "balancectl", mode: 0o755, content: b.ctl},
		{name: "coredns", mode: 0o755, content: b.server, capability: bindCapability()},
		{name: "tmp/", mode: 0o1777},
	}
	for name, content := range plain {
		all = append(all, file{name: name, mode: 0o644, content: content})
	}
	return withDirectories(all), nil
}

// withDirectories sorts files by name and adds the directories that they are in.
func withDirectories(all []file) []file {
	seen := map[string]bool{}
	for _, f := range all {
		seen[f.name] = true
	}
	for _, f := range slices.Clone(all) {
		for dir := path.Dir(strings.TrimSuffix(f.name, "/")); dir != "."; dir = path.Dir(dir) {
			if name := dir + "/"; !seen[name] {
				seen[name] = true
				all = append(all, file{name: name, mode: 0o755})
			}
		}
	}
	slices.SortFunc(all, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return all
}

// issuers returns the roots of Mozilla's programme as golang.org/x/crypto bundles them, in PEM. A
// root that Mozilla trusts for older certificates only is among them, as in Debian's package: PEM
// has no word for that.
func issuers() []byte {
	var text bytes.Buffer
	for root := range bundle.Roots() {
		// A buffer takes all.
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})
	}
	return text.Bytes()
}

// timeZones returns the time zone database that comes with Go, by name.
func (r release) timeZones(ctx context.Context) (map[string][]byte, error) {
	root, err := r.goRoot(ctx)
	if err != nil {
		return nil, err
	}
	database, err := zip.OpenReader(filepath.Join(root, "lib", "time", "zoneinfo.zip"))
	if err != nil {
		return nil, fmt.Errorf("time zones of Go: %w", err)
	}
	defer database.Close() //nolint:errcheck // only read
	zones := map[string][]byte{}
	for _, entry := range database.File {
		if entry.FileInfo().IsDir() {
			continue
		}
		if zones[entry.Name], err = unzip(entry); err != nil {
			return nil, fmt.Errorf("time zone %q of Go: %w", entry.Name, err)
		}
	}
	return zones, nil
}

func unzip(entry *zip.File) ([]byte, error) {
	r, err := entry.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // only read
	return io.ReadAll(r)
}

// goRoot returns where the Go is that compiles.
func (r release) goRoot(ctx context.Context) (string, error) {
	out, err := r.output(ctx, architectures[0], "env", "GOROOT")
	return strings.TrimSpace(string(out)), err
}

// bindCapability returns the value of security.capability that "setcap cap_net_bind_service=+ep"
// writes, a vfs_cap_data of revision 2 as in linux/capability.h: without it a server that is not
// root could not open port 53.
func bindCapability() []byte {
	const revision, effective = 0x02000000, 1
	permitted := uint32(1) << unix.CAP_NET_BIND_SERVICE
	var value []byte
	for _, word := range []uint32{revision | effective, permitted, 0, 0, 0} {
		value = binary.LittleEndian.AppendUint32(value, word)
	}
	return value
}

// writeFile writes a file for everybody to read; its directory is made if it is missing.
func writeFile(name string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil { //nolint:gosec // for everybody
		return err
	}
	return os.WriteFile(name, content, 0o644) //nolint:gosec // for everybody
}
