// SPDX-License-Identifier: Apache-2.0

// Package layout_test measures how the files of the plugin's own package refer to each other.
package layout_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// maxCycle is the most files of the root that may form one cycle of references. Lower it when you
// can; a change that needs it higher wants another place for what it adds.
const maxCycle = 22

// TestLargestCycle keeps the files of the root apart: a reader of one file has to know every file
// that shares a cycle with it. "go test -v ./internal/layout" prints the numbers.
func TestLargestCycle(t *testing.T) {
	references := referencesBetweenFiles(t, filepath.Join("..", ".."))
	largest := slices.MaxFunc(components(references), func(a, b []string) int { return len(a) - len(b) })
	slices.Sort(largest)
	t.Logf("%d files in the root, %d of them in the largest cycle:\n%s", len(references), len(largest), strings.Join(largest, " "))
	for _, from := range largest {
		t.Logf("%s: %s", from, strings.Join(within(references[from], largest), " "))
	}
	if len(largest) > maxCycle {
		t.Errorf("%d files form a cycle of references, more than %d", len(largest), maxCycle)
	}
}

// graph holds for each file the files that it refers to.
type graph map[string]map[string]bool

// within returns those of some files that are among others, sorted.
func within(files map[string]bool, others []string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(files)), func(file string) bool { return !slices.Contains(others, file) })
}

// referencesBetweenFiles type-checks the package in dir, without its tests. A file refers to
// another if it names a declaration of that: a function, type, variable, constant, method or field.
func referencesBetweenFiles(t *testing.T, dir string) graph {
	t.Helper()
	exports := exportData(t, dir)
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range exports.files {
		file, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	info := &types.Info{Uses: make(map[*ast.Ident]types.Object), Selections: make(map[*ast.SelectorExpr]*types.Selection)}
	config := types.Config{Importer: importer.ForCompiler(fset, "gc", exports.open)}
	root, err := config.Check(exports.path, fset, files, info)
	if err != nil {
		t.Fatal(err)
	}
	references := make(graph)
	nameOf := func(pos token.Pos) string { return filepath.Base(fset.Position(pos).Filename) }
	for _, file := range files {
		references[nameOf(file.Pos())] = make(map[string]bool)
	}
	for ident, object := range info.Uses {
		from, to := nameOf(ident.Pos()), nameOf(object.Pos())
		if object.Pkg() == root && !isLocal(object) && from != to {
			references[from][to] = true
		}
	}
	return references
}

// isLocal reports whether an object belongs to one function, or is a type parameter.
func isLocal(object types.Object) bool {
	if v, ok := object.(*types.Var); ok && v.IsField() {
		return false
	}
	if f, ok := object.(*types.Func); ok && f.Signature().Recv() != nil {
		return false
	}
	return object.Parent() != object.Pkg().Scope()
}

// exported is a package and where the compiler has what it imports.
type exported struct {
	path  string
	files []string
	at    map[string]string // export data by import path
}

// exportData has the package in dir compiled, which the build cache makes cheap.
func exportData(t *testing.T, dir string) exported {
	t.Helper()
	list := exec.Command("go", "list", "-pgo=off", "-export", "-deps", "-json=ImportPath,Export,DepOnly,GoFiles", ".")
	list.Dir, list.Stderr = dir, os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	e := exported{at: make(map[string]string)}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath, Export string
			DepOnly            bool
			GoFiles            []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return e
		} else if err != nil {
			t.Fatal(err)
		}
		e.at[p.ImportPath] = p.Export
		if !p.DepOnly {
			e.path, e.files = p.ImportPath, p.GoFiles
		}
	}
}

func (e exported) open(path string) (io.ReadCloser, error) { return os.Open(e.at[path]) }

// components returns the strongly connected components of a graph (Tarjan: Depth-first search and
// linear graph algorithms, SIAM Journal on Computing 1, 1972).
func components(g graph) (all [][]string) {
	s := search{graph: g, index: make(map[string]int), low: make(map[string]int)}
	for _, file := range slices.Sorted(maps.Keys(g)) {
		if s.index[file] == 0 {
			s.visit(file)
		}
	}
	return s.components
}

type search struct {
	graph      graph
	index, low map[string]int // index counts from 1
	stack      []string
	components [][]string
}

func (s *search) visit(file string) {
	s.index[file] = len(s.index) + 1
	s.low[file] = s.index[file]
	s.stack = append(s.stack, file)
	for to := range s.graph[file] {
		if s.index[to] == 0 {
			s.visit(to)
			s.low[file] = min(s.low[file], s.low[to])
		} else if slices.Contains(s.stack, to) {
			s.low[file] = min(s.low[file], s.index[to])
		}
	}
	if s.low[file] == s.index[file] {
		at := slices.Index(s.stack, file)
		s.components = append(s.components, slices.Clone(s.stack[at:]))
		s.stack = s.stack[:at]
	}
}
