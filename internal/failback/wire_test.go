// SPDX-License-Identifier: Apache-2.0

package failback

import (
	"bytes"
	"reflect"
	"testing"
	"time"
)

// failedOver is a state in which the third of three tiers serves, and an earlier one is healthy.
func failedOver() State {
	p, s := Policy{Mode: Manual}, State{}
	for _, tiers := range []string{"hhh", "ffh", "fhh"} {
		s = p.Decide(s, step{at: float64(len(s.earlier)), tiers: tiers}.look(nil)).State
	}
	return s
}

// A state travels as ages: the same clock or not, the other replica has the same state.
func TestStateTravels(t *testing.T) {
	s, now, ahead := failedOver(), minute(7), 1000*time.Hour
	sent := s.Append([]byte("before"), now)
	got, rest, ok := Read(append(sent[len("before"):], "rest"...), now.Add(ahead))
	want := State{true, 2, s.since.Add(ahead), s.looked.Add(ahead), []Tier{{1, true, s.earlier[0].Since.Add(ahead)}}}
	if !ok || string(rest) != "rest" || !reflect.DeepEqual(got, want) || !got.FailedOver() {
		t.Errorf("got %+v, %q, %v; want %+v", got, rest, ok, want)
	}
	if (State{}).FailedOver() || (State{serves: true}).FailedOver() {
		t.Error("a state in which the first tier serves has failed over")
	}
}

// What another replica says cannot have a tier serve that is not there or that has failed.
func TestStateOfAnotherReplica(t *testing.T) {
	s, _, _ := Read(failedOver().Append(nil, minute(7)), minute(7))
	for tiers, want := range map[string]uint16{"hh": 0, "hhf": 0, "fhf": 1, "fhh": 2, "hhh": 2} {
		d := Policy{Mode: Manual}.Decide(s, step{at: 8, tiers: tiers}.look(nil))
		if d.State.Tier() != want || d.Kept != 0 && d.Kept != want {
			t.Errorf("tiers %s: tier %d serves and %d is kept, want %d", tiers, d.State.Tier(), d.Kept, want)
		}
	}
}

// A state need not be one.
func TestReadRefuses(t *testing.T) {
	whole := failedOver().Append(nil, minute(7))
	for n := range whole {
		if _, _, ok := Read(whole[:n], minute(7)); ok {
			t.Errorf("%d of %d bytes are a state", n, len(whole))
		}
	}
	for name, bad := range map[string][]byte{
		"the first tier":   {0, 1, 1, 0},
		"no such tier":     {0xff, 0xff, 0xff, 1, 1, 1, 0},
		"an endless age":   append(append([]byte{1}, bytes.Repeat([]byte{0xff}, 8)...), 1, 1, 0),
		"too many earlier": {1, 1, 1, maxEarlier + 1},
	} {
		if _, _, ok := Read(bad, minute(7)); ok {
			t.Errorf("%s: %v is a state", name, bad)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(failedOver().Append(nil, minute(7)))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, rest, ok := Read(b, minute(7))
		if ok && (!s.FailedOver() || len(s.earlier) > maxEarlier || s.since.After(minute(7)) || len(rest) > len(b)) {
			t.Errorf("%+v", s)
		}
	})
}
