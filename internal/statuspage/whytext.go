// SPDX-License-Identifier: Apache-2.0

package statuspage

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// WriteText writes the answer as dig prints it, then the reasons, step by step. Errors are those of
// w.
func (why *Why) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, ";; %s %s for %s, now %s", why.Name, why.Type, why.Client, why.Time.Format(time.RFC3339))
	if why.Host != "" {
		fmt.Fprintf(&b, " on %s", why.Host)
	}
	b.WriteString("\n")
	if len(why.Answers) == 0 {
		b.WriteString(";; no rule with the option status has a zone that holds the name\n")
	}
	for i := range why.Answers {
		b.WriteString("\n")
		why.Answers[i].writeText(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (a *WhyAnswer) writeText(b *strings.Builder) {
	fmt.Fprintf(b, ";; %s", strings.Join(a.Servers, " "))
	if a.View != "" {
		fmt.Fprintf(b, " view %s", a.View)
	}
	fmt.Fprintf(b, ", rule %s (%s)", a.Zone, a.Rule)
	if a.Observe {
		b.WriteString(", which only observes: this is what would be")
	}
	b.WriteString("\n")
	if a.Rcode != "" {
		fmt.Fprintf(b, ";; %s, %s\n", a.Rcode, a.Result)
	}
	if a.Problem != "" {
		fmt.Fprintf(b, ";; %s\n", a.Problem)
	}
	for _, records := range [][]string{a.Answer, a.Authority, a.Additional} {
		for _, record := range records {
			b.WriteString(record + "\n")
		}
	}
	for i := range a.RRsets {
		b.WriteString("\n")
		a.RRsets[i].writeText(b)
	}
}

// writeText writes why an RRset is as it is.
func (s *WhyRRset) writeText(b *strings.Builder) {
	fmt.Fprintf(b, ";; %s %s", s.Name, s.Type)
	if s.Section != "answer" {
		fmt.Fprintf(b, " (%s)", s.Section)
	}
	b.WriteString("\n")
	for _, step := range s.Steps {
		fmt.Fprintf(b, ";;   %s\n", step)
	}
	table := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, m := range s.Members {
		place := m.State
		if m.Place > 0 {
			place = strconv.Itoa(m.Place)
		}
		cells := []string{place, m.Member}
		if len(m.Reasons) > 0 { // else the line would end with blanks
			cells = append(cells, strings.Join(m.Reasons, "; "))
		}
		_, _ = fmt.Fprintf(table, ";;   %s\n", strings.Join(cells, "\t"))
	}
	_ = table.Flush() // a Builder has no errors
}
