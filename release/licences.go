// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

const (
	licencesF = "LICENSES.txt"
	// recognised is the least share of a licence file, in percent, that must be the words of a
	// known licence; the rest is names, years and notices.
	recognised = 60.0
)

var (
	licenceName = regexp.MustCompile(`(?i)^(UN)?LICEN[CS]E|^COPYING`)
	noticeName  = regexp.MustCompile(`(?i)^(NOTICE|PATENTS|COPYRIGHT)`)
)

// texts are the licences of a binary. Immutable once made.
type texts struct {
	own    []byte              // that of balance
	linked []byte              // those of everything that is linked, for people
	ids    map[string][]string // SPDX identifiers by path of the module, "std" for Go's own
}

// source is what a binary is linked from: a package, and the module that it belongs to.
type source struct {
	Dir      string
	Standard bool
	Module   *struct {
		Path, Version, Dir string
		Main               bool
	}
}

// texts collects the licences of all that is linked for arch: of every package the files in its
// directory and those above it, up to its module's. A module without a licence that is known is an
// error, for then it must not be handed on.
func (r release) texts(ctx context.Context, arch string) (texts, error) {
	sources, err := r.sources(ctx, arch)
	if err != nil {
		return texts{}, err
	}
	root, err := r.goRoot(ctx)
	if err != nil {
		return texts{}, err
	}
	c := collection{ids: map[string]map[string]bool{}, owners: map[string][]string{}, read: map[string]bool{}}
	errs := []error{c.add("std", runtime.Version(), root, root)}
	for _, s := range sources {
		if s.Module != nil && !s.Standard {
			errs = append(errs, c.add(s.Module.Path, s.Module.Version, s.Dir, s.Module.Dir))
		}
	}
	if err := errors.Join(append(errs, c.check())...); err != nil {
		return texts{}, err
	}
	own, err := os.ReadFile(filepath.Join(r.tree, "LICENSE"))
	return texts{own: own, linked: c.text(), ids: c.sorted()}, err
}

// sources asks Go what the binary is linked from.
func (r release) sources(ctx context.Context, arch string) ([]source, error) {
	out, err := r.output(ctx, arch, "list", "-deps", "-json=Dir,Standard,Module", "-tags", tags, "./cmd/coredns", "./cmd/balancectl")
	if err != nil {
		return nil, err
	}
	var sources []source
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var s source
		if err := d.Decode(&s); errors.Is(err, io.EOF) {
			return sources, nil
		} else if err != nil {
			return nil, fmt.Errorf("what go list says: %w", err)
		}
		sources = append(sources, s)
	}
}

// collection gathers licences.
type collection struct {
	ids    map[string]map[string]bool // identifiers by module
	owners map[string][]string        // by text, whose it is: most modules share few texts
	read   map[string]bool            // directories, by module and path
}

// add reads the licences for a package in dir of the module in root.
func (c collection) add(module, version, dir, root string) error {
	if c.ids[module] == nil {
		c.ids[module] = map[string]bool{}
	}
	for ; !c.read[module+" "+dir]; dir = filepath.Dir(dir) {
		c.read[module+" "+dir] = true
		if err := c.addDirectory(module, version, dir, root); err != nil {
			return err
		}
		if dir == root || !strings.HasPrefix(dir, root) {
			return nil
		}
	}
	return nil
}

func (c collection) addDirectory(module, version, dir, root string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		isLicence := licenceName.MatchString(e.Name())
		if !e.Type().IsRegular() || filepath.Ext(e.Name()) == ".go" || !isLicence && !noticeName.MatchString(e.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name())) //nolint:gosec // of the module cache
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		c.owners[string(text)] = append(c.owners[string(text)], strings.TrimSpace(module+" "+version)+": "+filepath.ToSlash(name))
		if isLicence {
			c.identify(module, text)
		}
	}
	return nil
}

// identify notes which licences a text is.
func (c collection) identify(module string, text []byte) {
	found := licensecheck.Scan(text)
	if found.Percent < recognised {
		return
	}
	for _, m := range found.Match {
		c.ids[module][m.ID] = true
	}
}

// check returns an error that names the modules without a known licence.
func (c collection) check() error {
	var without []string
	for module, ids := range c.ids {
		if len(ids) == 0 {
			without = append(without, module)
		}
	}
	if len(without) == 0 {
		return nil
	}
	slices.Sort(without)
	return fmt.Errorf("no known licence in %q: want one for every module that is linked", without)
}

func (c collection) sorted() map[string][]string {
	ids := map[string][]string{}
	for module, of := range c.ids {
		ids[module] = slices.Sorted(maps.Keys(of))
	}
	return ids
}

// text writes all down: which module has which licences, and then every text once, with its owners.
func (c collection) text() []byte {
	var out strings.Builder
	out.WriteString("CoreDNS with balance is linked from these modules (std is Go's own library), under these licences:\n\n")
	ids := c.sorted()
	for _, module := range slices.Sorted(maps.Keys(ids)) {
		fmt.Fprintf(&out, "%s: %s\n", module, strings.Join(ids[module], ", "))
	}
	var blocks []string
	for text, owners := range c.owners {
		slices.Sort(owners)
		blocks = append(blocks, "\n"+strings.Repeat("=", 80)+"\n"+strings.Join(owners, "\n")+"\n"+strings.Repeat("-", 80)+"\n"+text)
	}
	slices.Sort(blocks)
	out.WriteString(strings.Join(blocks, "\n"))
	return []byte(out.String())
}
