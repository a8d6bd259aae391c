// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
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
