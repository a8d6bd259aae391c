// SPDX-License-Identifier: Apache-2.0

package schedule

// rotation is strict round robin: every turn is led by the item after the one that led the turn
// before. The rest follows in rotation: [0 1 2], [1 2 0], [2 0 1].
type rotation struct{ n uint64 }

func (r rotation) length() uint64       { return r.n }
func (r rotation) lead(turn uint64) int { return int(turn) }

func (r rotation) Order(turn uint64, order []uint16) { r.from(turn%r.n, order) }

// from fills order with the items from first on, in rotation.
func (r rotation) from(first uint64, order []uint16) {
	head := min(r.n-first, uint64(len(order))) // items up to the last one, n-1
	for i := range order[:head] {
		order[i] = uint16(first) + uint16(i)
	}
	for i := range order[head:] {
		order[int(head)+i] = uint16(i)
	}
}

// Resume continues with the item that was due. If that has gone, or was the only one, it continues
// with the one after the last that led. So no item is skipped or leads twice because others come
// and go. Among items that had different weights a random one replaces the item that has gone;
// otherwise light items would inherit the turns of heavy ones.
func (r rotation) Resume(before Schedule, turn uint64, find Find) uint64 {
	was, ok := before.(cyclic)
	if !ok {
		return turn
	}
	due, found := find(was.lead(turn % was.length()))
	_, equal := before.(rotation)
	switch {
	case found && was.length() > 1:
		return somewhere(turn, uint64(due), r.n)
	case !found && !equal:
		return dice(turn) >> 1
	}
	last, found := find(was.lead((turn%was.length() + was.length() - 1) % was.length()))
	if found {
		last++
	}
	return somewhere(turn, uint64(last)%r.n, r.n)
}

// somewhere returns a turn that is place in a cycle of some length. Which cycle it is in depends on
// the turn before, because what is computed from turns must not repeat sooner than they do.
func somewhere(turn, place, length uint64) uint64 {
	start := dice(turn) >> 1 // far from an overflow
	return start - start%length + place
}
