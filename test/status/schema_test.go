// SPDX-License-Identifier: Apache-2.0

package status

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// What a real server says is what the schema says, whatever state it is in; and the schema allows nothing
// that it does not name, so that a field more is a line more in the schema.
func TestTheDocumentFitsItsSchema(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join("..", "..", "docs", "status.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	f := newFarm(t)
	s := start(t, f)
	fits := func(when string) {
		t.Helper()
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(s.raw()))
		if err == nil {
			err = schema.Validate(document)
		}
		if err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	fits("new")
	s.use(4)
	s.waitFor(`"up":3`, `"down":3`, `"fail_open"`, `"all_failing":true`)
	fits("in use")
	f.kill(1)
	write(t, s.overrides, f.addr(0)+" drain until 2099-12-01T00:00:00Z # disk swap\n")
	s.waitFor(`connection refused`, `"disk swap"`)
	fits("with a backend down and an override")
	write(t, s.overrides, "nonsense\n")
	s.waitFor(`"kind":"file"`)
	fits("with a broken file")
}

// Every field of the schema is explained in docs/status.md.
func TestEveryFieldIsDocumented(t *testing.T) {
	var schema any
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "status.schema.json"))
	if err == nil {
		err = json.Unmarshal(raw, &schema)
	}
	if err != nil {
		t.Fatal(err)
	}
	document, err := os.ReadFile(filepath.Join("..", "..", "docs", "status.md"))
	if err != nil {
		t.Fatal(err)
	}
	fields := fieldsOf(schema)
	if len(fields) < 40 {
		t.Fatalf("%d fields, want all of the schema", len(fields))
	}
	for _, field := range fields {
		if !regexp.MustCompile("`[a-z.\\[\\]]*" + field + "`").Match(document) {
			t.Errorf("docs/status.md does not say what %s is", field)
		}
	}
}

// fieldsOf returns the names of all properties in a schema.
func fieldsOf(node any) (fields []string) {
	switch node := node.(type) {
	case map[string]any:
		for key, value := range node {
			if properties, ok := value.(map[string]any); ok && key == "properties" {
				for name := range properties {
					fields = append(fields, strings.TrimSpace(name))
				}
			}
			fields = append(fields, fieldsOf(value)...)
		}
	case []any:
		for _, value := range node {
			fields = append(fields, fieldsOf(value)...)
		}
	}
	return fields
}
