// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"strings"
	"time"

	"github.com/seed-f1518d44/balance/internal/health"
	"github.com/seed-f1518d44/balance/internal/inforce"
	"github.com/seed-f1518d44/balance/internal/load"
	"github.com/seed-f1518d44/balance/internal/statuspage"
)

// The option load_weights: members that say that they are busy get less than their weight.
// internal/load decides how much less, applied.weigh asks it.

// defaultLoadFloor is the smallest part of its weight that a member gets, in percent.
const defaultLoadFloor = 10

// parseLoadWeights reads "load_weights [FLOOR%]".
func parseLoadWeights(args []string) (floor int, err error) {
	switch len(args) {
	case 0:
		return defaultLoadFloor, nil
	case 1:
		percent, isPercent := strings.CutSuffix(args[0], "%")
		n, err := parseNumber(percent, 1, 99)
		if err != nil || !isPercent {
			return 0, fmt.Errorf("bad floor %q: want the smallest part of a weight, from 1%% to 99%%", args[0])
		}
		return int(n), nil
	}
	return 0, wrongCount(args)
}

// loadWeights is the option, with what it depends on. The zero value is a rule without it.
type loadWeights struct {
	floor    int           // the smallest part of its weight that a member gets, in percent
	interval time.Duration // between reports, by the slowest of the checks, and between changes
	ttl      time.Duration // how long answers are kept
}

// given reports whether the rule has the option.
func (o *loadWeights) given() bool { return o.floor > 0 }

// limits returns the limits of the controller.
func (o *loadWeights) limits() load.Limits {
	return load.Limits{Floor: float64(o.floor) / 100, TTL: o.ttl, Interval: o.interval}
}

// nextLook returns when to look at loads again. It is the same for all RRsets, so that they share
// plans.
func (o *loadWeights) nextLook(now time.Time) time.Time {
	return now.Truncate(o.interval).Add(o.interval)
}

// setRamps sets how much of its weight a slow start leaves each member. The standings are without
// factors of load_weights.
func setRamps(members []load.Member, standings []standing) {
	groups := make(map[uint16][]int)
	for i := range members {
		if members[i].Weight > 0 {
			groups[members[i].Group] = append(groups[members[i].Group], i)
		}
	}
	for _, group := range groups {
		all := make([]inforce.Weight, len(group))
		for at, i := range group {
			all[at] = inforce.Weight{Static: standings[i].share(), Factors: standings[i].factors}
		}
		for at, weight := range inforce.Weights(all) {
			members[group[at]].Ramp = float64(weight) / inforce.Whole / float64(all[at].Static)
		}
	}
}

// isValid reports whether what an endpoint says holds a report that is not too old.
func (o *loadWeights) isValid(said health.Load, now time.Time) bool {
	return said.Report.Kind != load.Nothing && now.Sub(said.At) <= load.Patience*o.interval
}

// silence says that a member has been without a valid report for so long that the controller goes
// without one, "" if it has not.
func (o *loadWeights) silence(said health.Load, now time.Time) string {
	if o.isValid(said, now) {
		return ""
	}
	since := "so far"
	if said.Report.Kind != load.Nothing {
		since = "for " + now.Sub(said.At).Round(time.Second).String()
	}
	return fmt.Sprintf("load_weights: no valid load report %s: it gets the mean of the others' parts, and no more than it has", since)
}

// loadText describes what an endpoint says of its load, "" if that is nothing or no load.
func loadText(l health.Load, now time.Time) string {
	ago := now.Sub(l.At).Round(time.Second)
	switch {
	case l.Problem != "":
		return l.Problem
	case l.Report.Kind == load.Utilisation:
		return fmt.Sprintf("%.0f%% busy, %s ago", 100*l.Report.Value, ago)
	case l.Report.Kind == load.Share && l.Report.Value < 1:
		return fmt.Sprintf("asks for %.0f%% of its weight, %s ago", 100*l.Report.Value, ago)
	}
	return ""
}

// shownLoad returns what an endpoint says of its load for the page, nil if that is nothing.
func shownLoad(l health.Load, now time.Time) *statuspage.Load {
	if l == (health.Load{}) {
		return nil
	}
	shown := &statuspage.Load{Problem: l.Problem}
	if l.Report.Kind != load.Nothing {
		shown.Kind, shown.Value = loadKinds[l.Report.Kind], l.Report.Value
		shown.Age = max(now.Sub(l.At), 0).Seconds()
	}
	return shown
}

// loadKinds are the kinds of reports for programs.
var loadKinds = [...]string{load.Share: "share", load.Utilisation: "utilisation"}
