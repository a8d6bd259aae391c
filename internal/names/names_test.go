// SPDX-License-Identifier: Apache-2.0

package names

import "testing"

func TestSpell(t *testing.T) {
	for name, want := range map[string]string{
		"www.example.org":      "www.example.org.",
		"WWW.Example.ORG.":     "www.example.org.",
		"":                     ".",
		".":                    ".",
		`\097.example.org`:     "a.example.org.",
		`\065.example.org`:     "a.example.org.",
		`a\.b.example.org`:     `a\.b.example.org.`,
		`a\046b.example.org`:   `a\.b.example.org.`,
		`a b.example.org`:      `a\ b.example.org.`,
		`a\032b.example.org`:   `a\ b.example.org.`,
		`bücher.example.org`:   `b\195\188cher.example.org.`,
		`a..example.org`:       `a..example.org.`, // no domain name
		"192.0.2.1":            "192.0.2.1.",
		`*.example.org`:        "*.example.org.",
		`\042.example.org`:     "*.example.org.",
		`a@b\;c.example.org`:   `a\@b\;c.example.org.`,
		`a\"b\(c.example.org.`: `a\"b\(c.example.org.`,
	} {
		if got := Spell(name); got != want {
			t.Errorf("Spell(%q) = %q, want %q", name, got, want)
		}
		if got := Spell(Spell(name)); got != want {
			t.Errorf("Spell(Spell(%q)) = %q, want %q", name, got, want)
		}
	}
}

func TestSame(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"www.example.org.", "www.example.org.", true},
		{"WWW.example.org.", "www.EXAMPLE.org.", true},
		{"www.example.org.", "ww.example.org.", false},
		{"www.example.org.", "wwx.example.org.", false},
	} {
		if got := Same(c.a, c.b); got != c.want {
			t.Errorf("Same(%q, %q) = %t, want %t", c.a, c.b, got, c.want)
		}
	}
}

func TestInZone(t *testing.T) {
	for _, c := range []struct {
		name, zone string
		want       bool
	}{
		{"www.example.org.", ".", true},
		{".", ".", true},
		{"example.org.", "example.org.", true},
		{"www.EXAMPLE.org.", "example.org.", true},
		{"www.example.org.", "www.example.org.", true},
		{"wwwexample.org.", "example.org.", false},
		{"org.", "example.org.", false},
		{"example.com.", "example.org.", false},
		{`www\.example.org.`, "example.org.", false}, // one label
		{`www\\.example.org.`, "example.org.", true}, // a label that ends in a backslash
		{`www\\\.example.org.`, "example.org.", false},
	} {
		if got := InZone(c.name, c.zone); got != c.want {
			t.Errorf("InZone(%q, %q) = %t, want %t", c.name, c.zone, got, c.want)
		}
	}
}
