// SPDX-License-Identifier: Apache-2.0

package text

import (
	"strings"
	"testing"
)

func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"für":                     "für",
		"a\nb\t\x1b[2J":           `a\nb\t\x1b[2J`,
		"\u202e\xff":              `\u202e` + "\ufffd",
		strings.Repeat("x", 2000): strings.Repeat("x", MaxLine) + "...",
	} {
		if got := OneLine(text); got != want {
			t.Errorf("%.40q became %.40q, want %.40q", text, got, want)
		}
	}
}

func TestUnknown(t *testing.T) {
	allowed := []string{"up", "down", "drain"}
	for word, want := range map[string]string{
		"dwon":     `unknown override "dwon": want up, down or drain; did you mean "down"?`,
		"DRAIN":    `unknown override "DRAIN": want up, down or drain; did you mean "drain"?`,
		"drain-it": `unknown override "drain-it": want up, down or drain; did you mean "drain"?`,
		"sideways": `unknown override "sideways": want up, down or drain`,
	} {
		if got := Unknown("override", word, allowed).Error(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestLists(t *testing.T) {
	many := strings.Fields(strings.Repeat("x ", 12))
	for got, want := range map[string]string{
		List(nil):                  "",
		List([]string{"a"}):        "a",
		List([]string{"a", "b"}):   "a or b",
		Found(nil):                 "found nothing",
		Found([]string{"a", `b"`}): `found "a" "b\""`,
		Few([]string{"a", "b"}):    "a; b",
		Few(many):                  strings.Repeat("x; ", 10) + "and 2 more",
		Count(1, "line"):           "1 line",
		Count(0, "line"):           "0 lines",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
