// SPDX-License-Identifier: Apache-2.0

package spread

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPresence(t *testing.T) {
	start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	rounds := []struct {
		sight sight // at the round's number in seconds
		want  []string
	}{
		{sight{members: []string{"a", "b"}, rcode: "NOERROR", ttl: "30"}, []string{"12:00:00.0  + a", "12:00:00.0  + b"}},
		{sight{members: []string{"b", "a"}, rcode: "NOERROR", ttl: "30"}, nil},
		{sight{members: []string{"b"}, rcode: "NOERROR", ttl: "5"}, []string{"12:00:02.0  - a (was there for 2s)", "12:00:02.0  ! TTL 5, was 30"}},
		{sight{trouble: "no answer in time"}, []string{"12:00:03.0  ! no answers: no answer in time"}},
		{sight{trouble: "no answer in time"}, nil},
		{sight{trouble: "connection refused"}, []string{"12:00:05.0  ! no answers: connection refused"}},
		{sight{members: []string{"b", "c"}, rcode: "NOERROR", ttl: "5"}, []string{"12:00:06.0  ! answers again", "12:00:06.0  + c"}},
		{sight{members: []string{"a", "b", "c"}, rcode: "NOERROR", ttl: "30"}, []string{"12:00:07.0  + a (was away for 5s)", "12:00:07.0  ! TTL 30, was 5"}},
		{sight{rcode: "SERVFAIL"}, []string{
			"12:00:08.0  - a (was there for 1s)", "12:00:08.0  - b (was there for 8s)", "12:00:08.0  - c (was there for 2s)",
			"12:00:08.0  ! rcode SERVFAIL, was NOERROR",
		}},
	}
	p := &presence{}
	for i, round := range rounds {
		round.sight.at = start.Add(time.Duration(i) * time.Second)
		var got []string
		for _, e := range p.after(round.sight) {
			got = append(got, strings.TrimSuffix(e.line(screen{}), "\n"))
		}
		if !slices.Equal(got, round.want) {
			t.Errorf("round %d: %q, want %q", i, got, round.want)
		}
	}
	want := []string{"a was there for 3s of 10s and went 2 times", "b was there for 8s of 10s and went 1 time", "c was there for 2s of 10s and went 1 time"}
	if got := p.summary(start.Add(10 * time.Second)); !slices.Equal(got, want) {
		t.Errorf("summary is %q, want %q", got, want)
	}
}
