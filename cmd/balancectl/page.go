// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/seed-f1518d44/balance/internal/statuspage"
	"github.com/seed-f1518d44/balance/internal/text"
)

// defaultPage is where the option "status" listens unless it names an address.
const defaultPage = "127.0.0.1:9154"

// page is a status page.
type page string

// pages are the status pages of replicas: the value of a flag that may be given several times.
type pages []page

func (p *pages) String() string {
	if p == nil || len(*p) == 0 {
		return ""
	}
	return fmt.Sprint(*p)
}

// Set implements flag.Value.
func (p *pages) Set(text string) error {
	*p = append(*p, page(text))
	return nil
}

// atFlag adds the flag -at.
func (flags flagSet) atFlag() *pages {
	all := new(pages)
	flags.Var(all, "at", "`ADDRESS:PORT` or URL of a status page, "+defaultPage+" by default; once for each replica")
	return all
}

// all returns the pages that were named, or the default.
func (p *pages) all() pages {
	if len(*p) == 0 {
		return pages{defaultPage}
	}
	return *p
}

// heading returns what stands above what is shown of a page, "" if it is the only one.
func (p pages) heading(i int) string {
	switch {
	case len(p) == 1:
		return ""
	case i == 0:
		return fmt.Sprintf("== %s\n", p[i])
	}
	return fmt.Sprintf("\n== %s\n", p[i])
}

// url returns the URL of what the page serves under a path.
func (p page) url(path string) string {
	base := strings.TrimSuffix(string(p), "/")
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	return base + path
}

// mostBytes bounds what is read of a page.
const mostBytes = 256 << 20

// fetch returns what the page serves at a URL. Errors of the page are its own words.
func fetch(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil) //nolint:gosec // the user names the page
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request) //nolint:gosec // the user names the page
	if err != nil {
		return nil, fmt.Errorf("cannot ask the status page (option \"status\" of balance, flag -at): %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // only read
	raw, err := io.ReadAll(io.LimitReader(response.Body, mostBytes))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %s", url, response.Status, text.OneLine(strings.TrimSpace(string(raw))))
	}
	return raw, nil
}

// get returns what the page shows now, and its JSON.
func (p page) get(ctx context.Context) (d *statuspage.Document, raw []byte, err error) {
	url := p.url(statuspage.JSONPath)
	if raw, err = fetch(ctx, url); err != nil {
		return nil, nil, err
	}
	d = new(statuspage.Document)
	if err := json.Unmarshal(raw, d); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", url, err)
	}
	if d.Version != statuspage.Version {
		return nil, nil, fmt.Errorf("%s has version %d: want %d", url, d.Version, statuspage.Version)
	}
	return d, raw, nil
}

// shownPage is what a page shows.
type shownPage struct {
	at       page
	document *statuspage.Document
}

// get returns what pages show now: those that can be read, with an error about the others.
func (p pages) get(ctx context.Context) (shown []shownPage, err error) {
	for _, at := range p {
		d, _, problem := at.get(ctx)
		if err = errors.Join(err, problem); problem == nil {
			shown = append(shown, shownPage{at, d})
		}
	}
	return shown, err
}
