// SPDX-License-Identifier: Apache-2.0

package weights

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/seed-f1518d44/balance/internal/cidr"
	"github.com/seed-f1518d44/balance/internal/golden"
)

// Every file in testdata/files holds a weight file, a line of dashes, and what becomes of it.
func TestFiles(t *testing.T) {
	golden.Check(t, "testdata/files/*.txt", func(content string) string {
		n, err := Parse([]byte(content))
		if err != nil {
			return "error: weights.db:" + err.Error() + "\n"
		}
		return warnings(n) + describe("", n.Names) + describe("*.", n.Wildcards)
	})
}

// warnings writes the warnings of a file.
func warnings(f *File) string {
	var b strings.Builder
	for _, w := range f.Warnings {
		fmt.Fprintf(&b, "warning: weights.db:%s\n", w)
	}
	return b.String()
}

// asWritten spells a name as it may stand in a file, where a hash begins a comment.
var asWritten = strings.NewReplacer(`\ `, `\032`, "#", `\035`, "*", `\042`)

func describe(prefix string, lists map[string]*List) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(lists)) {
		fmt.Fprintf(&b, "%s\n", strings.Replace(prefix+asWritten.Replace(name), "*..", "*.", 1))
		for _, line := range lists[name].Lines() {
			fmt.Fprintf(&b, "    %s %s\n", cidr.Word(line.Targets), line.Text())
		}
	}
	return b.String()
}

// A weight file of 100,000 names with three addresses each fits into 60 MB.
func TestMemory(t *testing.T) {
	content := manyWeights(100000)
	before := heapBytes()
	n, err := Parse(content)
	if err != nil {
		t.Fatal(err)
	}
	used := heapBytes() - before
	t.Logf("%d names of 3 addresses, %d bytes of text: %d bytes in memory", len(n.Names), len(content), used)
	if used > 60_000_000 {
		t.Errorf("%d bytes in memory, want at most 60,000,000", used)
	}
	runtime.KeepAlive(content)
}

// heapBytes returns what the process keeps.
func heapBytes() int64 {
	runtime.GC()
	runtime.GC() // pools keep for one collection what others left in them
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// manyWeights returns a weight file with some names of three addresses each.
func manyWeights(names int) []byte {
	var b strings.Builder
	for i := range names {
		fmt.Fprintf(&b, "host-%d.example.org\n", i)
		for j := range 3 {
			fmt.Fprintf(&b, "10.%d.%d.%d %d\n", i>>16&255, i>>8&255, i&255^j<<6, 1+j)
		}
	}
	return []byte(b.String())
}

func BenchmarkParse(b *testing.B) {
	content := manyWeights(100000)
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(content); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range golden.Inputs(f, "testdata/files/*.txt") {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		n, err := Parse(content)
		if err != nil {
			var line int
			if _, scanErr := fmt.Sscanf(err.Error(), "%d: ", &line); scanErr != nil || line < 1 {
				t.Fatalf("the error names no line: %v", err)
			}
			return
		}
		// What was understood, written out, is understood the same.
		text := describe("", n.Names) + describe("*.", n.Wildcards)
		again, err := Parse([]byte(text))
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if got := describe("", again.Names) + describe("*.", again.Wildcards); got != text {
			t.Fatalf("became\n%s, was\n%s", got, text)
		}
	})
}
