// SPDX-License-Identifier: Apache-2.0

package balance

import "sort"

// strideTree is hierarchical stride scheduling: a binary tree with the members as leaves, in which
// every node deals its turns to its two halves in proportion to their weights. As a node knows how
// many of its first n turns go left without having dealt them, so does the tree know any turn's
// leaf. Immutable.
type strideTree struct {
	first []uint64 // every member's first cell, and the number of cells
	nodes []strideNode
}

// strideNode deals its turns to the members from its first to the one before its middle, left, and
// to those from there on, right.
type strideNode struct {
	middle      int
	left, total uint64 // weights
	children    [2]int // nodes; where the half is one member, -1
}

func newStrideTree(first []uint64) *strideTree {
	t := &strideTree{first: first}
	t.grow(0, len(first)-1)
	return t
}

// grow adds the node of the members from <= i < to and those below, and returns its index. The
// halves weigh about the same, so that heavy members are near the root.
func (t *strideTree) grow(from, to int) int {
	if to-from == 1 {
		return -1
	}
	half := (t.first[from] + t.first[to]) / 2
	middle := from + 1 + sort.Search(to-from-2, func(i int) bool { return t.first[from+1+i] >= half })
	at := len(t.nodes)
	t.nodes = append(t.nodes, strideNode{middle: middle, left: t.first[middle] - t.first[from], total: t.first[to] - t.first[from]})
	left := t.grow(from, middle)
	right := t.grow(middle, to)
	t.nodes[at].children = [2]int{left, right}
	return at
}

// goneLeft returns how many of a node's first turns went left, which is their share rounded to the
// nearest, and whether the next does.
func (n *strideNode) goneLeft(turns uint64) (gone uint64, next bool) {
	share := turns*n.left + n.total/2 // below 2^64, as all weights sum up to less than 2^32
	return share / n.total, share%n.total >= n.total-n.left
}

// cell returns the cell that leads at a turn, 0 <= turn < number of cells.
func (t *strideTree) cell(turn uint64) uint64 {
	from, at := 0, 0
	for at >= 0 {
		n := &t.nodes[at]
		left, next := n.goneLeft(turn)
		if next {
			turn, at = left, n.children[0]
		} else {
			turn, at, from = turn-left, n.children[1], n.middle
		}
	}
	return t.first[from] + turn
}

// turnOf returns the turn at which a cell leads: the inverse of cell.
func (t *strideTree) turnOf(cell uint64) uint64 { return t.turnBelow(0, 0, cell) }

// turnBelow returns the turn of the node at, whose first member is from, at which cell leads.
func (t *strideTree) turnBelow(at, from int, cell uint64) uint64 {
	if at < 0 {
		return cell - t.first[from]
	}
	n := &t.nodes[at]
	if cell < t.first[n.middle] { // the first turn after which one more has gone left
		below := t.turnBelow(n.children[0], from, cell)
		return ((below+1)*n.total-n.total/2+n.left-1)/n.left - 1
	}
	below := t.turnBelow(n.children[1], n.middle, cell)
	return (below*n.total + n.total/2) / (n.total - n.left)
}
