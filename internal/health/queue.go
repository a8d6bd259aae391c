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
	proven               // it is up, and its last probe was prompt
	slow                 // it is down, or its last probe took long (it does not close, for example)
	silent               // it may not answer: its probe may take the whole timeout
	classes = iota
)

func (e *endpoint) class() class {
	switch {
	case e.isHinted():
		return hinted
	case e.tracker.verdict == Unknown, e.tracker.verdict == Down && e.speed == timedOut:
		return silent
	case e.tracker.verdict == Down, e.speed != prompt:
		return slow
	}
	return proven
}

// speed says how long a probe took.
type speed uint8

const (
	prompt   speed = iota
	lasting        // at least slowAfter
	timedOut       // it failed at the timeout
)

func (r *result) speed(timeout time.Duration) speed {
	switch {
	case r.err != nil && r.took >= timeout:
		return timedOut
	case r.took >= slowAfter:
		return lasting
	}
	return prompt
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
	s.lines[c].scope = s
	b.queues[c].push(&s.lines[c], e)
}

// pop removes and returns the next endpoint whose line may be served, and its scope. Both are nil
// if there is none.
func (b *backlog) pop(mayServe func(class, *scope) bool) (*endpoint, *scope) {
	for range b.queues {
		b.turn = (b.turn + 1) % classes
		if l := b.queues[b.turn].next(b.turn, mayServe); l != nil {
			return l.pop(), l.scope
		}
	}
	return nil, nil
}

// empty reports whether pop would return nil.
func (b *backlog) empty(mayServe func(class, *scope) bool) bool {
	for c := range b.queues {
		if b.queues[c].next(class(c), mayServe) != nil { //nolint:gosec // small
			return false
		}
	}
	return true
}

// fairQueue holds endpoints in lines, which take turns.
type fairQueue struct {
	turns list.List // the lines that are not empty, the next one first
}

// line holds the endpoints of one scope and class, in the order of arrival.
type line struct {
	scope   *scope
	queue   *fairQueue
	waiting list.List
	turn    *list.Element // in queue.turns; nil if the line is empty
}

// next returns the first line that may be served, nil if there is none.
func (q *fairQueue) next(c class, mayServe func(class, *scope) bool) *line {
	for turn := q.turns.Front(); turn != nil; turn = turn.Next() {
		if l := turn.Value.(*line); mayServe(c, l.scope) {
			return l
		}
	}
	return nil
}

func (q *fairQueue) push(l *line, e *endpoint) {
	l.queue = q
	e.line, e.place = l, l.waiting.PushBack(e)
	if l.turn == nil {
		l.turn = q.turns.PushBack(l)
	}
}

// pop removes and returns the first endpoint of the line, which then waits for its next turn.
func (l *line) pop() *endpoint {
	l.queue.turns.MoveToBack(l.turn)
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

// timers holds the endpoints that are not due yet, the next one first. It is a heap. The times
// stand beside the endpoints, because reading them there would miss the processor's caches.
type timers []timer

type timer struct {
	at       time.Duration // endpoint.next
	endpoint *endpoint
}

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at < t[j].at }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].endpoint.heap, t[j].endpoint.heap = int32(i), int32(j)
}

// Push implements heap.Interface.
func (t *timers) Push(e any) {
	e.(*endpoint).heap = int32(len(*t))
	*t = append(*t, timer{e.(*endpoint).next, e.(*endpoint)})
}

// Pop implements heap.Interface.
func (t *timers) Pop() any {
	last := len(*t) - 1
	e := (*t)[last].endpoint
	(*t)[last] = timer{}
	*t = (*t)[:last]
	e.heap = notThere
	return e
}

func (t *timers) add(e *endpoint)    { heap.Push(t, e) }
func (t *timers) pop() *endpoint     { return heap.Pop(t).(*endpoint) }
func (t *timers) remove(e *endpoint) { heap.Remove(t, int(e.heap)) }

// nextDue returns when the first endpoint is due, or its argument if there is none.
func (t timers) nextDue(otherwise time.Duration) time.Duration {
	if len(t) == 0 {
		return otherwise
	}
	return t[0].at
}
