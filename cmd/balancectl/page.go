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
)

// defaultPage is where the option "status" listens unless it names an address.
const defaultPage = "127.0.0.1:9154"

// page is a status page.
type page string

func (p page) url() string {
	base := strings.TrimSuffix(string(p), "/")
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	return base + statuspage.JSONPath
}

// mostBytes bounds what is read of a page.
const mostBytes = 256 << 20

// get returns what the page shows now, and its JSON.
func (p page) get(ctx context.Context) (d *statuspage.Document, raw []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url(), nil)
	if err != nil {
		return nil, nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot ask the status page (option \"status\" of balance, flag -at): %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // only read
	raw, err = io.ReadAll(io.LimitReader(response.Body, mostBytes))
	if err != nil {
		return nil, nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%s: %s", p.url(), response.Status)
	}
	d = new(statuspage.Document)
	if err := json.Unmarshal(raw, d); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", p.url(), err)
	}
	if d.Version != statuspage.Version {
		return nil, nil, fmt.Errorf("%s has version %d: want %d", p.url(), d.Version, statuspage.Version)
	}
	return d, raw, nil
}
