// SPDX-License-Identifier: Apache-2.0

package status

import (
	"bytes"
	"encoding/json"
	"iter"
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/seed-f1518d44/balance/internal/testserver"
)

// A real server's documents fit the schema in every state. The schema allows only what it names, so
// that a new field needs a line in it.
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
	s.waitFor(`"up":3`, `"down":3`, `"fail_open"`, `"all_failing":true`, `"fleet":{"name":"east"`, `"votes":{`)
	fits("in use")
	f.kill(1)
	testserver.Write(t, s.overrides, f.addr(0)+" drain until 2099-12-01T00:00:00Z # disk swap\n")
	s.waitFor(`connection refused`, `"disk swap"`)
	fits("with a backend down and an override")
	testserver.Write(t, s.overrides, "nonsense\n")
	s.waitFor(`"kind":"file"`)
	fits("with a broken file")
}

// Every field in the schema has a description.
func TestEveryFieldIsDescribed(t *testing.T) {
	var schema any
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "status.schema.json"))
	if err == nil {
		err = json.Unmarshal(raw, &schema)
	}
	if err != nil {
		t.Fatal(err)
	}
	fields := 0
	for name, field := range fieldsOf(schema) {
		fields++
		if field["description"] == nil {
			t.Errorf("docs/status.schema.json does not say what %s is", name)
		}
	}
	if fields < 40 {
		t.Errorf("%d fields, want all of the schema", fields)
	}
}

// fieldsOf returns every property in a schema, by name.
func fieldsOf(node any) iter.Seq2[string, map[string]any] {
	return func(yield func(string, map[string]any) bool) {
		object, _ := node.(map[string]any)
		properties, _ := object["properties"].(map[string]any)
		for name, property := range properties {
			if !yield(name, property.(map[string]any)) {
				return
			}
		}
		for _, child := range object {
			for name, property := range fieldsOf(child) {
				if !yield(name, property) {
					return
				}
			}
		}
	}
}
