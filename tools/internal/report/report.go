// SPDX-License-Identifier: Apache-2.0

// Package report writes what was measured as people read it.
package report

import (
	"math"
	"slices"
	"strings"
	"time"
)

// Spread is the middle of some values, and how far they lie apart.
type Spread struct{ Median, Low, High float64 }

// SpreadOf returns the median, the least and the most of some values; zeros if there are none.
func SpreadOf(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	return Spread{Median: Quantile(sorted, 0.5), Low: sorted[0], High: sorted[len(sorted)-1]}
}

// Quantile returns the q-th quantile, 0 to 1, of sorted values, interpolated between two; 0 if
// there are none.
func Quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := q * float64(len(sorted)-1)
	below := int(at)
	above := min(below+1, len(sorted)-1)
	return sorted[below] + (at-math.Floor(at))*(sorted[above]-sorted[below])
}

// Short rounds a time to three digits or so.
func Short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < 10*time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

// Table is a table in Markdown.
type Table struct{ text strings.Builder }

// Head begins it with titles. Those that end in a colon are of numbers.
func (t *Table) Head(titles ...string) {
	rules := make([]string, len(titles))
	for i, title := range titles {
		if titles[i] = strings.TrimSuffix(title, ":"); titles[i] != title {
			rules[i] = "---:"
		} else {
			rules[i] = "---"
		}
	}
	t.Row(titles...)
	t.text.WriteString("|" + strings.Join(rules, "|") + "|\n")
}

// Row adds a row.
func (t *Table) Row(cells ...string) {
	t.text.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

func (t *Table) String() string { return t.text.String() }
