// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"debug/buildinfo"
	"debug/elf"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// setcap is what "setcap cap_net_bind_service=+ep" of libcap writes, as getfattr shows it.
const setcap = "0100000200040000000000000000000000000000"

// member is a file of a tar.
type member struct {
	*tar.Header
	content []byte
}

func untar(t *testing.T, r io.Reader) []member {
	t.Helper()
	var all []member
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, member{h, text})
	}
}

func imageFile(t *testing.T) string {
	t.Helper()
	return filepath.Join(dist(t), "coredns-balance_0.0.1-2-gabcdef0_image.tar")
}

// unpacked is the archive, read once for all tests.
var unpacked struct {
	sync.Mutex
	names  map[string]string // annotations in index.json
	index  v1.ImageIndex
	images map[string]v1.Image // by architecture
	layers map[string][]member // by architecture
}

// images returns the index in the archive, and the images that it lists, by architecture.
func images(t *testing.T) (v1.ImageIndex, map[string]v1.Image) {
	t.Helper()
	unpacked.Lock()
	defer unpacked.Unlock()
	if unpacked.index == nil {
		unpackArchive(t)
	}
	return unpacked.index, unpacked.images
}

func unpackArchive(t *testing.T) {
	t.Helper()
	dir := scratch(t)
	for _, m := range untar(t, bytes.NewReader(content(t, imageFile(t)))) {
		if m.Typeflag == tar.TypeReg {
			if err := writeFile(filepath.Join(dir, m.Name), m.content); err != nil {
				t.Fatal(err)
			}
		}
	}
	top, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest := manifestOf(t, top)
	if len(manifest.Manifests) != 1 || manifest.Manifests[0].MediaType != types.OCIImageIndex {
		t.Fatalf("index.json lists %+v, want one index", manifest.Manifests)
	}
	unpacked.names = manifest.Manifests[0].Annotations
	unpacked.images, unpacked.layers = map[string]v1.Image{}, map[string][]member{}
	index, err := top.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range manifestOf(t, index).Manifests {
		arch := d.Platform.Architecture
		if unpacked.images[arch], err = index.Image(d.Digest); err != nil {
			t.Fatal(err)
		}
		unpacked.layers[arch] = readLayer(t, unpacked.images[arch])
	}
	unpacked.index = index
}

func manifestOf(t *testing.T, index v1.ImageIndex) *v1.IndexManifest {
	t.Helper()
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	return manifest
}

func TestImageIndex(t *testing.T) {
	index, byArch := images(t)
	if err := validate.Index(index); err != nil {
		t.Errorf("digests and sizes: %v", err)
	}
	names := map[string]string{"org.opencontainers.image.ref.name": testVersion, "io.containerd.image.name": testImage + ":" + testVersion}
	if diff := cmp.Diff(names, unpacked.names); diff != "" {
		t.Errorf("names of the image (-want +got):\n%s", diff)
	}
	var platforms []string
	for _, d := range manifestOf(t, index).Manifests {
		platforms = append(platforms, d.Platform.String()+" "+string(d.MediaType))
	}
	want := []string{"linux/amd64 " + string(types.OCIManifestSchema1), "linux/arm64 " + string(types.OCIManifestSchema1)}
	if diff := cmp.Diff(want, platforms); diff != "" {
		t.Errorf("platforms (-want +got):\n%s", diff)
	}
	if len(byArch) != 2 {
		t.Errorf("%d images, want 2", len(byArch))
	}
}

// What a Deployment relies on: the user's numbers, the entry point, the directory, the ports.
func TestImageConfig(t *testing.T) {
	_, byArch := images(t)
	for arch, img := range byArch {
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		labels := config.Config.Labels
		config.Config.Labels = nil
		want := v1.Config{
			User:         "65532:65532",
			WorkingDir:   "/",
			Entrypoint:   []string{"/coredns"},
			Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"},
			ExposedPorts: map[string]struct{}{"53/tcp": {}, "53/udp": {}},
		}
		if diff := cmp.Diff(want, config.Config); diff != "" {
			t.Errorf("%s: config (-want +got):\n%s", arch, diff)
		}
		if config.OS != "linux" || config.Architecture != arch || !config.Created.Equal(testTime) {
			t.Errorf("%s: config is for %s/%s of %s, want linux of %s", arch, config.OS, config.Architecture, config.Created, testTime)
		}
		if v := labels["org.opencontainers.image.version"]; v != testVersion {
			t.Errorf("%s: label version is %q, want %q", arch, v, testVersion)
		}
	}
}

// The Dockerfile makes an image that is run in the same way.
func TestDockerfileSaysTheSame(t *testing.T) {
	dockerfile := string(content(t, "../Dockerfile"))
	config := release{}.config("amd64").Config
	want := []string{"USER " + config.User, "WORKDIR " + config.WorkingDir, "EXPOSE 53 53/udp", `ENTRYPOINT ["` + config.Entrypoint[0] + `"]`}
	for _, env := range config.Env {
		want = append(want, "ENV "+env)
	}
	_, last, _ := strings.Cut(dockerfile, "\nFROM scratch\n")
	for _, line := range want {
		if !slices.Contains(strings.Split(last, "\n"), line) {
			t.Errorf("no %q in the last stage of the Dockerfile", line)
		}
	}
}

// layerOf returns what the image for arch holds.
func layerOf(t *testing.T, arch string) []member {
	t.Helper()
	images(t)
	return unpacked.layers[arch]
}

func readLayer(t *testing.T, img v1.Image) []member {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	if len(layers) != 1 {
		t.Fatalf("%d layers, want 1", len(layers))
	}
	r, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return untar(t, r)
}

func find(t *testing.T, all []member, name string) member {
	t.Helper()
	i := slices.IndexFunc(all, func(m member) bool { return m.Name == name })
	if i < 0 {
		t.Fatalf("no %s in the layer", name)
	}
	return all[i]
}

// Nothing in the image can be changed by the user that the server runs as, and only the server has
// a capability.
func TestImageLayer(t *testing.T) {
	for _, arch := range architectures {
		all := layerOf(t, arch)
		for _, name := range []string{"tmp/", "etc/ssl/certs/", "etc/passwd", "usr/share/zoneinfo/Europe/Berlin",
			"usr/share/doc/balance/LICENSE", "usr/share/doc/balance/LICENSES.txt"} {
			find(t, all, name)
		}
		seen := map[string]bool{"./": true}
		for _, m := range all {
			checkMember(t, arch, m)
			if dir := filepath.Dir(strings.TrimSuffix(m.Name, "/")) + "/"; !seen[dir] {
				t.Errorf("%s: %s comes ahead of its directory", arch, m.Name)
			}
			seen[m.Name] = true
		}
	}
}

func checkMember(t *testing.T, arch string, m member) {
	t.Helper()
	mode, capability := int64(0o644), ""
	switch {
	case m.Name == "coredns":
		mode, capability = 0o755, setcap
	case m.Name == "balancectl":
		mode = 0o755
	case m.Name == "tmp/":
		mode = 0o1777
	case m.Typeflag == tar.TypeDir:
		mode = 0o755
	}
	if m.Mode != mode || m.Uid != 0 || m.Gid != 0 || !m.ModTime.Equal(testTime) || m.Typeflag != tar.TypeReg && m.Typeflag != tar.TypeDir {
		t.Errorf("%s: %s is of type %c, mode %o, owner %d:%d, time %s; want mode %o of 0:0, %s", arch, m.Name, m.Typeflag, m.Mode, m.Uid, m.Gid, m.ModTime, mode, testTime)
	}
	if got := hex.EncodeToString([]byte(m.PAXRecords[capabilityRecord])); got != capability {
		t.Errorf("%s: %s has capability %q, want %q", arch, m.Name, got, capability)
	}
	for record := range m.PAXRecords {
		if record != capabilityRecord {
			t.Errorf("%s: %s has record %q, want none", arch, m.Name, record)
		}
	}
}

// Plugins that speak TLS find issuers to trust.
func TestImageIssuers(t *testing.T) {
	text := find(t, layerOf(t, "amd64"), caFile).content
	var common []string
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if !c.IsCA {
			t.Errorf("%s is no issuer", c.Subject)
		}
		common = append(common, c.Subject.CommonName)
	}
	if len(common) < 100 || !slices.Contains(common, "ISRG Root X1") {
		t.Errorf("%d issuers, want at least 100 and ISRG Root X1 among them: %q", len(common), common)
	}
}

// The server needs nothing of the image: no loader, no library.
func TestImageServerIsStatic(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		server := find(t, layerOf(t, arch), "coredns").content
		file, err := elf.NewFile(bytes.NewReader(server))
		if err != nil {
			t.Fatal(err)
		}
		if file.Machine != machine {
			t.Errorf("%s: server is for %s, want %s", arch, file.Machine, machine)
		}
		if slices.ContainsFunc(file.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC }) {
			t.Errorf("%s: server is linked dynamically, want static", arch)
		}
		info, err := buildinfo.Read(bytes.NewReader(server))
		if err != nil {
			t.Fatal(err)
		}
		settings := map[string]string{}
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
		for key, want := range map[string]string{"CGO_ENABLED": "0", "-tags": "grpcnotrace", "-trimpath": "true", "GOARCH": arch} {
			if settings[key] != want {
				t.Errorf("%s: built with %s=%q, want %q", arch, key, settings[key], want)
			}
		}
	}
}

// CoreDNS' own version stands where scripts look for it, and behind it which balance this is.
func TestImageServerSaysWhichItIs(t *testing.T) {
	server := filepath.Join(t.TempDir(), "coredns")
	if err := os.WriteFile(server, find(t, layerOf(t, runtime.GOARCH), "coredns").content, 0o700); err != nil {
		t.Fatal(err)
	}
	version := strings.TrimSpace(command(t, "../", "go", "list", "-m", "-f", "{{.Version}}", "github.com/coredns/coredns"))
	want := "CoreDNS-" + strings.TrimPrefix(version, "v") + "\nlinux/" + runtime.GOARCH + ", " + runtime.Version() + ", balance-" + testVersion + "\n"
	if got := command(t, ".", server, "-version"); got != want {
		t.Errorf("-version says %q, want %q", got, want)
	}
	plugins := strings.Fields(command(t, ".", server, "-plugins"))
	for _, name := range []string{"balance", "kubernetes", "forward", "route53", "tls"} {
		if !slices.Contains(plugins, name) {
			t.Errorf("-plugins lists %q, want %s among them", plugins, name)
		}
	}
}
