// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"net/netip"
	"time"

	"github.com/seed-f1518d44/balance/internal/fleet"
	"github.com/seed-f1518d44/balance/internal/probe"
)

// Check is what to ask of an endpoint, and how often. Immutable. Rules whose checks have the same
// poolKey share their probes.
type Check struct {
	Prober
	Timing       Timing
	HalfLife     time.Duration // of the penalty of endpoints that flap; 0: they are not damped
	Fleet        *fleet.Fleet  // the replicas that share the verdicts; nil: this one alone
	MaxEndpoints int
	MaxInFlight  int
	Hold         *Hold // nil without the option hold

	openLines func(*pool) (lines, error) // for tests, in place of Hold
}

// Prober is one protocol's way to probe.
type Prober interface {
	// Probe returns nil if the endpoint is up. Port 0 stands for the check's own port. An error
	// that wraps probe.ErrLocal was caused by this host and proves nothing. Once Probe has
	// returned, nothing that it started waits for ctx.
	Probe(ctx context.Context, endpoint netip.AddrPort) error
	// Name returns the check in a few words, for people.
	Name() string
	// Key returns all that a verdict depends on: checks with equal keys are the same.
	Key() string
}

var _ Prober = (*probe.Check)(nil)

// Timing says when an endpoint is probed, and how many results make a verdict.
type Timing struct {
	Interval     time.Duration // between probes
	Timeout      time.Duration // of a probe; below Interval
	FastInterval time.Duration // between probes while the verdict is in doubt
	MaxInterval  time.Duration // between probes of an endpoint that has been down for long
	Rise, Fall   int           // consecutive results that change a verdict, at least 1
}

// Hold says where the option hold connects to.
type Hold struct {
	Port   uint16     // for endpoints without a port of their own
	Source netip.Addr // for endpoints of its family; zero for any
}

// holds reports whether the check holds connections.
func (c *Check) holds() bool { return c.Hold != nil || c.openLines != nil }

// Logger is where a registry writes what operators should know.
type Logger interface {
	Infof(format string, args ...any)
	Warningf(format string, args ...any)
	Errorf(format string, args ...any)
}
