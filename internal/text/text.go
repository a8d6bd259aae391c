// SPDX-License-Identifier: Apache-2.0

// Package text writes errors and log lines: lists of words, what may have been meant, and texts
// from files and plugins made fit for one line.
package text

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/agext/levenshtein"
)

// MaxLine is the most bytes that OneLine returns, without the dots at the end.
const MaxLine = 1 << 10

// OneLine makes a text that others wrote fit for a line of the log: printable and not longer than
// MaxLine.
func OneLine(text string) string {
	var b strings.Builder
	for _, r := range text {
		if b.Len() >= MaxLine {
			return b.String() + "..."
		}
		if strconv.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		escaped := strconv.QuoteRuneToASCII(r)
		b.WriteString(escaped[1 : len(escaped)-1])
	}
	return b.String()
}

// Unknown returns an error for a word that is none of those allowed. It says which of them may have
// been meant.
func Unknown(kind, word string, allowed []string) error {
	meant := Nearest(word, allowed)
	if meant == "" {
		return fmt.Errorf("unknown %s %q: want %s", kind, word, List(allowed))
	}
	return fmt.Errorf("unknown %s %q: want %s; did you mean %q?", kind, word, List(allowed), meant)
}

// Nearest returns the one of some words that another one may be meant as: one that it begins with,
// or differs from in a few letters. It returns "" if there is none.
func Nearest(word string, allowed []string) string {
	word = strings.ReplaceAll(strings.ToLower(word), "-", "_")
	for _, one := range allowed {
		if len(one) > 3 && strings.HasPrefix(word, one+"_") {
			return one
		}
	}
	one := slices.MinFunc(allowed, func(a, b string) int {
		return levenshtein.Distance(word, a, nil) - levenshtein.Distance(word, b, nil)
	})
	if levenshtein.Distance(word, one, nil) > 1+len(word)/4 {
		return ""
	}
	return one
}

// List joins words: "a, b or c".
func List(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// Few joins texts with semicolons. Of many it writes the first few and how many are left.
func Few(texts []string) string {
	const few = 10
	if more := len(texts) - few; more > 0 {
		return fmt.Sprintf("%s; and %d more", strings.Join(texts[:few], "; "), more)
	}
	return strings.Join(texts, "; ")
}

// Brief joins names with commas. Of many it writes the first three and how many are left.
func Brief(names []string) string {
	const few = 3
	if more := len(names) - few; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), more)
	}
	return strings.Join(names, ", ")
}

// Found says which words were found: nothing, or "a" "b".
func Found(words []string) string {
	if len(words) == 0 {
		return "found nothing"
	}
	var quoted []string
	for _, word := range words {
		quoted = append(quoted, strconv.Quote(word))
	}
	return "found " + strings.Join(quoted, " ")
}

// Count writes a number of things: "1 line", "2 lines".
func Count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
