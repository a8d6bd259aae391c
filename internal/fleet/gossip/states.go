// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"errors"
	"sync"
)

// origin is whose state it is that a replica takes over. It precedes the state.
type origin struct {
	replica string
	settled bool // it has itself taken over what others knew
}

const (
	originSettled = iota // 1: settled
	originName           // the length, then the name
	originHeader
)

func (o origin) encode() []byte {
	b := []byte{0, byte(len(o.replica))}
	if o.settled {
		b[originSettled] = 1
	}
	return append(b, o.replica...)
}

var errOrigin = errors.New("the state is no replica's")

// parseOrigin also returns the state that follows.
func parseOrigin(b []byte) (o origin, state []byte, err error) {
	if len(b) < originHeader || b[originName] > maxName || len(b) < originHeader+int(b[originName]) {
		return o, nil, errOrigin
	}
	end := originHeader + int(b[originName])
	return origin{string(b[originHeader:end]), b[originSettled] == 1}, b[end:], nil
}

// states are those that this replica has taken over. Safe for concurrent use.
type states struct {
	mu        sync.Mutex
	ofOthers  bool   // at least one is another replica's
	ofSettled bool   // and one of these was settled
	last      string // the replica whose state came last
	several   bool   // states of several have come since begin
}

// begin begins to watch whose states come.
func (s *states) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.several = "", false
}

// note notes that a state was taken over.
func (s *states) note(from origin, self string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if from.replica != self {
		s.ofOthers, s.ofSettled = true, s.ofSettled || from.settled
	}
	s.several = s.several || s.last != "" && s.last != from.replica
	s.last = from.replica
}

// only returns the one replica whose states have come since begin. It is empty if there are
// several: others may join this replica meanwhile.
func (s *states) only() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.several {
		return ""
	}
	return s.last
}

// any reports whether a state of another replica was taken over.
func (s *states) any() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ofOthers
}

// settled reports whether a state was taken over from another replica that had done so itself.
func (s *states) settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ofSettled
}
