// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	sumsF  = "SHA256SUMS"
	notesF = "NOTES.md"
)

// writeDist writes what goes with the image, and last the sums of all that is in out.
func (r release) writeDist(all []built) error {
	text, err := r.notes()
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(r.out, notesF), []byte(text+"\n")); err != nil {
		return err
	}
	for _, b := range all {
		if err := r.writeBuilt(b); err != nil {
			return fmt.Errorf("release for %s: %w", b.arch, err)
		}
	}
	return r.writeSums()
}

// writeBuilt writes what there is for one architecture.
func (r release) writeBuilt(b built) error {
	archive, err := r.archive(b)
	if err != nil {
		return err
	}
	sbom, err := r.sbom(b)
	if err != nil {
		return err
	}
	deb, err := r.deb(b)
	if err != nil {
		return err
	}
	for ending, content := range map[string][]byte{".tgz": archive, ".deb": deb, ".cdx.json": sbom, "_" + licencesF: b.texts.linked} {
		if err := writeFile(filepath.Join(r.out, r.name(b.arch)+ending), content); err != nil {
			return err
		}
	}
	return nil
}

// name is how the files for arch start; CoreDNS names its own likewise.
func (r release) name(arch string) string {
	return fmt.Sprintf("coredns-balance_%s_linux_%s", strings.TrimPrefix(r.version, "v"), arch)
}

// archive returns the server and its documents as a compressed tar. man/ is its only directory.
func (r release) archive(b built) ([]byte, error) {
	all := []file{
		{name: "balancectl", mode: 0o755, content: b.ctl},
		{name: "coredns", mode: 0o755, content: b.server},
		{name: licencesF, mode: 0o644, content: b.texts.linked},
	}
	readable, err := filepath.Glob(filepath.Join(r.tree, "man", "*.[1-8]"))
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"LICENSE", "README.md", "CHANGELOG.md"} {
		readable = append(readable, filepath.Join(r.tree, name))
	}
	for _, path := range readable {
		content, err := os.ReadFile(path) //nolint:gosec // ours
		if err != nil {
			return nil, err
		}
		name := strings.TrimPrefix(path, r.tree+string(filepath.Separator))
		all = append(all, file{name: filepath.ToSlash(name), mode: 0o644, content: content})
	}
	return layer(withDirectories(all), r.when)
}

// writeSums writes SHA256SUMS for everything in out, as sha256sum -c reads it.
func (r release) writeSums() error {
	entries, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, e := range entries {
		if e.Name() == sumsF {
			continue
		}
		content, err := os.ReadFile(filepath.Join(r.out, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(content), e.Name())
	}
	return writeFile(filepath.Join(r.out, sumsF), []byte(sums.String()))
}
