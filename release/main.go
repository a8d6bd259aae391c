// SPDX-License-Identifier: Apache-2.0

// Command release makes what a release of balance consists of, from the source tree it is run in:
//
//	release image        the container image for every architecture, as one OCI archive
//	release dist         that, an archive with the binary for every architecture, an SBOM and the
//	                     licences of all that is linked for each, the notes and the checksums
//	release rootfs ARCH DIR   the files of the image of one architecture in DIR, which must not be there
//	                     yet; Linux and root only, for a Dockerfile
//
// The same tree, version, time and Go make the same bytes, wherever and whenever. A file a concept:
// compile.go the binary, files.go what the image holds, layer.go and image.go the image, rootfs.go
// the same in a directory, dist.go, sbom.go, licences.go and changelog.go the rest.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

// architectures are those of a release, all of them for Linux.
var architectures = []string{"amd64", "arm64"}

// release is what all that is made has in common. Immutable once made.
type release struct {
	tree     string    // root of the source tree
	out      string    // directory for what is made
	version  string    // as git describe has it: "v0.1.0", or "v0.1.0-3-gabcdef0" between releases
	revision string    // commit, or empty if it is not known
	image    string    // name of the image, without a tag
	when     time.Time // time of everything that is made
	log      io.Writer // for progress
}

// flags reads the command line; it returns the command and its arguments too.
func flags(args []string) (release, []string, error) {
	r := release{log: os.Stderr}
	set := flag.NewFlagSet("release", flag.ContinueOnError)
	set.StringVar(&r.tree, "tree", "..", "root of the source tree")
	set.StringVar(&r.out, "out", "../dist", "directory for what is made")
	set.StringVar(&r.version, "version", "", "version to stamp, as v0.1.0")
	set.StringVar(&r.revision, "revision", "", "commit that the tree is at")
	set.StringVar(&r.image, "image", "localhost/coredns-balance", "name of the image, without a tag")
	epoch := set.Int64("epoch", 0, "time of all that is made, in seconds since 1970")
	if err := set.Parse(args); err != nil {
		return r, nil, err
	}
	r.when = time.Unix(*epoch, 0).UTC()
	if r.version == "" {
		return r, nil, errors.New("no -version: want one, as v0.1.0")
	}
	var err error
	r.tree, err = filepath.Abs(r.tree)
	return r, set.Args(), err
}

func run(ctx context.Context, args []string) error {
	r, command, err := flags(args)
	if err != nil {
		return err
	}
	if err := checkGo(r.tree); err != nil {
		return err
	}
	return r.make(ctx, command)
}

// make does what command says.
func (r release) make(ctx context.Context, command []string) error {
	if len(command) == 3 && command[0] == "rootfs" {
		return r.writeRootfs(ctx, command[1], command[2])
	}
	if len(command) != 1 || command[0] != "image" && command[0] != "dist" {
		return fmt.Errorf("command %q: want image, dist or rootfs ARCH DIR", command)
	}
	if command[0] == "dist" { // before the work
		if _, err := r.notes(); err != nil {
			return err
		}
	}
	all, err := r.buildAll(ctx)
	if err != nil {
		return err
	}
	if err := r.writeImage(ctx, all); err != nil || command[0] == "image" {
		return err
	}
	return r.writeDist(all)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// progress tells a person what is under way.
func (r release) progress(format string, args ...any) {
	_, _ = fmt.Fprintf(r.log, "release: "+format+"\n", args...)
}
