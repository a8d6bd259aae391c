// SPDX-License-Identifier: Apache-2.0

// Package statuspage serves what is known of the rules of a server to people, as a page, and to
// programs, as JSON. It is read-only and knows nothing of CoreDNS: what there is to show comes as a
// Document.
//
//	document.go  what is shown; docs/status.schema.json says the same, field by field
//	fleet.go     what of it is about a fleet
//	handler.go   the routes, who may ask, and the headers
//	server.go    the listener and its limits
//	assets/      the page: a template that is of use without JavaScript, and the script that keeps it alive
package statuspage

import (
	"slices"
	"time"
)

// Version is the version of the document's schema. Fields may be added to it. A field that changes
// its meaning or is removed makes another version, under another path.
const Version = 1

// Document is all that is shown at one time. Immutable once it is handed over.
type Document struct {
	Version int       `json:"version"`
	Time    time.Time `json:"time"`
	Window  int       `json:"window_seconds"` // that leads are counted over
	Process Process   `json:"process"`
	Fleet   *Fleet    `json:"fleet,omitempty"` // of the rules that are shown

	Problems  []Problem  `json:"problems"`
	Rules     []Rule     `json:"rules"`
	Names     []Name     `json:"names"` // those with members that are down first
	Endpoints []Endpoint `json:"endpoints"`

	NamesOmitted     int `json:"names_omitted"`
	EndpointsOmitted int `json:"endpoints_omitted"`
	// Zones of rules that do not name the option status.
	OtherRules []string `json:"other_rules"`
}

// Process is the server that the document is of.
type Process struct {
	Host         string     `json:"host"`
	Version      string     `json:"version"`
	Directory    string     `json:"directory"` // which relative paths of files start from
	Started      time.Time  `json:"started"`
	Reloaded     *time.Time `json:"last_reload"` // null before the first
	ReloadFailed bool       `json:"last_reload_failed"`
}

// Problem is what needs attention. Kind is "fail_open", "replaced", "all_failing", "unchecked",
// "reload", "file", "alone", "fleet", "disagreement" or "not_shared". A problem of the process or
// its fleet has no zone.
type Problem struct {
	Kind string `json:"kind"`
	Zone string `json:"zone"`
	Text string `json:"text"`
}

// Rule is a stanza in one of its zones.
type Rule struct {
	Zone    string   `json:"zone"`
	Policy  string   `json:"policy"`
	Servers []string `json:"servers"`
	View    string   `json:"view,omitempty"`
	Observe bool     `json:"observe"`
	// As the Corefile has them, without blocks, which may hold secrets.
	Options   []string `json:"options"`
	Checks    []Check  `json:"checks"`
	Files     []File   `json:"files"`
	Overrides string   `json:"overrides,omitempty"` // the path of that one of the files

	Localities []Locality `json:"localities,omitempty"` // of clients, with prefer locality
	Nodes      *Nodes     `json:"nodes,omitempty"`      // with locality kubernetes
}

// Locality says whose members led the answers to the clients of a locality, since the rule began.
// "unknown" stands for addresses of no known locality.
type Locality struct {
	Name    string          `json:"name"`
	Answers int             `json:"answers"`
	Leads   []LocalityLeads `json:"leads"` // most first
}

// LocalityLeads counts the answers that were led by members of a locality.
type LocalityLeads struct {
	Name    string `json:"name"`
	Answers int    `json:"answers"`
}

// Nodes says what is known of a cluster's nodes. Problem says why its API server cannot be reached;
// then the last state stays in force.
type Nodes struct {
	Cluster string `json:"cluster"`
	Synced  bool   `json:"synced"`
	Count   int    `json:"count"`
	Problem string `json:"problem,omitempty"`
}

// Check is a health_check of a rule, with the number of its endpoints by verdict.
type Check struct {
	Name       string `json:"name"`
	Up         int    `json:"up"`
	Down       int    `json:"down"`
	Unknown    int    `json:"unknown"`
	AllFailing bool   `json:"all_failing"`
}

// File is a file of a rule. A missing overrides file counts as an empty one.
type File struct {
	Path        string    `json:"path"`
	LastSuccess time.Time `json:"last_success"` // when it was last read and found good
	Since       time.Time `json:"since"`        // when its content came into force
	Missing     bool      `json:"missing"`
	// What is wrong with it; then what was read before stays in force.
	Problem string `json:"problem,omitempty"`
	// Lines that applied to no member since then: number and text.
	Unused []string `json:"unused"`

	UnusedOmitted int `json:"unused_omitted"`
}

// Name is an RRset in use. Answer says what the next answer is made of: "members", "fail_open",
// "nodata", "servfail" or "fallback". Section is "answer", "additional" or "hints".
type Name struct {
	Rule    int    `json:"rule"` // index in the document's rules
	Name    string `json:"name"`
	Type    string `json:"type"`
	Section string `json:"section"`
	// Of the HTTPS or SVCB record that hints are in.
	Priority   *int     `json:"priority,omitempty"`
	PreferLine *int     `json:"prefer_line,omitempty"` // of the Corefile
	Answer     string   `json:"answer"`
	Degraded   bool     `json:"degraded"`
	Tier       int      `json:"tier"`               // the one that answers; the first is 1
	FailedOver bool     `json:"failed_over"`        // it is not the first that has members
	Failback   string   `json:"failback,omitempty"` // why a later tier goes on serving
	Answers    int      `json:"answers"`            // in the window
	Down       int      `json:"down"`               // members
	Members    []Member `json:"members"`            // those that are down first

	MembersOmitted int `json:"members_omitted"`
}

// HasTiers reports whether its members are of more than one tier.
func (n *Name) HasTiers() bool {
	return slices.ContainsFunc(n.Members, func(m Member) bool { return m.Tier != n.Members[0].Tier })
}

// Member is one record of an RRset. State is "answers" if it has its turn in the next answers, else
// the reason why not: "limit", "drained", "tier", "damped", "locality" or "down".
type Member struct {
	Member  string     `json:"member"`
	Verdict string     `json:"verdict"` // of all checks together, or the override's
	Since   *time.Time `json:"since"`   // null if nothing is known of it
	State   string     `json:"state"`
	Weight  int        `json:"weight"`
	// With the factors that scale it; 0: it does not answer.
	WeightInForce float64 `json:"weight_in_force"`
	// How the weight changes over time, as the weight file has it.
	WeightRamp string `json:"weight_ramp,omitempty"`
	// Percent of its weight that slow_start gives it so far.
	Ramp int `json:"ramp,omitempty"`
	// Percent of its weight that load_weights leaves it.
	LoadWeights int       `json:"load_weights,omitempty"`
	Tier        int       `json:"tier"` // the first is 1
	Locality    string    `json:"locality,omitempty"`
	Override    *Override `json:"override"`
	Leads       Leads     `json:"leads"`
	Probes      []Probe   `json:"probes"` // one a check
}

// Leads are the answers that a member came first in, within the window. Shares are from 0 to 1.
type Leads struct {
	Wanted float64 `json:"wanted"` // its share from now on
	Served float64 `json:"served"` // its share in the window
	Count  int     `json:"count"`
}

// Override is what an operator says of a member. Until is null if it has no end.
type Override struct {
	What  string     `json:"what"`
	Until *time.Time `json:"until"`
	Why   string     `json:"why"`
	Where string     `json:"where"` // file and line
}

// Probe is what a check knows of an address. Milliseconds has one for each of the last probes,
// oldest first; Failed has the indexes of those that failed.
type Probe struct {
	Check        string     `json:"check"`
	Verdict      string     `json:"verdict"`
	Since        *time.Time `json:"since"` // null if it is not probed
	Failing      bool       `json:"failing"`
	Error        string     `json:"error,omitempty"` // of the last probe that failed
	Milliseconds []float64  `json:"milliseconds"`
	Failed       []int      `json:"failed"`
	// Why it is not probed, or what else there is to say.
	Note    string     `json:"note,omitempty"`
	Penalty int        `json:"penalty,omitempty"` // for flapping
	Reuse   *time.Time `json:"reuse,omitempty"`   // until when damping is to keep it out
	Load    *Load      `json:"load,omitempty"`    // what it says of its load
	Votes   *Votes     `json:"votes,omitempty"`   // of the replicas of the fleet
}

// Load is what an endpoint says of its load. Kind is "share", of its weight that it asks for, or
// "utilisation"; it is empty before the first valid report. Problem says why the last report is not
// valid.
type Load struct {
	Kind    string  `json:"kind,omitempty"`
	Value   float64 `json:"value"` // 1 is all of the weight, or fully busy
	Age     float64 `json:"age_seconds"`
	Problem string  `json:"problem,omitempty"`
}

// Endpoint is an endpoint that no name in the document has as a member.
type Endpoint struct {
	Zone    string `json:"zone"`
	Address string `json:"address"`
	Probe
}
