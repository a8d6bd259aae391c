// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/seed-f1518d44/balance/internal/load"
)

// Three kinds of errors are no verdict on the endpoint. errors.Is tells them apart.
var (
	// ErrLocal: the probe failed because of this host, such as a lack of descriptors, or its
	// context was cancelled.
	ErrLocal = errors.New("not probed")
	// ErrInconclusive: the endpoint answered that it will not say now, such as status 429. An
	// endpoint that does so for long should count as down.
	ErrInconclusive = errors.New("no verdict")
	// ErrNoSay: the check has no say on this endpoint, such as an agent that cannot be reached.
	ErrNoSay = errors.New("no say")
)

// RetryAfter returns how long an endpoint asked not to be probed again, 0 if it did not ask. err
// is what a probe returned: inconclusive or a failure.
func RetryAfter(err error) time.Duration {
	var q *qualified
	if errors.As(err, &q) {
		return q.retryAfter
	}
	return 0
}

// qualified is a reason that says more than that the endpoint is down.
type qualified struct {
	reason
	kind       error // ErrInconclusive, ErrNoSay, or nil for down
	retryAfter time.Duration
}

func (q *qualified) Is(target error) bool { return q.kind != nil && target == q.kind }

// Report is what an endpoint says about itself beside its verdict. The zero value says nothing.
type Report struct {
	Drain   bool        // it wants no new clients, and is not down
	Reason  string      // in its own words, printable
	Load    load.Report // the zero value: it says nothing of its load
	BadLoad string      // why its report of its load is not valid
}

// Reporter is a Prober whose endpoints may say more than whether they are up.
type Reporter interface {
	Prober
	// Report is Probe that also returns what the endpoint says about itself. With an error, the
	// report is empty.
	Report(ctx context.Context, endpoint netip.AddrPort) (Report, error)
}

var _ Reporter = (*Check)(nil)

// Report implements Reporter.
func (c *Check) Report(ctx context.Context, endpoint netip.AddrPort) (report Report, err error) {
	r, ok := c.protocol.(reporter)
	if !ok {
		return Report{}, c.Probe(ctx, endpoint)
	}
	err = c.ask(ctx, time.Now(), endpoint, func(ctx context.Context, endpoint netip.AddrPort) error {
		report, err = r.report(ctx, endpoint)
		return err
	})
	return report, err
}

// reporter is a protocol whose endpoints may say more than whether they are up.
type reporter interface {
	report(ctx context.Context, endpoint netip.AddrPort) (Report, error)
}
