// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"testing"
	"testing/synctest"
	"time"
)

// Counts are added up over the other replicas, as long as these say them, and whatever one of them
// sends besides.
func TestCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 4)
		w.run(time.Second)
		for topic := range uint64(3 * MaxTopics) {
			message := header{1, keyOf("r3"), 0}.bytes()
			message = appendSection(message, kindCounts, func(to []byte) []byte { return appendCounts(to, 100+topic, []Count{{"a", 1}}) })
			w.nodes[0].fleet.Hear(message)
		}
		for i, n := range w.nodes[:3] {
			n.fleet.SetCounts(7, []Count{{"a", uint64(i + 1)}, {"b", 10}})
		}
		w.run(15 * time.Second)
		if sum := w.nodes[0].fleet.OtherCounts(7); sum["a"] != 5 || sum["b"] != 20 || len(sum) != 2 {
			t.Errorf("the others count %v, want 5 of a and 20 of b", sum)
		}
		w.run(countsLast)
		if sum := w.nodes[0].fleet.OtherCounts(7); len(sum) != 0 {
			t.Errorf("the others count %v although they have been silent", sum)
		}
		w.run(countsInterval)
		for _, n := range w.nodes {
			n.fleet.mu.Lock()
			if len(n.fleet.topics) != 0 {
				t.Errorf("%s keeps %d topics", n.name, len(n.fleet.topics))
			}
			n.fleet.mu.Unlock()
		}
	})
}
