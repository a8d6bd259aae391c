// SPDX-License-Identifier: Apache-2.0

package statuspage

import (
	"fmt"
	"strings"
	"time"

	"github.com/seed-f1518d44/balance/internal/text"
)

// Fleet is what a replica knows about its fleet.
type Fleet struct {
	Name     string         `json:"name"`
	Replica  string         `json:"replica"` // this one
	Alone    bool           `json:"alone"`   // it goes by its own probes
	Probers  int            `json:"probers"` // replicas that probe each endpoint
	Quorum   int            `json:"quorum"`  // votes that make a verdict; 0: a majority
	Replicas []Replica      `json:"replicas"`
	Checks   []FleetCheck   `json:"checks"` // that this replica shares
	Foreign  []ForeignCheck `json:"foreign_checks"`

	ReplicasOmitted int `json:"replicas_omitted"`

	// Messages since the process started.
	Skipped uint64 `json:"messages_skipped"` // that were not understood
	Lost    uint64 `json:"messages_lost"`    // that could not be sent, or found too many waiting
}

// Replica is a live replica, this one included.
type Replica struct {
	Name     string    `json:"name"`
	Locality string    `json:"locality,omitempty"`
	Address  string    `json:"address,omitempty"`
	Since    time.Time `json:"since"`  // when this replica first saw it
	Doubts   bool      `json:"doubts"` // it doubts itself, so its votes do not count
	Alone    bool      `json:"alone"`
	Checks   int       `json:"checks"` // that it shares with this replica
	Votes    int       `json:"votes"`
}

// FleetCheck is a check that this replica shares.
type FleetCheck struct {
	Name      string `json:"name"`
	Replicas  int    `json:"replicas"` // that have it
	Endpoints int    `json:"endpoints"`
	Probing   int    `json:"probing"`   // endpoints that this replica probes
	Differ    int    `json:"differ"`    // endpoints whose votes differ
	Lasting   int    `json:"lasting"`   // of these, those that did so for some intervals
	Undecided int    `json:"undecided"` // endpoints without a quorum: the last verdict stays
	Unvoted   int    `json:"unvoted"`   // endpoints without a valid vote
}

// ForeignCheck is a check of another replica that this one does not have. Differs reports that this
// replica has one of that name with other options.
type ForeignCheck struct {
	Replica string `json:"replica"`
	Check   string `json:"check"`
	Differs bool   `json:"differs"`
}

// Votes says how the replicas of a fleet vote on an endpoint. Voters is empty if there are too many
// endpoints to ask about, and none disagrees on this one.
type Votes struct {
	Up      int     `json:"up"`
	Down    int     `json:"down"`
	Probing bool    `json:"probing"` // this replica probes the endpoint
	Differ  bool    `json:"differ"`
	Voters  []Voter `json:"voters"` // the assigned ones first
}

// Voter is what one replica says about an endpoint: "up", "down", "no say", or "none" if it has not
// voted.
type Voter struct {
	Replica  string `json:"replica"`
	Vote     string `json:"vote"`
	Assigned bool   `json:"assigned"` // it is to probe the endpoint
	Counts   bool   `json:"counts"`   // it is there and does not doubt itself
}

// Seen returns Since for the page.
func (r *Replica) Seen() *time.Time { return &r.Since }

// Notes says what is special about the replica.
func (r *Replica) Notes() string {
	var notes []string
	if r.Doubts {
		notes = append(notes, "doubts itself")
	}
	if r.Alone {
		notes = append(notes, "alone")
	}
	return strings.Join(notes, ", ")
}

// String describes the check for people.
func (c FleetCheck) String() string {
	shown := fmt.Sprintf("%s: shared by %d, this one probes %d of %s", c.Name, c.Replicas, c.Probing, text.Count(c.Endpoints, "endpoint"))
	if c.Differ > 0 {
		shown += fmt.Sprintf(", replicas disagree on %d", c.Differ)
	}
	if c.Unvoted > 0 {
		shown += fmt.Sprintf(", no vote on %d", c.Unvoted)
	}
	return shown
}

// String describes the check for people.
func (c ForeignCheck) String() string {
	if c.Differs {
		return fmt.Sprintf("%s has %s with other options: not shared", c.Replica, c.Check)
	}
	return fmt.Sprintf("%s has %s, not in use here", c.Replica, c.Check)
}

// String describes the votes for people.
func (v *Votes) String() string {
	var voters []string
	for _, one := range v.Voters {
		voter := one.Replica + " " + one.Vote
		if one.Vote == "none" {
			voter = one.Replica + " has not voted"
		}
		if !one.Counts {
			voter += ", which does not count"
		}
		voters = append(voters, voter)
	}
	shown := fmt.Sprintf("votes: %d up, %d down", v.Up, v.Down)
	if len(voters) > 0 {
		shown += " (" + strings.Join(voters, "; ") + ")"
	}
	if !v.Probing {
		shown += ", not probed here"
	}
	return shown
}
