// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"runtime/debug"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/github/go-spdx/v2/spdxexp"
)

// sbom returns what b's server is linked from, as CycloneDX 1.6 in JSON: its modules and Go's
// library as the binary itself names them, with their sums in go.sum, and the licences that were
// found.
func (r release) sbom(b built) ([]byte, error) {
	info, err := buildinfo.Read(bytes.NewReader(b.server))
	if err != nil {
		return nil, err
	}
	server := r.describe(b)
	std := cdx.Component{BOMRef: "std", Type: cdx.ComponentTypeLibrary, Name: "std", Version: info.GoVersion,
		PackageURL: "pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go"), Licenses: licences(b.texts.ids["std"])}
	components, needs := []cdx.Component{std}, []string{std.BOMRef}
	for _, m := range info.Deps {
		c, err := component(m, b.texts.ids[m.Path])
		if err != nil {
			return nil, err
		}
		components, needs = append(components, c), append(needs, c.BOMRef)
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Timestamp: r.when.Format("2006-01-02T15:04:05Z"), Component: &server}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: server.BOMRef, Dependencies: &needs}}
	var out bytes.Buffer
	err = cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6)
	return out.Bytes(), err
}

// describe is the server itself.
func (r release) describe(b built) cdx.Component {
	sum := sha256.Sum256(b.server)
	url := fmt.Sprintf("pkg:golang/github.com/seed-f1518d44/balance@%s?goarch=%s&goos=linux#cmd/coredns", r.version, b.arch)
	return cdx.Component{
		BOMRef: url, Type: cdx.ComponentTypeApplication, Name: "coredns-balance", Version: r.version, PackageURL: url,
		Hashes:   &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}},
		Licenses: licences([]string{"Apache-2.0"}),
	}
}

func component(m *debug.Module, ids []string) (cdx.Component, error) {
	if m.Replace != nil {
		return cdx.Component{}, fmt.Errorf("module %s is replaced by %s: want a release made of published modules", m.Path, m.Replace.Path)
	}
	url := "pkg:golang/" + m.Path + "@" + strings.ReplaceAll(m.Version, "+", "%2B")
	sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:"))
	if err != nil || len(sum) != sha256.Size {
		return cdx.Component{}, fmt.Errorf("sum of module %s is %q: want h1: and 32 bytes in base64", m.Path, m.Sum)
	}
	return cdx.Component{
		BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: url,
		Hashes:   &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum)}},
		Licenses: licences(ids),
	}, nil
}

// licences are ids as CycloneDX has them: SPDX's as identifiers, what else licensecheck knows as
// names.
func licences(ids []string) *cdx.Licenses {
	var all cdx.Licenses
	for _, id := range ids {
		l := cdx.License{Name: id}
		if valid, _ := spdxexp.ValidateLicenses([]string{id}); valid {
			l = cdx.License{ID: id}
		}
		all = append(all, cdx.LicenseChoice{License: &l})
	}
	return &all
}
