// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// The chart has a row for each server and a panel for each work, all in pixels.
const (
	rowHeight   = 22
	barHeight   = 12
	letterWidth = 7 // about
	panelWidth  = 190
	panelGap    = 24
	valueWidth  = 46 // for a number behind a bar
	topMargin   = 82
	axisMargin  = 34
	chartStyles = `text{font:12px system-ui,sans-serif;fill:#1f2328}
.title{font-weight:600}.quiet{fill:#59636e}
.back{fill:#fff}.grid{stroke:#d1d9e0}.stripe{fill:#818b98;fill-opacity:.08}
.spread{stroke:#1f2328;stroke-width:1.5}
.other{fill:#8c959f}.loadbalance{fill:#d4862b}.balance{fill:#2f7fd8}.peer{fill:#4f9e6b}
@media (prefers-color-scheme:dark){
text{fill:#e6edf3}.quiet{fill:#9198a1}.back{fill:#0d1117}.grid{stroke:#3d444d}.spread{stroke:#e6edf3}
.other{fill:#6e7681}.loadbalance{fill:#db8f3c}.balance{fill:#4493f8}.peer{fill:#56a877}}
`
)

// chart returns an SVG with the processor time a query of every server, for each work.
func (r *Results) chart() string {
	var panels []Work
	for _, w := range r.Works {
		if r.most(w) > 0 {
			panels = append(panels, w)
		}
	}
	rows := r.Servers
	labelWidth := 24
	for _, e := range rows {
		labelWidth = max(labelWidth, 24+letterWidth*len(e.Name))
	}
	width := labelWidth + len(panels)*(panelWidth+panelGap) + 12
	height := topMargin + len(rows)*rowHeight + axisMargin
	var b strings.Builder
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"Processor time a query\">\n<style>%s</style>\n",
		width, height, width, height, chartStyles)
	fmt.Fprintf(&b, "<rect class=\"back\" width=\"%d\" height=\"%d\"/>\n", width, height)
	text(&b, 12, 22, "title", "Processor time of the server, µs a query: median, least to most of the rounds. Less is better.")
	r.writeLegend(&b)
	for i, e := range rows {
		y := topMargin + i*rowHeight
		if i%2 == 0 {
			fmt.Fprintf(&b, "<rect class=\"stripe\" x=\"0\" y=\"%d\" width=\"%d\" height=\"%d\"/>\n", y, width, rowHeight)
		}
		text(&b, 12, y+15, "", e.Name)
	}
	for i, w := range panels {
		r.writePanel(&b, w, rows, labelWidth+i*(panelWidth+panelGap))
	}
	return b.String() + "</svg>\n"
}

func text(b *strings.Builder, x, y int, class, s string) {
	fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\" class=\"%s\">%s</text>\n", x, y, class, html.EscapeString(s))
}

// kind is the colour of a server's bar.
func kind(e Entry) string {
	switch {
	case e.Program != "":
		return "peer"
	case strings.Contains(e.Name, "loadbalance"):
		return "loadbalance"
	case strings.Contains(e.Name, "balance"):
		return "balance"
	default:
		return "other"
	}
}

// writeLegend says what the colours of the chart mean.
func (r *Results) writeLegend(b *strings.Builder) {
	x := 12
	for _, k := range []struct{ kind, about string }{
		{"balance", "CoreDNS with balance"}, {"loadbalance", "with loadbalance"}, {"other", "without either"}, {"peer", "other servers"},
	} {
		for _, e := range r.Servers {
			if !e.Missing && kind(e) == k.kind {
				fmt.Fprintf(b, "<rect class=\"%s\" x=\"%d\" y=\"34\" width=\"12\" height=\"12\"/>\n", k.kind, x)
				text(b, x+18, 44, "", k.about)
				x += 40 + letterWidth*len(k.about)
				break
			}
		}
	}
}

// most returns the largest median of a work.
func (r *Results) most(w Work) float64 {
	most := 0.0
	for _, e := range r.Servers {
		most = max(most, spread(r.of(e.Name, w.Name), cpu).Median)
	}
	return most
}

func cpu(s Sample) float64 { return s.CPU }

// writePanel writes the bars of a work, from x on. What is longer than the panel is cut off, with
// its number.
func (r *Results) writePanel(b *strings.Builder, w Work, rows []Entry, x int) {
	bottom := topMargin + len(rows)*rowHeight
	space := float64(panelWidth - valueWidth)
	step, end := axis(r.scale(w))
	at := func(v float64) float64 { return float64(x) + min(v/end, 1)*space }
	text(b, x, topMargin-6, "title", w.About)
	for v := 0.0; v <= end+step/2; v += step {
		fmt.Fprintf(b, "<line class=\"grid\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/>\n", at(v), topMargin, at(v), bottom)
		fmt.Fprintf(b, "<text class=\"quiet\" text-anchor=\"middle\" x=\"%.1f\" y=\"%d\">%g</text>\n", at(v), bottom+16, v)
	}
	for i, e := range rows {
		s := spread(r.of(e.Name, w.Name), cpu)
		if s.Median == 0 {
			text(b, x+5, topMargin+i*rowHeight+15, "quiet", r.gap(e, w))
			continue
		}
		y := topMargin + i*rowHeight + (rowHeight-barHeight)/2
		fmt.Fprintf(b, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>\n", kind(e), x, y, at(s.Median)-float64(x), barHeight)
		fmt.Fprintf(b, "<line class=\"spread\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/>\n", at(s.Low), y+barHeight/2, at(s.High), y+barHeight/2)
		cut := ""
		if s.Median > end {
			cut = "→ "
		}
		text(b, int(math.Ceil(at(min(s.High, end))))+5, y+10, "", cut+significant(s.Median))
	}
}

// gap returns the text that replaces a missing bar.
func (r *Results) gap(e Entry, w Work) string {
	switch {
	case e.Missing:
		return "not installed"
	case e.Next && w.many():
		return "as the next row"
	case r.unmeasured(e, w) != "":
		return "refused"
	default:
		return "not measured"
	}
}

// scale returns what a panel shows up to: not more than a multiple of what our own servers take, so
// that one that is far slower does not make all other bars too short to read.
func (r *Results) scale(w Work) float64 {
	const times = 1.5
	own := 0.0
	for _, e := range r.Servers {
		if e.Program == "" {
			own = max(own, spread(r.of(e.Name, w.Name), cpu).High)
		}
	}
	most := r.most(w)
	if own == 0 {
		return most
	}
	return min(most, times*own)
}

// axis returns the distance of the lines and the end of an axis that holds most.
func axis(most float64) (step, end float64) {
	step = math.Pow(10, math.Floor(math.Log10(most)))
	for _, part := range []float64{0.2, 0.5, 1, 2, 5} {
		if most/(step*part) <= 4 {
			step *= part
			break
		}
	}
	return step, step * math.Ceil(most/step)
}

// significant returns a number with three digits or so.
func significant(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}
