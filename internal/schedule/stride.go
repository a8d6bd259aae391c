// SPDX-License-Identifier: Apache-2.0

package schedule

import "sort"

// strideTree is hierarchical stride scheduling: a binary tree whose leaves are the items. Every
// node divides its turns between its two halves in proportion to their weights. A node can compute
// how many of its first t turns go left without going through them, so the tree can compute the
// leaf of any turn. Immutable.
type strideTree struct {
	first []uint64 // the first cell of every item, and the number of cells
	nodes []strideNode
}

// strideNode divides its turns between its items before middle, the left half, and the others.
type strideNode struct {
	middle      int
	left, total uint64 // weights
	children    [2]int // nodes; -1 for a half of one item
}

func newStrideTree(first []uint64) *strideTree {
	t := &strideTree{first: first}
	t.grow(0, len(first)-1)
	return t
}

// grow adds the node of the items from <= i < to and the nodes below it, and returns its index. The
// halves weigh about the same, so that heavy items are near the root.
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

// goesLeft returns how many of a node's first turns go left, which is their share rounded to the
// nearest integer, and whether the next turn does.
func (n *strideNode) goesLeft(turns uint64) (gone uint64, next bool) {
	share := turns*n.left + n.total/2 // below 2^64, because all weights sum up to less than 2^32
	return share / n.total, share%n.total >= n.total-n.left
}

// cell returns the cell of a turn, 0 <= turn < number of cells.
func (t *strideTree) cell(turn uint64) uint64 {
	from, at := 0, 0
	for at >= 0 {
		n := &t.nodes[at]
		left, next := n.goesLeft(turn)
		if next {
			turn, at = left, n.children[0]
		} else {
			turn, at, from = turn-left, n.children[1], n.middle
		}
	}
	return t.first[from] + turn
}

// turn returns the turn of a cell: the inverse of cell.
func (t *strideTree) turn(cell uint64) uint64 { return t.turnBelow(0, 0, cell) }

// turnBelow returns the turn of a cell among the turns of a node, whose first item is from.
func (t *strideTree) turnBelow(node, from int, cell uint64) uint64 {
	if node < 0 {
		return cell - t.first[from]
	}
	n := &t.nodes[node]
	if cell < t.first[n.middle] { // the first turn after which one more has gone left
		below := t.turnBelow(n.children[0], from, cell)
		return ((below+1)*n.total-n.total/2+n.left-1)/n.left - 1
	}
	below := t.turnBelow(n.children[1], n.middle, cell)
	return (below*n.total + n.total/2) / (n.total - n.left)
}
