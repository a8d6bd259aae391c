// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"time"
)

// schema is the JSON Schema of a document, with the keywords that ours use. One with an unknown
// keyword is refused, because that keyword would not be checked. Immutable once read.
type schema struct{ root map[string]any }

// keywords are those that a schema may have. Those of the second line say nothing about values.
var keywords = strings.Fields(`$ref type const enum minimum maximum format required items anyOf properties additionalProperties
	$schema $defs title description`)

// readSchema reads a schema from a file.
func readSchema(path string) (*schema, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the user's choice
	if err != nil {
		return nil, err
	}
	s := new(schema)
	if err := json.Unmarshal(text, &s.root); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, known(s.root, path)
}

// known returns an error if a schema has an unknown keyword.
func known(want any, path string) error {
	object, ok := want.(map[string]any)
	if !ok {
		return nil
	}
	for _, keyword := range slices.Sorted(maps.Keys(object)) {
		value := object[keyword]
		if !slices.Contains(keywords, keyword) {
			return fmt.Errorf("%s: unknown keyword %q: want one that the soak checks", path, keyword)
		}
		if keyword == "additionalProperties" && value != false {
			return fmt.Errorf("%s: additionalProperties: found %v: want false", path, value)
		}
		parts := listOf(value)
		if named, ok := value.(map[string]any); ok && (keyword == "properties" || keyword == "$defs") {
			parts = slices.Collect(maps.Values(named))
		}
		for _, part := range parts {
			if err := known(part, path+" "+keyword); err != nil {
				return err
			}
		}
	}
	return nil
}

// check says how a value differs from a schema.
func (s *schema) check(want, value any, path string) error {
	object, ok := want.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: no schema", path)
	}
	for keyword, wanted := range object {
		if err := s.checkKeyword(keyword, wanted, value, path); err != nil {
			return err
		}
	}
	return checkProperties(s, object, value, path)
}

// checkKeyword says how a value differs from a keyword.
func (s *schema) checkKeyword(keyword string, want, value any, path string) error {
	switch keyword {
	case "$ref":
		return s.check(s.referred(want), value, path)
	case "type":
		if !slices.ContainsFunc(listOf(want), func(t any) bool { return isA(value, t) }) {
			return fmt.Errorf("%s: found %v: want %v", path, value, want)
		}
	case "const", "enum":
		if !slices.Contains(listOf(want), value) {
			return fmt.Errorf("%s: found %v: want %v", path, value, want)
		}
	case "minimum":
		return atLeast(want, value, path)
	case "maximum":
		return atLeast(value, want, path)
	case "format": // date-time
		if text, ok := value.(string); ok {
			_, err := time.Parse(time.RFC3339Nano, text)
			return err
		}
	case "items":
		items, _ := value.([]any) //nolint:errcheck // no list, no items
		for i, item := range items {
			if err := s.check(want, item, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	case "anyOf":
		if !slices.ContainsFunc(listOf(want), func(one any) bool { return s.check(one, value, path) == nil }) {
			return fmt.Errorf("%s: found %v: want any of %v", path, value, want)
		}
	}
	return nil
}

// checkProperties says how an object's members differ from a schema.
func checkProperties(s *schema, want map[string]any, value any, path string) error {
	members, ok := value.(map[string]any)
	if !ok {
		return nil
	}
	required, _ := want["required"].([]any) //nolint:errcheck // nothing is, then
	for _, name := range required {
		if _, ok := members[fmt.Sprint(name)]; !ok {
			return fmt.Errorf("%s: no %v", path, name)
		}
	}
	properties, _ := want["properties"].(map[string]any) //nolint:errcheck // none, then
	for name, member := range members {
		wanted, ok := properties[name]
		switch {
		case ok:
			if err := s.check(wanted, member, path+"."+name); err != nil {
				return err
			}
		case want["additionalProperties"] == false:
			return fmt.Errorf("%s: %s is not in the schema", path, name)
		}
	}
	return nil
}

// referred returns the definition that a reference names.
func (s *schema) referred(reference any) any {
	definitions, _ := s.root["$defs"].(map[string]any) //nolint:errcheck // none, then
	return definitions[strings.TrimPrefix(fmt.Sprint(reference), "#/$defs/")]
}

// listOf returns a list, or one of a single value.
func listOf(value any) []any {
	if list, ok := value.([]any); ok {
		return list
	}
	return []any{value}
}

// isA reports whether a value has a type of JSON Schema.
func isA(value, name any) bool {
	switch value := value.(type) {
	case nil:
		return name == "null"
	case bool:
		return name == "boolean"
	case float64:
		return name == "number" || name == "integer" && value == math.Trunc(value)
	case string:
		return name == "string"
	case []any:
		return name == "array"
	}
	return name == "object"
}

// atLeast compares numbers; others are not compared.
func atLeast(least, value any, path string) error {
	l, ok := least.(float64)
	v, isNumber := value.(float64)
	if ok && isNumber && v < l {
		return fmt.Errorf("%s: found %v and %v: want the first to be at most the second", path, l, v)
	}
	return nil
}
