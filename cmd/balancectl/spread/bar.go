// SPDX-License-Identifier: Apache-2.0

package spread

import (
	"math"
	"strings"

	"github.com/seed-f1518d44/balance/cmd/balancectl/terminal"
)

// bar returns a bar that fills a part of so many columns, 0 to 1, with a mark at another part, or
// none if that is negative.
func (s screen) bar(part, mark float64, columns int) string {
	if columns < 1 {
		return ""
	}
	cells := make([]rune, columns)
	eighths := int(math.Round(part * float64(columns) * 8))
	for i := range cells {
		cells[i] = s.cell(eighths - 8*i)
	}
	if mark < 0 {
		return s.Paint(terminal.Blue, string(cells))
	}
	at := min(columns-1, max(0, int(math.Round(mark*float64(columns)))-1))
	cells[at] = '|'
	if s.Unicode {
		cells[at] = '│'
	}
	return s.Paint(terminal.Blue, string(cells[:at])) + string(cells[at]) + s.Paint(terminal.Blue, string(cells[at+1:]))
}

// cell returns the sign for a cell that is filled by some eighths.
func (s screen) cell(eighths int) rune {
	switch {
	case !s.Unicode && eighths >= 4:
		return '#'
	case !s.Unicode || eighths <= 0:
		return ' '
	}
	return []rune(" ▏▎▍▌▋▊▉█")[min(eighths, 8)]
}

// cut shortens text to some columns.
func (s screen) cut(text string, columns int) string {
	runes := []rune(text)
	if len(runes) <= columns {
		return text
	}
	if s.Unicode {
		return string(runes[:columns-1]) + "…"
	}
	return string(runes[:columns-1]) + "~"
}

// pad fills text up to some columns: on the right, or on the left if they are negative.
func pad(text string, columns int) string {
	fill := strings.Repeat(" ", max(0, max(columns, -columns)-len([]rune(text))))
	if columns < 0 {
		return fill + text
	}
	return text + fill
}
