// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"html"
	"strconv"
	"strings"
)

// A chart has a panel for each scenario, side by side, in pixels.
const (
	panelWidth  = 210
	panelHeight = 150
	panelGap    = 30
	leftMargin  = 40
	topMargin   = 62
	axisMargin  = 40
	highest     = 1.6 // utilisation at the top of a panel
	every       = 3   // one in so many samples is drawn
	styles      = `text{font:12px system-ui,sans-serif;fill:#1f2328}
.title{font-weight:600}.quiet{fill:#59636e}
.back{fill:#fff}.grid{stroke:#d1d9e0}.equal{stroke:#59636e;stroke-dasharray:3 3}
polyline{fill:none;stroke-width:1.5}
.m0{stroke:#2f7fd8}.m1{stroke:#4f9e6b}.m2{stroke:#d4862b}
@media (prefers-color-scheme:dark){
text{fill:#e6edf3}.quiet{fill:#9198a1}.back{fill:#0d1117}.grid{stroke:#3d444d}.equal{stroke:#9198a1}
.m0{stroke:#4493f8}.m1{stroke:#56a877}.m2{stroke:#db8f3c}}
`
)

// svg draws the chart.
func (c chart) svg() string {
	var b strings.Builder
	width := leftMargin + len(c.scenarios)*(panelWidth+panelGap)
	height := topMargin + panelHeight + axisMargin
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="%s">`+"\n<style>%s</style>\n",
		width, height, width, height, html.EscapeString(c.title), styles)
	fmt.Fprintf(&b, "<rect class=\"back\" width=\"%d\" height=\"%d\"/>\n", width, height)
	write(&b, leftMargin, 20, "title", c.title)
	for i, s := range c.scenarios {
		s.draw(&b, leftMargin+i*(panelWidth+panelGap))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// draw draws a panel.
func (s scenario) draw(b *strings.Builder, left int) {
	bottom := topMargin + panelHeight
	write(b, left, topMargin-14, "", s.name)
	for percent := 0; percent < 100*highest; percent += 50 {
		y := heightOf(float64(percent) / 100)
		fmt.Fprintf(b, "<path class=\"grid\" d=\"M%d %.1fh%d\"/>\n", left, y, panelWidth)
		if left == leftMargin {
			write(b, 4, int(y)+4, "quiet", fmt.Sprintf("%d %%", percent))
		}
	}
	for ttls := 0; ttls <= s.ttls; ttls += 10 {
		write(b, left+panelWidth*ttls/s.ttls-4, bottom+16, "quiet", strconv.Itoa(ttls))
	}
	write(b, left+panelWidth/2-20, bottom+32, "quiet", "TTLs")
	fmt.Fprintf(b, "<path class=\"equal\" d=\"M%d %.1fh%d\"/>\n", left, heightOf(s.demand), panelWidth)
	samples := s.run()
	for member := range s.powers {
		fmt.Fprintf(b, `<polyline class="m%d" points="`, member)
		for i := every - 1; i < len(samples); i += every {
			at := samples[i]
			fmt.Fprintf(b, "%.0f,%.0f ", float64(left)+at.at*panelWidth/float64(s.ttls), heightOf(at.utilisation[member]))
		}
		b.WriteString("\"/>\n")
	}
}

// heightOf returns the height of a utilisation in a panel.
func heightOf(utilisation float64) float64 {
	return topMargin + panelHeight*(1-min(utilisation, highest)/highest)
}

func write(b *strings.Builder, x, y int, class, text string) {
	fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\" class=\"%s\">%s</text>\n", x, y, class, html.EscapeString(text))
}
