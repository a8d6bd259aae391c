// SPDX-License-Identifier: Apache-2.0

package health

import (
	"container/heap"
	"container/list"
	"time"
)

// class divides the endpoints that are due by urgency and cost. The classes take turns, so that
// none starves another.
type class uint8

const (
	hinted  class = iota // its held connection ended: it may be dead
	proven               // it is up, or its last probe ended before the timeout
	silent               // it may not answer: its probe may take the whole timeout
	classes = iota
)

func (e *endpoint) class() class {
	switch {
	case e.isHinted():
		return hinted
	case e.tracker.verdict == Unknown, e.tracker.verdict == Down && e.silent:
		return silent
	}
	return proven
}

// backlog holds the endpoints that are due. In each class the scopes take turns, so that no scope
// starves another.
type backlog struct {
	queues [classes]fairQueue
	turn   class // the class that was served last
}

// push adds an endpoint to the line of a scope.
func (b *backlog) push(s *scope, e *endpoint) {
	c := e.class()
	b.queues[c].push(&s.lines[c], e)
}

// pop removes and returns the next endpoint, nil if there is none. It skips silent ones unless they
// may be probed.
func (b *backlog) pop(silentToo bool) *endpoint {
	for range b.queues {
		b.turn = (b.turn + 1) % classes
		if b.turn == silent && !silentToo {
			continue
		}
		if e := b.queues[b.turn].pop(); e != nil {
			return e
		}
	}
	return nil
}

// empty reports whether pop would return nil.
func (b *backlog) empty(silentToo bool) bool {
	return b.queues[hinted].empty() && b.queues[proven].empty() && (!silentToo || b.queues[silent].empty())
}

// fairQueue holds endpoints in lines, which take turns.
type fairQueue struct {
	turns list.List // the lines that are not empty, the next one first
}

// line holds the endpoints of one scope and class, in the order of arrival.
type line struct {
	queue   *fairQueue
	waiting list.List
	turn    *list.Element // in queue.turns; nil if the line is empty
}

func (q *fairQueue) empty() bool { return q.turns.Len() == 0 }

func (q *fairQueue) push(l *line, e *endpoint) {
	l.queue = q
	e.line, e.place = l, l.waiting.PushBack(e)
	if l.turn == nil {
		l.turn = q.turns.PushBack(l)
	}
}

func (q *fairQueue) pop() *endpoint {
	first := q.turns.Front()
	if first == nil {
		return nil
	}
	q.turns.MoveToBack(first)
	l := first.Value.(*line)
	e := l.waiting.Front().Value.(*endpoint)
	l.remove(e)
	return e
}

// remove takes an endpoint out of the line.
func (l *line) remove(e *endpoint) {
	l.waiting.Remove(e.place)
	e.line, e.place = nil, nil
	if l.waiting.Len() == 0 {
		l.queue.turns.Remove(l.turn)
		l.turn = nil
	}
}

// timers holds the endpoints that are not due yet, the next one first. It is a heap.
type timers []*endpoint

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].next < t[j].next }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].heap, t[j].heap = int32(i), int32(j)
}

// Push implements heap.Interface.
func (t *timers) Push(e any) {
	e.(*endpoint).heap = int32(len(*t))
	*t = append(*t, e.(*endpoint))
}

// Pop implements heap.Interface.
func (t *timers) Pop() any {
	last := len(*t) - 1
	e := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	e.heap = -1
	return e
}

func (t *timers) add(e *endpoint)    { heap.Push(t, e) }
func (t *timers) pop() *endpoint     { return heap.Pop(t).(*endpoint) }
func (t *timers) remove(e *endpoint) { heap.Remove(t, int(e.heap)) }

// nextDue returns when the first endpoint is due, or otherwise if there is none.
func (t timers) nextDue(otherwise time.Duration) time.Duration {
	if len(t) == 0 {
		return otherwise
	}
	return t[0].next
}
