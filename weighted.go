// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"math"
	"slices"
	"sort"
)

// weighted lets every member lead in exact proportion to its weight: over any W/gcd answers, W
// being the sum of the weights, weight/gcd of them, and spread out. Equal weights are a rotation.
//
// The leads follow smooth weighted round robin, as nginx has had it since 1.3.1, wherever W/gcd is
// at most maxCycle: the weights 5, 1, 1 give a a b a c a a. Longer cycles, which would cost memory
// and time to work out, follow hierarchical stride scheduling (Waldspurger: Lottery and Stride
// Scheduling, MIT/LCS/TR-667, 1995, section 3.3), which is worked out turn by turn: it is as exact
// over a cycle, and at any time in between no member is further from its share than the binary
// tree of m members is deep, in practice less than two leads.
type weighted struct{}

var (
	_ policy   = weighted{}
	_ schedule = &cycle{}
	_ sized    = &cycle{}
)

// maxCycle is the longest cycle that is worked out beforehand, at 4 bytes an answer.
const maxCycle = 1024

func (weighted) schedule(of contest) schedule {
	divisor := uint64(of.weights[0])
	for _, w := range of.weights {
		divisor = gcd(divisor, uint64(w))
	}
	c := &cycle{first: make([]uint64, len(of.members)+1)}
	for i, w := range of.weights {
		c.first[i+1] = c.first[i] + uint64(w)/divisor
	}
	if c.length() == uint64(len(of.members)) {
		return rotation{c.length()}
	}
	if c.length() <= maxCycle {
		c.leads = c.smooth()
	} else {
		c.tree = newStrideTree(c.first)
	}
	if of.wanted < len(of.members) {
		c.sample = newSample(c.first, of.wanted)
	}
	return c
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// resume goes on with the member that was due, at one of its two leads around the place in the new
// cycle where the turn stood in the old one: the nearer, the likelier. Were it the nearest always, sets
// that take turns with each other could keep somebody from its leads for ever. Where the member that was
// due has gone lots are drawn, by weight: were it whoever comes next, light ones would inherit the leads
// of heavy ones. Behind an only member it is the turn after any of its leads. Between equal weights it
// goes on as round robin does.
func (weighted) resume(now, before *group, turn uint64) uint64 {
	was, ok := before.schedule.(cyclic)
	if !ok {
		return turn
	}
	is := now.schedule.(cyclic) // one of those that schedule returns
	dice := splitMix(turn + splitMixStep)
	if alike(now.schedule, before.schedule) {
		return placed(roundRobin{}.resume(now, before, turn), is, dice)
	}
	place := turn % was.length()
	due := before.members[was.lead(place)]
	at := now.at(&due)
	if now.members[at].compare(&due) != 0 {
		return dice >> 1
	}
	if was.length() == 1 {
		return placed(is.turnOf(at, fraction(splitMix(dice)), fraction(dice))+1, is, dice)
	}
	return placed(is.turnOf(at, float64(place)/float64(was.length()), fraction(dice)), is, dice)
}

// fraction returns dice as a number from 0 to below 1.
func fraction(dice uint64) float64 { return float64(dice>>11) / (1 << 53) }

// placed returns a turn at a place in a cycle, and another one for other dice: what follows from a turn
// must not repeat itself sooner than turns do.
func placed(place uint64, in cyclic, dice uint64) uint64 {
	dice >>= 1 // far from overflow
	return dice - dice%in.length() + place
}

// alike tells whether both schedules are rotations, as equal weights have them.
func alike(a, b schedule) bool {
	_, first := a.(rotation)
	_, second := b.(rotation)
	return first && second
}

// cyclic is a schedule whose leads repeat.
type cyclic interface {
	length() uint64       // of the cycle, in turns
	lead(turn uint64) int // who leads at a turn of the cycle

	// turnOf returns the turn of a lead of a member: the one before a position in the cycle, 0 <= position < 1,
	// or the one after it, the nearer the likelier by a throw of dice, 0 <= dice < 1.
	turnOf(member int, position, dice float64) uint64
}

func (r rotation) length() uint64                         { return r.size }
func (r rotation) lead(turn uint64) int                   { return int(turn) }      //nolint:gosec // an index
func (r rotation) turnOf(member int, _, _ float64) uint64 { return uint64(member) } //nolint:gosec // an index

// cycle is the schedule of weighted. Every lead of a member in the cycle is a cell: those of the
// first member come first, then those of the second, and so on. Each turn leads with one cell.
type cycle struct {
	first  []uint64    // every member's first cell, and the number of cells
	leads  []uint16    // every turn's cell; nil for a long cycle
	tree   *strideTree // of a long cycle
	sample *sample     // nil where answers hold all members
}

// size returns about how many bytes the schedule takes.
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

// cell returns the cell that leads at a turn of the cycle.
func (c *cycle) cell(turn uint64) uint64 {
	if c.leads != nil {
		return uint64(c.leads[turn])
	}
	return c.tree.cell(turn)
}

func (c *cycle) lead(turn uint64) int { return memberAt(c.first, c.cell(turn)) }

// memberAt returns the member that a cell belongs to.
func memberAt(first []uint64, cell uint64) int {
	return sort.Search(len(first)-2, func(i int) bool { return first[i+1] > cell })
}

func (c *cycle) turnOf(member int, position, dice float64) uint64 {
	leads := c.first[member+1] - c.first[member]
	near := uint64(position * float64(leads))
	var before, after uint64
	behind, ahead := 2.0, 2.0                                 // how far from the position they are, in cycles
	for nth := near + leads - 1; nth <= near+leads+1; nth++ { // leads are spread out: they are among these
		turn := c.turn(c.first[member] + nth%leads)
		off := float64(turn)/float64(c.length()) - position
		if back := -off + math.Ceil(off); back < behind {
			behind, before = back, turn
		}
		if on := off - math.Floor(off); on < ahead {
			ahead, after = on, turn
		}
	}
	if dice*(behind+ahead) < ahead {
		return before
	}
	return after
}

// turn returns the turn of the cycle at which a cell leads.
func (c *cycle) turn(cell uint64) uint64 {
	if c.leads != nil {
		return uint64(slices.Index(c.leads, uint16(cell))) //nolint:gosec // found, and at most maxCycle
	}
	return c.tree.turnOf(cell)
}

func (c *cycle) order(turn uint64, idx []uint16) {
	at := turn % c.length()
	cell := c.cell(at)
	lead := memberAt(c.first, cell)
	if c.sample != nil && len(idx) < len(c.first)-1 {
		c.sample.order(turn/c.length(), uint16(lead), cell-c.first[lead], idx) //nolint:gosec // an index
		return
	}
	rotation{uint64(len(c.first) - 1)}.from(uint64(lead), idx) //nolint:gosec // an index
}

// smooth works out smooth weighted round robin: at every turn all members gain their weight, the
// one with most leads, and pays the sum of the weights.
func (c *cycle) smooth() []uint16 {
	members := len(c.first) - 1
	balance := make([]int64, members)
	next := slices.Clone(c.first[:members])
	leads := make([]uint16, c.length())
	for turn := range leads {
		lead := 0
		for i := range balance {
			balance[i] += int64(c.first[i+1] - c.first[i]) //nolint:gosec // a weight
			if balance[i] > balance[lead] {
				lead = i
			}
		}
		balance[lead] -= int64(c.length()) //nolint:gosec // at most maxCycle
		leads[turn] = uint16(next[lead])   //nolint:gosec // at most maxCycle
		next[lead]++
	}
	return leads
}
