// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"math"
	"slices"
	"sort"
)

// maxCycle is the longest cycle that is computed in advance, at 2 bytes a turn.
const maxCycle = 1024

// Weighted returns a schedule in which every item leads in exact proportion to its weight: over any
// W/gcd turns, W being the sum of the weights, weight/gcd times, spread out. Weights are 1 to
// 65535. Equal weights are a rotation. Orders have the length wanted, 1 to n, or n.
//
// Cycles of at most maxCycle turns are smooth weighted round robin as nginx has it since 1.3.1
// (https://github.com/nginx/nginx/commit/52327e0627f4): the weights 5, 1, 1 lead 0 0 1 0 2 0 0.
// Longer cycles would take memory and time to compute. They are hierarchical stride scheduling
// (Waldspurger: Lottery and Stride Scheduling, MIT/LCS/TR-667, 1995, section 3.3), which needs no
// memory for a turn. It is as exact over a cycle. In between an item is never further from its
// share than the depth of a binary tree of n items, in practice less than two turns.
func Weighted(weights []uint16, wanted int) Schedule {
	c := &cycle{first: firstCells(weights)}
	n := len(weights)
	switch {
	case c.length() == uint64(n):
		return rotation{uint64(n)}
	case c.length() <= maxCycle:
		c.leads = smooth(c.first)
	default:
		c.tree = newStrideTree(c.first)
	}
	if wanted < n {
		c.sample = newSample(c.first, wanted)
	}
	return c
}

// firstCells returns the first cell of every item, and the number of cells. An item has as many
// cells as its weight divided by the greatest common divisor of all weights.
func firstCells(weights []uint16) []uint64 {
	divisor := uint64(0)
	for _, w := range weights {
		divisor = gcd(divisor, uint64(w))
	}
	first := make([]uint64, len(weights)+1)
	for i, w := range weights {
		first[i+1] = first[i] + uint64(w)/divisor
	}
	return first
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// cycle is the schedule for weights that differ. Each turn of the cycle belongs to a cell: the
// cells of item 0 come first, then those of item 1, and so on.
type cycle struct {
	first  []uint64    // the first cell of every item, and the number of cells
	leads  []uint16    // the cell of every turn; nil for a long cycle
	tree   *strideTree // of a long cycle
	sample *sample     // nil if orders hold all items
}

func (c *cycle) size() int {
	bytes := 8*len(c.first) + 2*len(c.leads)
	if c.tree != nil {
		bytes += 48 * len(c.tree.nodes)
	}
	if c.sample != nil {
		bytes += 34 * len(c.first)
	}
	return bytes
}

func (c *cycle) length() uint64 { return c.first[len(c.first)-1] }

func (c *cycle) lead(turn uint64) int { return itemOf(c.first, c.cell(turn)) }

// cell returns the cell of a turn of the cycle.
func (c *cycle) cell(turn uint64) uint64 {
	if c.leads != nil {
		return uint64(c.leads[turn])
	}
	return c.tree.cell(turn)
}

// turn returns the turn of a cell: the inverse of cell.
func (c *cycle) turn(cell uint64) uint64 {
	if c.leads != nil {
		return uint64(slices.Index(c.leads, uint16(cell)))
	}
	return c.tree.turn(cell)
}

// itemOf returns the item that a cell belongs to.
func itemOf(first []uint64, cell uint64) int {
	return sort.Search(len(first)-2, func(i int) bool { return first[i+1] > cell })
}

func (c *cycle) Order(turn uint64, order []uint16) {
	cell := c.cell(turn % c.length())
	lead := itemOf(c.first, cell)
	if c.sample != nil && len(order) < len(c.first)-1 {
		c.sample.order(turn/c.length(), uint16(lead), cell-c.first[lead], order)
		return
	}
	rotation{uint64(len(c.first) - 1)}.from(uint64(lead), order)
}

// Resume continues with the item that was due, at one of its two turns around the point of the new
// cycle that the old one had reached. The nearer one is the likelier. If it were always the
// nearest, sets that alternate could keep an item from ever leading. If the item has gone, the turn
// is random; otherwise light items would inherit the turns of heavy ones. An only item has no
// position in a cycle: after it a random one of its turns counts as the last.
func (c *cycle) Resume(before Schedule, turn uint64, find Find) uint64 {
	was, ok := before.(cyclic)
	if !ok {
		return turn
	}
	random := dice(turn)
	at := turn % was.length()
	due, found := find(was.lead(at))
	switch {
	case !found:
		return random >> 1
	case was.length() == 1:
		return somewhere(turn, c.turnNear(due, fraction(Mix(random)), fraction(random))+1, c.length())
	}
	return somewhere(turn, c.turnNear(due, float64(at)/float64(was.length()), fraction(random)), c.length())
}

// turnNear returns a turn that an item leads: the last before a position in the cycle or the first
// after it, where 0 <= position < 1. A random number, 0 <= random < 1, decides which: the nearer is
// the likelier.
func (c *cycle) turnNear(item int, position, random float64) uint64 {
	leads := c.first[item+1] - c.first[item]
	near := uint64(position * float64(leads))
	var before, after uint64
	behind, ahead := 2.0, 2.0 // the distances from the position, in cycles
	// An item's turns are spread out, so the two are among these three.
	for nth := near + leads - 1; nth <= near+leads+1; nth++ {
		turn := c.turn(c.first[item] + nth%leads)
		offset := float64(turn)/float64(c.length()) - position
		if back := math.Ceil(offset) - offset; back < behind {
			behind, before = back, turn
		}
		if on := offset - math.Floor(offset); on < ahead {
			ahead, after = on, turn
		}
	}
	if random*(behind+ahead) < ahead {
		return before
	}
	return after
}

// smooth computes the cells of smooth weighted round robin. At every turn each item gains its
// weight. The item with the most leads, and pays the sum of all weights.
func smooth(first []uint64) (leads []uint16) {
	n, length := len(first)-1, first[len(first)-1]
	credit := make([]int64, n)
	next := slices.Clone(first[:n])
	for range length {
		lead := 0
		for i := range credit {
			credit[i] += int64(first[i+1] - first[i])
			if credit[i] > credit[lead] {
				lead = i
			}
		}
		credit[lead] -= int64(length)
		leads = append(leads, uint16(next[lead]))
		next[lead]++
	}
	return leads
}
