// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-cmp/cmp"
)

const testName = "coredns-balance_0.0.1-2-gabcdef0_linux_"

// archives are those that unzipped has read.
var archives = map[string][]member{}

func unzipped(t *testing.T, path string) []member {
	t.Helper()
	if archives[path] != nil {
		return archives[path]
	}
	z, err := gzip.NewReader(bytes.NewReader(content(t, path)))
	if err != nil {
		t.Fatal(err)
	}
	archives[path] = untar(t, z)
	return archives[path]
}

// server is the binary of an archive, and its build info.
func server(t *testing.T, arch string) ([]byte, *buildinfo.BuildInfo) {
	t.Helper()
	binary := find(t, unzipped(t, filepath.Join(dist(t), testName+arch+".tgz")), "coredns").content
	info, err := buildinfo.Read(bytes.NewReader(binary))
	if err != nil {
		t.Fatal(err)
	}
	return binary, info
}

func TestDistHoldsAll(t *testing.T) {
	all := contents(t, dist(t))
	want := []string{
		"NOTES.md", "SHA256SUMS", "coredns-balance_0.0.1-2-gabcdef0_image.tar",
		testName + "amd64.cdx.json", testName + "amd64.deb", testName + "amd64.tgz", testName + "amd64_LICENSES.txt",
		testName + "arm64.cdx.json", testName + "arm64.deb", testName + "arm64.tgz", testName + "arm64_LICENSES.txt",
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(all))); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	changelog, err := sections(content(t, "../CHANGELOG.md"))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(all["NOTES.md"]); got != changelog[0].entries {
		t.Errorf("NOTES.md is %q, want what is unreleased in CHANGELOG.md", got)
	}
}

// Sums are checked by the tool that people have, and cover every file.
func TestSums(t *testing.T) {
	checked := strings.Count(command(t, dist(t), "sha256sum", "--strict", "-c", "SHA256SUMS"), ": OK\n")
	if want := len(contents(t, dist(t))) - 1; checked != want {
		t.Errorf("%d sums, want %d", checked, want)
	}
}

func TestArchive(t *testing.T) {
	for _, arch := range architectures {
		var names []string
		for _, m := range unzipped(t, filepath.Join(dist(t), testName+arch+".tgz")) {
			names = append(names, m.Name)
		}
		want := []string{"CHANGELOG.md", "LICENSE", "LICENSES.txt", "README.md", "balancectl", "coredns", "man/", "man/balancectl.1", "man/coredns-balance.7"}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("%s: files (-want +got):\n%s", arch, diff)
		}
		binary, _ := server(t, arch)
		if !bytes.Equal(binary, find(t, layerOf(t, arch), "coredns").content) {
			t.Errorf("%s: another server in the archive than in the image", arch)
		}
	}
}

// The SBOM lists the modules of the binary, no more and no less, each with its sum and a licence.
func TestSBOM(t *testing.T) {
	for _, arch := range architectures {
		binary, info := server(t, arch)
		bom := new(cdx.BOM)
		if err := cdx.NewBOMDecoder(bytes.NewReader(content(t, filepath.Join(dist(t), testName+arch+".cdx.json"))), cdx.BOMFileFormatJSON).Decode(bom); err != nil {
			t.Fatal(err)
		}
		want := []string{"std " + info.GoVersion}
		for _, m := range info.Deps {
			want = append(want, m.Path+" "+m.Version)
		}
		var got []string
		for _, c := range *bom.Components {
			got = append(got, c.Name+" "+c.Version)
			if c.Licenses == nil || len(*c.Licenses) == 0 {
				t.Errorf("%s: %s has no licence", arch, c.Name)
			}
			if c.Name != "std" && (c.Hashes == nil || len(*c.Hashes) != 1) {
				t.Errorf("%s: %s has no sum", arch, c.Name)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: modules (-binary +SBOM):\n%s", arch, diff)
		}
		if len(got) < 100 {
			t.Errorf("%s: %d modules, want those of a CoreDNS with every plugin", arch, len(got))
		}
		sum := sha256.Sum256(binary)
		server := bom.Metadata.Component
		if (*server.Hashes)[0].Value != hex.EncodeToString(sum[:]) || server.Version != testVersion {
			t.Errorf("%s: SBOM is for %s %s with sum %s, want %s %x", arch, server.Name, server.Version, (*server.Hashes)[0].Value, testVersion, sum)
		}
		if needs := *(*bom.Dependencies)[0].Dependencies; len(needs) != len(got) {
			t.Errorf("%s: the server needs %d modules, want %d", arch, len(needs), len(got))
		}
	}
}

// Every module that is linked has its licence, in words and by name.
func TestLicences(t *testing.T) {
	for _, arch := range architectures {
		_, info := server(t, arch)
		text := string(content(t, filepath.Join(dist(t), testName+arch+"_LICENSES.txt")))
		for _, m := range info.Deps {
			if !strings.Contains(text, "\n"+m.Path+": ") || !strings.Contains(text, "\n"+m.Path+" "+m.Version+": ") {
				t.Errorf("%s: no licence of %s %s", arch, m.Path, m.Version)
			}
		}
		for _, known := range []string{"\nstd: BSD-3-Clause", "\ngithub.com/coredns/coredns: Apache-2.0\n", "\ngithub.com/hashicorp/errwrap: MPL-2.0\n", "TERMS AND CONDITIONS FOR USE"} {
			if !strings.Contains(text, known) {
				t.Errorf("%s: no %q", arch, known)
			}
		}
	}
}

// A module that nobody may hand on stops a release.
func TestLicencesUnknown(t *testing.T) {
	dir := t.TempDir()
	if err := writeFile(filepath.Join(dir, "LICENSE"), []byte("All rights reserved. You may look at it.\n")); err != nil {
		t.Fatal(err)
	}
	c := collection{ids: map[string]map[string]bool{}, owners: map[string][]string{}, read: map[string]bool{}}
	if err := c.add("example.org/closed", "v1.0.0", dir, dir); err != nil {
		t.Fatal(err)
	}
	want := `no known licence in ["example.org/closed"]: want one for every module that is linked`
	if err := c.check(); err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}
