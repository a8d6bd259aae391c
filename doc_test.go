// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The package comment says where things are, and forgets no file.
func TestPackageCommentNamesEveryFile(t *testing.T) {
	content, err := os.ReadFile("plugin.go")
	must(t, err)
	comment, _, _ := strings.Cut(string(content), "\npackage balance\n")
	files, err := filepath.Glob("*.go")
	must(t, err)
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") && !strings.Contains(comment, file) {
			t.Errorf("plugin.go: the package comment does not say what %s is for", file)
		}
	}
}
