// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// writeImage writes the image for every architecture into one OCI archive in out.
func (r release) writeImage(ctx context.Context, all []built) error {
	var images []mutate.IndexAddendum
	for _, b := range all {
		files, err := r.files(ctx, b)
		if err != nil {
			return err
		}
		img, err := r.imageOf(files, b.arch)
		if err != nil {
			return fmt.Errorf("image for %s: %w", b.arch, err)
		}
		images = append(images, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: platform(b.arch)}})
	}
	index := mutate.IndexMediaType(mutate.AppendManifests(empty.Index, images...), types.OCIImageIndex)
	index = mutate.Annotations(index, r.labels()).(v1.ImageIndex)
	return r.writeArchive(index)
}

// platform is arch as images name it. Every arm64 is a v8, and registries leave that out.
func platform(arch string) *v1.Platform { return &v1.Platform{OS: "linux", Architecture: arch} }

// imageOf makes an image of one layer. What it runs and as whom are as in CoreDNS' own image, so
// that it takes that one's place in a Deployment as it is.
func (r release) imageOf(files []file, arch string) (v1.Image, error) {
	content, err := layer(files, r.when)
	if err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	img, err := mutate.ConfigFile(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), r.config(arch))
	if err != nil {
		return nil, err
	}
	return mutate.Append(img, mutate.Addendum{Layer: l, History: v1.History{Created: v1.Time{Time: r.when}, CreatedBy: "release image"}})
}

func (r release) config(arch string) *v1.ConfigFile {
	return &v1.ConfigFile{
		OS:           "linux",
		Architecture: arch,
		Created:      v1.Time{Time: r.when},
		RootFS:       v1.RootFS{Type: "layers"},
		Config: v1.Config{
			User:         fmt.Sprintf("%d:%d", nobody, nobody),
			WorkingDir:   "/",
			Entrypoint:   []string{"/coredns"},
			Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SSL_CERT_FILE=/" + caFile},
			ExposedPorts: map[string]struct{}{"53/tcp": {}, "53/udp": {}},
			Labels:       r.labels(),
		},
	}
}

func (r release) labels() map[string]string {
	labels := map[string]string{
		"org.opencontainers.image.title":       "coredns-balance",
		"org.opencontainers.image.description": "CoreDNS with every stock plugin and balance",
		"org.opencontainers.image.source":      "https://github.com/seed-f1518d44/balance",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     r.version,
		"org.opencontainers.image.created":     r.when.Format("2006-01-02T15:04:05Z"),
	}
	if r.revision != "" {
		labels["org.opencontainers.image.revision"] = r.revision
	}
	return labels
}

// writeArchive writes an OCI layout with this one index as a tar. It names the image twice, for
// containerd reads another annotation than everybody else.
func (r release) writeArchive(index v1.ImageIndex) error {
	tag, err := name.NewTag(r.image+":"+r.version, name.StrictValidation)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "balance-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	if err := path.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": r.version,
		"io.containerd.image.name":          tag.String(),
	})); err != nil {
		return err
	}
	out := filepath.Join(r.out, r.imageArchive())
	r.progress("%s holds %s", out, tag)
	return r.tarDirectory(dir, out)
}

// imageArchive is the name of the file that holds the image.
func (r release) imageArchive() string {
	return fmt.Sprintf("coredns-balance_%s_image.tar", strings.TrimPrefix(r.version, "v"))
}

// tarDirectory writes what is in dir as a tar, in the order of names and all of one time and owner.
func (r release) tarDirectory(dir, out string) error {
	var content bytes.Buffer
	t := tar.NewWriter(&content)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		return r.tarFile(t, dir, path, entry)
	})
	if err := cmp.Or(err, t.Close()); err != nil {
		return err
	}
	return writeFile(out, content.Bytes())
}

func (r release) tarFile(t *tar.Writer, dir, path string, entry fs.DirEntry) error {
	name, err := filepath.Rel(dir, path)
	if err != nil {
		return err
	}
	f := file{name: filepath.ToSlash(name), mode: 0o644}
	if entry.IsDir() {
		f.name, f.mode = f.name+"/", 0o755
	} else if f.content, err = os.ReadFile(path); err != nil { //nolint:gosec // ours
		return err
	}
	if err := t.WriteHeader(f.header(r.when)); err != nil {
		return err
	}
	_, err = t.Write(f.content)
	return err
}
