// SPDX-License-Identifier: Apache-2.0

package spread

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-f1518d44/balance/cmd/balancectl/terminal"
)

// table returns the report as text for a screen.
func (r *report) table(s screen) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s at %s over %s\n", s.Paint(terminal.Bold, r.Name+" "+r.Type), r.Server, overInWords(r.Over))
	for i := range r.Sets {
		b.WriteString("\n" + r.Sets[i].table(s))
	}
	b.WriteString("\n")
	for _, line := range r.circumstances() {
		b.WriteString(wrap(line, s.Width) + "\n")
	}
	return b.String()
}

func overInWords(over string) string {
	if over == "both" {
		return "UDP and TCP in turn"
	}
	return strings.ToUpper(over)
}

// columns of a table. The bar takes what is left of the line.
type columns struct{ member, bar int }

const (
	numbers    = 7 + 9 + 9 + 9 + 8 // leads, share, wanted, in answers, place
	leastBar   = 6
	mostBar    = 50
	mostMember = 44
)

func (r *setReport) columns(width int) columns {
	longest := len(r.What)
	for _, m := range r.Members {
		longest = max(longest, len(m.Member))
	}
	c := columns{member: min(longest, mostMember, max(12, width-numbers))}
	if bar := width - numbers - c.member - 2; bar >= leastBar {
		c.bar = min(bar, mostBar)
	}
	return c
}

// table returns a set as text: a line for each member, and the verdict.
func (r *setReport) table(s screen) string {
	c := r.columns(s.Width)
	var b strings.Builder
	b.WriteString(s.Paint(terminal.Faint, pad(s.cut(r.What, c.member), c.member)+pad("leads", -7)+pad("share", -9)+pad("wanted", -9)+pad("present", -9)+pad("place", -8)) + "\n")
	for _, m := range r.Members {
		place := "-"
		if m.Answers > 0 {
			place = fmt.Sprintf("%.2f", m.Place)
		}
		line := pad(s.cut(m.Member, c.member), c.member) + pad(strconv.Itoa(m.Leads), -7) + pad(percent(m.Share), -9) + pad(percent(m.Wanted), -9) +
			pad(percent(float64(m.Answers)/float64(r.Answers)), -9) + pad(place, -8)
		if c.bar > 0 {
			line += "  " + s.bar(m.Share, m.Wanted, c.bar)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	b.WriteString(wrap(s.Paint(verdictColours[r.Verdict], r.Verdict)+r.reason(), s.Width) + "\n")
	return b.String()
}

var verdictColours = map[string]terminal.Colour{exact: terminal.Green, asWanted: terminal.Green, notAsWanted: terminal.Red, tooFew: terminal.Yellow, onlyOne: terminal.Yellow}

func percent(part float64) string { return fmt.Sprintf("%.1f %%", 100*part) }

// reason returns what a verdict rests on.
func (r *setReport) reason() string {
	if r.Verdict == onlyOne {
		return ": nothing to compare"
	}
	if r.ChiSquare == nil {
		return ": one leads that should not at all"
	}
	numbers := fmt.Sprintf("chi-square %.2f, %s, p %s", *r.ChiSquare, counted(r.Degrees, "degree", " of freedom"), probability(r.P))
	switch {
	case r.Verdict == exact:
		return ": every member led as often as wanted, give or take one (" + numbers + ")"
	case r.Verdict == tooFew:
		return fmt.Sprintf(": %s, want at least %d for these shares (%s)", counted(r.Answers, "answer", ""), r.Enough, numbers)
	case r.Verdict == asWanted && r.P > evenerThan:
		return ", and closer to it than chance would be (" + numbers + ")"
	}
	return " (" + numbers + ")"
}

// probability returns a p-value in few digits.
func probability(p float64) string {
	switch {
	case p < 0.0001:
		return "below 0.0001"
	case p < 0.1:
		return fmt.Sprintf("%.4f", p)
	}
	return fmt.Sprintf("%.2f", p)
}

// counted returns a number of things.
func counted(n int, thing, rest string) string {
	if n != 1 {
		thing += "s"
	}
	return strconv.Itoa(n) + " " + thing + rest
}

// circumstances returns what else there is to say, a line each.
func (r *report) circumstances() []string {
	lines := []string{fmt.Sprintf("%d asked, %d answered in %.2f s, %d lost", r.Asked, r.Answered, r.Seconds, r.Lost)}
	if r.Truncated > 0 {
		lines[0] += fmt.Sprintf(", %d truncated and asked again over TCP", r.Truncated)
	}
	if r.Empty > 0 {
		lines[0] += fmt.Sprintf(", %d without a record of type %s", r.Empty, r.Type)
	}
	for _, problem := range slices.Sorted(maps.Keys(r.Problems)) {
		lines = append(lines, fmt.Sprintf("%d failed: %s", r.Problems[problem], problem))
	}
	if r.Answered == 0 {
		return lines
	}
	if len(r.Rcodes) > 1 || r.Rcodes["NOERROR"] == 0 {
		lines = append(lines, "rcode "+frequencies(r.Rcodes))
	}
	if len(r.TTLs) > 0 {
		lines = append(lines, "TTL "+frequencies(r.TTLs))
	}
	l := r.Latency
	return append(lines, fmt.Sprintf("latency p50 %.2f ms, p90 %.2f ms, p99 %.2f ms, longest %.2f ms", l.P50, l.P90, l.P99, l.Max))
}

// mostFrequencies is how many different values are listed.
const mostFrequencies = 8

// frequencies lists values with how often they came, the most frequent first; the only one alone.
func frequencies[K cmp.Ordered](counts map[K]int) string {
	keys := slices.SortedFunc(maps.Keys(counts), func(a, b K) int { return cmp.Or(counts[b]-counts[a], cmp.Compare(a, b)) })
	var words []string
	for _, k := range keys[:min(len(keys), mostFrequencies)] {
		words = append(words, fmt.Sprintf("%v (%s)", k, counted(counts[k], "time", "")))
	}
	if len(keys) == 1 {
		return fmt.Sprint(keys[0])
	}
	if more := len(keys) - mostFrequencies; more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, ", ")
}

// wrap breaks a line between words. Colours count as columns, so a line with some breaks a little
// early.
func wrap(line string, width int) string {
	var b strings.Builder
	column := 0
	for i, word := range strings.Split(line, " ") {
		n := len([]rune(word))
		switch {
		case i == 0:
		case column+1+n > width:
			b.WriteString("\n  ")
			column = 2
		default:
			b.WriteString(" ")
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}
