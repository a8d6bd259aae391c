// SPDX-License-Identifier: Apache-2.0

package health

import (
	"strings"
	"testing"
)

// endpointsOf returns an endpoint for each letter.
func endpointsOf(letters string, v Verdict, last speed) (all []*endpoint) {
	for range letters {
		all = append(all, &endpoint{tracker: tracker{verdict: v}, speed: last, heap: -1})
	}
	return all
}

// mayServe serves all, or all but the silent.
func mayServe(silentToo bool) func(class, *scope) bool {
	return func(c class, _ *scope) bool { return silentToo || c != silent }
}

// In each class the scopes take turns, and the classes take turns. The endpoints in upper case
// belong to a scope that has few.
func TestBacklogIsFair(t *testing.T) {
	var b backlog
	names := map[*endpoint]string{}
	push := func(s *scope, letters string, v Verdict, last speed) {
		for i, e := range endpointsOf(letters, v, last) {
			names[e] = letters[i : i+1]
			b.push(s, e)
		}
	}
	many, few := new(scope), new(scope)
	push(many, "abcd", Up, prompt)
	push(many, "wxyz", Down, timedOut)
	push(few, "AB", Up, prompt)
	push(few, "W", Down, timedOut)
	take := func(silentToo bool) string {
		var taken strings.Builder
		for e, _ := b.pop(mayServe(silentToo)); e != nil; e, _ = b.pop(mayServe(silentToo)) {
			taken.WriteString(names[e])
		}
		return taken.String()
	}
	if got := take(true); got != "awAWbxBycz"+"d" {
		t.Errorf("order %s, want awAWbxByczd", got)
	}
	push(many, "wx", Unknown, prompt)
	push(many, "a", Down, prompt)
	if got := take(false); got != "a" || b.empty(mayServe(true)) || !b.empty(mayServe(false)) {
		t.Errorf("took %s without the silent ones, want a", got)
	}
	if got := take(true); got != "wx" || !b.empty(mayServe(true)) {
		t.Errorf("took %s, want wx", got)
	}
}

// What is down, or took long, has another class than what is up and prompt.
func TestClassOfAnEndpoint(t *testing.T) {
	for _, tc := range []struct {
		verdict Verdict
		last    speed
		want    class
	}{
		{Up, prompt, proven}, {Up, lasting, slow}, {Up, timedOut, slow}, {Down, prompt, slow}, {Down, lasting, slow},
		{Down, timedOut, silent}, {Unknown, prompt, silent},
	} {
		if got := endpointsOf("a", tc.verdict, tc.last)[0].class(); got != tc.want {
			t.Errorf("%v, %d: class %d, want %d", tc.verdict, tc.last, got, tc.want)
		}
	}
}

// An endpoint can leave its line from anywhere.
func TestLineRemove(t *testing.T) {
	var b backlog
	s := new(scope)
	all := endpointsOf("abc", Up, prompt)
	for _, e := range all {
		b.push(s, e)
	}
	for _, e := range all {
		e.line.remove(e)
		if e.place != nil {
			t.Error("it still has a place")
		}
	}
	if e, _ := b.pop(mayServe(true)); e != nil || !b.empty(mayServe(true)) {
		t.Errorf("took %v of an empty line", e)
	}
}
