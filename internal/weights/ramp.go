// SPDX-License-Identifier: Apache-2.0

package weights

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ramp changes a weight over time, linearly and in steps of 1. It depends on nothing but the time
// of day, in whole seconds: so all replicas have the same weight at the same time, a restart
// changes nothing, and many ramps together make at most one step a second. Immutable.
type ramp struct {
	to    uint16
	begin int64 // Unix time
	last  int64 // how many seconds the ramp lasts, at least 1
}

// At returns the weight at a time. A step is made when it is due, never earlier.
func (l *Line) At(now time.Time) uint16 {
	r := l.ramp
	if r == nil {
		return l.Weight
	}
	passed := min(max(now.Unix()-r.begin, 0), r.last)
	return uint16(int64(l.Weight) + (int64(r.to)-int64(l.Weight))*passed/r.last)
}

// Changes reports whether the weight changes over time.
func (l *Line) Changes() bool { return l.ramp != nil }

// next returns the Unix time of the first step after a time: the beginning counts as one. It is 0
// if there is none.
func (l *Line) next(now time.Time) int64 {
	r := l.ramp
	steps := int64(r.to) - int64(l.Weight)
	if steps < 0 {
		steps = -steps
	}
	passed := now.Unix() - r.begin
	switch {
	case passed < 0:
		return r.begin
	case steps == 0 || passed >= r.last:
		return 0
	}
	made := steps * passed / r.last
	return r.begin + ((made+1)*r.last+steps-1)/steps // rounded up
}

func (l *Line) begins() time.Time { return time.Unix(l.ramp.begin, 0).UTC() }
func (l *Line) ends() time.Time   { return time.Unix(l.ramp.begin+l.ramp.last, 0).UTC() }

// Text writes the weight as it may stand in a file.
func (l *Line) Text() string {
	text := strconv.Itoa(int(l.Weight))
	if l.ramp == nil {
		return text
	}
	over := (time.Duration(l.ramp.last) * time.Second).String()
	if minutes, whole := strings.CutSuffix(over, "m0s"); whole {
		over = minutes + "m"
	}
	if hours, whole := strings.CutSuffix(over, "h0m"); whole {
		over = hours + "h"
	}
	return fmt.Sprintf("%s to %d from %s over %s", text, l.ramp.to, l.begins().Format(time.RFC3339), over)
}

// sameWeight reports whether two lines have the same weight at all times.
func (l *Line) sameWeight(other *Line) bool { return l.Text() == other.Text() }

// maxRamp is the longest ramp: a year.
const maxRamp = 365 * 24 * time.Hour

// rampForm is what follows the weight that a ramp begins with.
const rampForm = "to WEIGHT from TIME over DURATION"

// parseRamp reads "to WEIGHT from TIME over DURATION".
func parseRamp(words []string) (*ramp, error) {
	if len(words) != 6 || words[0] != "to" || words[2] != "from" || words[4] != "over" {
		return nil, fmt.Errorf("behind the weight: found %q: want nothing, or %s", words, rampForm)
	}
	to, err := parseWeight(words[1])
	if err != nil {
		return nil, err
	}
	begin, err := time.Parse(time.RFC3339, words[3])
	if err == nil {
		_, err = begin.MarshalText() // time.Parse takes offsets that RFC 3339 does not have
	}
	if err == nil {
		_, err = begin.UTC().MarshalText() // nor may UTC be in another millennium
	}
	if err != nil {
		return nil, fmt.Errorf("bad time %q: want one such as 2026-12-01T10:00:00Z", words[3])
	}
	over, err := time.ParseDuration(words[5])
	if err != nil || over < time.Second || over > maxRamp || over%time.Second != 0 {
		return nil, fmt.Errorf("bad duration %q: want whole seconds, from 1s to 8760h, such as 2h", words[5])
	}
	return &ramp{to: to, begin: begin.Unix(), last: int64(over / time.Second)}, nil
}
