// SPDX-License-Identifier: Apache-2.0

package health

import (
	"strings"
	"testing"
)

// endpointsOf returns an endpoint for each letter.
func endpointsOf(letters string, v Verdict, silent bool) (all []*endpoint) {
	for range letters {
		all = append(all, &endpoint{tracker: tracker{verdict: v}, silent: silent, heap: -1})
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
	push := func(s *scope, letters string, v Verdict, silent bool) {
		for i, e := range endpointsOf(letters, v, silent) {
			names[e] = letters[i : i+1]
			b.push(s, e)
		}
	}
	many, few := new(scope), new(scope)
	push(many, "abcd", Up, false)
	push(many, "wxyz", Down, true)
	push(few, "AB", Up, false)
	push(few, "W", Down, true)
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
	push(many, "wx", Unknown, false)
	push(many, "a", Down, false)
	if got := take(false); got != "a" || b.empty(mayServe(true)) || !b.empty(mayServe(false)) {
		t.Errorf("took %s without the silent ones, want a", got)
	}
	if got := take(true); got != "wx" || !b.empty(mayServe(true)) {
		t.Errorf("took %s, want wx", got)
	}
}

// An endpoint can leave its line from anywhere.
func TestLineRemove(t *testing.T) {
	var b backlog
	s := new(scope)
	all := endpointsOf("abc", Up, false)
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
