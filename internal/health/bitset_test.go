// SPDX-License-Identifier: Apache-2.0

package health

import (
	"slices"
	"testing"
)

func TestBitset(t *testing.T) {
	var s bitset
	if s.has(0) || s.has(1000) {
		t.Error("an empty set has members")
	}
	for _, n := range []uint32{1000, 0, 63, 64, 5, 64} {
		s.add(n)
	}
	s.remove(5)
	if got := slices.Collect(s.all()); !slices.Equal(got, []uint32{0, 63, 64, 1000}) {
		t.Errorf("the set has %v", got)
	}
	if s.has(5) || s.has(1001) || !s.has(1000) || !s.has(64) {
		t.Error("has and all disagree")
	}
}
