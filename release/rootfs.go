// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// writeRootfs puts the files of the image for arch into dir, with owners, times and the capability,
// for a Dockerfile to copy: docker build has no other way to set a capability without a second
// base image that has setcap. It needs root.
func (r release) writeRootfs(ctx context.Context, arch, dir string) error {
	if !slices.Contains(architectures, arch) {
		return fmt.Errorf("architecture %q: want one of %q", arch, architectures)
	}
	b, err := r.build(ctx, arch)
	if err != nil {
		return err
	}
	files, err := r.files(ctx, b)
	if err != nil {
		return err
	}
	return r.writeFiles(dir, files)
}

// writeFiles makes dir, and files in it.
func (r release) writeFiles(dir string, files []file) error {
	if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // for everybody
		return err
	}
	for _, f := range files {
		if err := f.writeTo(dir); err != nil {
			return err
		}
	}
	// A directory's time changes with what is put into it.
	for _, f := range slices.Backward(files) {
		if err := os.Chtimes(filepath.Join(dir, f.name), r.when, r.when); err != nil {
			return err
		}
	}
	return os.Chtimes(dir, r.when, r.when)
}

// writeTo makes f below dir. The capability comes last: a new owner takes it away.
func (f file) writeTo(dir string) error {
	path := filepath.Join(dir, f.name)
	if err := f.create(path); err != nil {
		return err
	}
	if err := os.Chown(path, 0, 0); err != nil { //nolint:gosec // the caller's directory
		return err
	}
	if err := unix.Chmod(path, uint32(f.mode)); err != nil {
		return fmt.Errorf("mode of %s: %w", path, err)
	}
	if len(f.capability) == 0 {
		return nil
	}
	if err := unix.Setxattr(path, "security.capability", f.capability, 0); err != nil {
		return fmt.Errorf("capability of %s: %w", path, err)
	}
	return nil
}

func (f file) create(path string) error {
	if f.isDir() {
		return os.Mkdir(path, 0o755) //nolint:gosec // f's mode comes later
	}
	return os.WriteFile(path, f.content, 0o600) //nolint:gosec // the caller's directory
}
