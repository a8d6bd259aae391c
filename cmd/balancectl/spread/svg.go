// SPDX-License-Identifier: Apache-2.0

package spread

import (
	"fmt"
	"html"
	"os"
	"strings"

	"github.com/seed-f1518d44/balance/cmd/balancectl/terminal"
)

// The drawing, in its units: pixels at full size.
const (
	svgWidth   = 800
	svgMargin  = 28
	svgRow     = 26
	svgLine    = 18 // from one line of small text to the next
	svgBarFrom = 300
	svgBarTo   = 600
	svgSmall   = 110 // letters of small text in a line
)

const svgStyle = `<style>
text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2933; }
.title { font-size: 18px; font-weight: 600; }
.small { font-size: 12px; fill: #52606d; }
.number { font-variant-numeric: tabular-nums; text-anchor: end; }
.set { font-weight: 600; }
.back { fill: #eef2f6; }
.bar { fill: #3b82c4; }
.wanted { stroke: #1f2933; stroke-width: 2; }
.good { fill: #1b7f4b; font-weight: 600; }
.bad { fill: #c0392b; font-weight: 600; }
.open { fill: #9a6700; font-weight: 600; }
</style>
`

// drawing is an SVG that grows downwards.
type drawing struct {
	strings.Builder
	y int
}

func (d *drawing) text(class string, x int, text string) {
	_, _ = fmt.Fprintf(d, "<text class=\"%s\" x=\"%d\" y=\"%d\">%s</text>\n", class, x, d.y, html.EscapeString(text))
}

// writeSVG draws a report into a file.
func writeSVG(path string, r *report) error {
	return os.WriteFile(path, []byte(r.svg()), 0o666) //nolint:gosec // as a shell's redirection would; the umask decides
}

// svg returns the report as a drawing: a bar for each member, with a mark where it should end.
func (r *report) svg() string {
	d := &drawing{y: svgMargin + 14}
	d.text("title", svgMargin, r.Name+" "+r.Type)
	d.y += svgLine + 4
	d.text("small", svgMargin, fmt.Sprintf("%s of %s over %s", counted(r.Answered, "answer", ""), r.Server, overInWords(r.Over)))
	for i := range r.Sets {
		r.Sets[i].draw(d)
	}
	d.y += svgLine
	for _, line := range r.circumstances() {
		for part := range strings.Lines(wrap(line, svgSmall)) {
			d.y += svgLine
			d.text("small", svgMargin, strings.TrimSpace(part))
		}
	}
	height := d.y + svgMargin
	return fmt.Sprintf("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\">\n", svgWidth, height, svgWidth, height) +
		"<title>" + html.EscapeString("Who led the answers to "+r.Name+" "+r.Type) + "</title>\n" + svgStyle +
		"<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n" + d.String() + "</svg>\n"
}

// draw draws a set.
func (r *setReport) draw(d *drawing) {
	d.y += 2*svgLine + 8
	d.text("set", svgMargin, r.What)
	d.text("small number", 680, "share")
	d.text("small number", svgWidth-svgMargin, "wanted")
	for _, m := range r.Members {
		d.y += svgRow
		m.draw(d)
	}
	class := map[string]string{exact: "good", asWanted: "good", notAsWanted: "bad"}[r.Verdict]
	if class == "" {
		class = "open"
	}
	d.y += svgRow + 2
	for i, part := range strings.Split(wrap(r.Verdict+r.reason(), svgSmall), "\n") {
		if rest, first := strings.CutPrefix(part, r.Verdict); first && i == 0 {
			_, _ = fmt.Fprintf(d, "<text class=\"small\" x=\"%d\" y=\"%d\"><tspan class=\"%s\">%s</tspan>%s</text>\n", svgMargin, d.y, class, html.EscapeString(r.Verdict), html.EscapeString(rest))
			continue
		}
		d.y += svgLine
		d.text("small", svgMargin, strings.TrimSpace(part))
	}
}

// draw draws a member: a full bar is all leads.
func (m *memberReport) draw(d *drawing) {
	x := func(part float64) float64 { return svgBarFrom + (svgBarTo-svgBarFrom)*part }
	d.text("", svgMargin, screen{terminal.Screen{Unicode: true}}.cut(m.Member, 38))
	_, _ = fmt.Fprintf(d, "<rect class=\"back\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"16\" rx=\"2\"/>\n", svgBarFrom, d.y-13, svgBarTo-svgBarFrom)
	_, _ = fmt.Fprintf(d, "<rect class=\"bar\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"16\" rx=\"2\"/>\n", svgBarFrom, d.y-13, x(m.Share)-svgBarFrom)
	_, _ = fmt.Fprintf(d, "<line class=\"wanted\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>\n", x(m.Wanted), x(m.Wanted), d.y-16, d.y+6)
	d.text("number", 680, percent(m.Share))
	d.text("number", svgWidth-svgMargin, percent(m.Wanted))
}
