// SPDX-License-Identifier: Apache-2.0

// Command manual makes a manual page from Markdown, as CoreDNS makes those of its plugins: it reads
// the one from standard input and writes the other to standard output. Its arguments are the page's
// name and section: "coredns-balance 7", of README.md, or "balancectl 1", of docs/balancectl.md.
package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/russross/blackfriday/v2"
)

// title is that of CoreDNS' own pages, without a date: the page is as old as the commit that it is
// in.
const title = `%% "%s" "%s" "" "CoreDNS" "CoreDNS Plugins"` + "\n\n"

var (
	// intro is what only a reader of the tree needs: the title, and all ahead of the section Name.
	intro = regexp.MustCompile(`(?s)\A# .*?\n(## Name\n)`)
	// inner is a link to another section of the page.
	inner    = regexp.MustCompile(`\[([^\]]+)\]\(#[^)]*\)`)
	sections = regexp.MustCompile(`(?m)^## .*$`)
	heading  = regexp.MustCompile(`(?m)^\.TH .*$`)
	fences   = regexp.MustCompile("(?ms)^~~~.*?^~~~$")
)

// manual returns the page, in roff. It fails if the text is no manual page: it has no section Name.
func manual(name, section, readme string) (string, error) {
	if !intro.MatchString(readme) {
		return "", fmt.Errorf("found %.40q: want a title and a section %q", readme, "## Name")
	}
	page := intro.ReplaceAllString(readme, "$1")
	page = outsideFences(page, func(text string) string {
		text = inner.ReplaceAllString(text, "**$1**")
		return sections.ReplaceAllStringFunc(text, strings.ToUpper)
	})
	return roff(fmt.Sprintf(title, strings.ToUpper(name), section) + page), nil
}

// roff renders Markdown. Lines are neither hyphenated nor stretched, for names of metrics are to be
// copied.
func roff(markdown string) string {
	r := renderer{md2man.NewRoffRenderer()}
	text := string(blackfriday.Run([]byte(markdown), blackfriday.WithRenderer(r), blackfriday.WithExtensions(md2man.NewRoffRenderer().GetExtensions())))
	return heading.ReplaceAllString(text, ".nr HY 0\n$0\n.ad l")
}

// renderer is md2man's, except that tables fit the line: a cell may have several lines.
type renderer struct{ blackfriday.Renderer }

// RenderNode implements blackfriday.Renderer.
func (r renderer) RenderNode(w io.Writer, node *blackfriday.Node, entering bool) blackfriday.WalkStatus {
	switch {
	case node.Type == blackfriday.Table && entering:
		_, _ = fmt.Fprintf(w, "\n.TS\nallbox;\n%s.\n", columns(node)) // into memory
	case node.Type == blackfriday.TableCell && entering:
		if node.Prev != nil {
			_, _ = io.WriteString(w, "\t")
		}
		_, _ = io.WriteString(w, "T{\n")
	case node.Type == blackfriday.TableCell && node.Next != nil:
		_, _ = io.WriteString(w, "\nT}")
	case node.Type == blackfriday.TableCell:
		_, _ = io.WriteString(w, "\nT}\n")
	default:
		return r.Renderer.RenderNode(w, node, entering)
	}
	return blackfriday.GoToNext
}

// columns returns tbl's format for a table: narrow columns as they are, the others share the line.
func columns(table *blackfriday.Node) string {
	const narrow = 12
	var widest []int
	table.Walk(func(node *blackfriday.Node, entering bool) blackfriday.WalkStatus {
		if node.Type != blackfriday.TableCell || !entering {
			return blackfriday.GoToNext
		}
		column := 0
		for left := node.Prev; left != nil; left = left.Prev {
			column++
		}
		if column == len(widest) {
			widest = append(widest, 0)
		}
		widest[column] = max(widest[column], length(node))
		return blackfriday.SkipChildren
	})
	var format strings.Builder
	for _, w := range widest {
		if w > narrow {
			format.WriteString("lx ")
		} else {
			format.WriteString("l ")
		}
	}
	return strings.TrimSpace(format.String())
}

// length returns how many bytes of text are in a cell.
func length(cell *blackfriday.Node) (n int) {
	cell.Walk(func(node *blackfriday.Node, entering bool) blackfriday.WalkStatus {
		if entering {
			n += len(node.Literal)
		}
		return blackfriday.GoToNext
	})
	return n
}

// outsideFences changes all but what is shown as it is.
func outsideFences(text string, change func(string) string) string {
	var changed strings.Builder
	end := 0
	for _, at := range fences.FindAllStringIndex(text, -1) {
		changed.WriteString(change(text[end:at[0]]) + text[at[0]:at[1]])
		end = at[1]
	}
	return changed.String() + change(text[end:])
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "manual:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("found %q: want the page's name and section", args)
	}
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	page, err := manual(args[0], args[1], string(text))
	if err != nil {
		return err
	}
	_, err = os.Stdout.WriteString(page)
	return err
}
