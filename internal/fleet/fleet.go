// SPDX-License-Identifier: Apache-2.0

package fleet

import "context"

// Config is what a fleet is made of. Immutable.
type Config struct {
	Name     string // of the fleet
	Replica  string // of this replica, as its carrier knows it
	Locality string // of this replica; may be empty
	Probers  int    // replicas that probe each endpoint
	Quorum   int    // votes that make a verdict; 0: more than half of those assigned
	Log      Logger
}

// Logger is where a fleet writes what operators should know.
type Logger interface {
	Infof(format string, args ...any)
	Warningf(format string, args ...any)
	Errorf(format string, args ...any)
}

// Fleet is this replica's part in a fleet. Safe for concurrent use.
type Fleet struct {
	config  Config
	carrier Carrier
}

var _ Listener = (*Fleet)(nil)

// New returns a fleet in which this replica is alone until Start.
func New(c Config) *Fleet { return &Fleet{config: c} }

// Start begins to talk to the other replicas.
func (f *Fleet) Start(c Carrier) { f.carrier = c }

// Configure changes probers and quorum; the other fields of c are ignored.
func (f *Fleet) Configure(c Config) {}

// Stop leaves the fleet in order. Verdicts stay as they are.
func (f *Fleet) Stop(ctx context.Context) { f.carrier.Leave(ctx) }

// Hear implements Listener.
func (f *Fleet) Hear(message []byte) {}

// Members implements Listener.
func (f *Fleet) Members(live []Replica) {}

// Left implements Listener.
func (f *Fleet) Left(name string, inOrder bool) {}

// State implements Listener.
func (f *Fleet) State(joining bool) []byte { return nil }

// Merge implements Listener.
func (f *Fleet) Merge(state []byte, joining bool) {}

// Join makes this replica take part in the verdicts of a check.
func (f *Fleet) Join(check CheckID, host Host) *Share { return &Share{} }

// Snapshot returns what is known about the fleet.
func (f *Fleet) Snapshot() Snapshot { return Snapshot{Name: f.config.Name} }
