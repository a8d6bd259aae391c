// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"bytes"
	"context"
	"sync"

	"github.com/seed-f1518d44/balance/internal/filewatch"
)

// fileUser is the rule that a file belongs to.
type fileUser struct {
	zones    []string
	note     string // added to what is logged of the content
	changed  func() // called when other content is in force
	outdated func() // called when the same content means something else, because of the time of day
}

// report logs and counts a problem of a file, or logs that it is gone.
func (u *fileUser) report(f *filewatch.File, problem error) {
	if problem == nil {
		log.Infof("%s is good again and in force", f.Name())
		return
	}
	log.Errorf("%v; what was read before stays in force", problem)
	for _, zone := range u.zones {
		fileReloadFailures.WithLabelValues(zone, f.Name()).Inc()
	}
}

// ruleFile is a file of a rule.
type ruleFile interface {
	Name() string
	State() filewatch.State
	Poll(ctx context.Context)

	// unused returns the first lines that applied to no member so far, and how many there are.
	unused(most int) (first []string, total int)
}

// isBlank reports whether a file holds nothing, not even a comment.
func isBlank(content []byte) bool { return len(bytes.TrimSpace(content)) == 0 }

// lastContents has the last good content of every file that was read, so that a reload, which reads
// files anew, finds what they change.
type lastContents[T any] struct{ byPath sync.Map }

// swap stores the content of a file and returns the one before, nil if there is none.
func (l *lastContents[T]) swap(path string, now *T) (before *T) {
	last, _ := l.byPath.Swap(path, now)
	before, _ = last.(*T)
	return before
}

// get returns the last content of a file, nil if there is none.
func (l *lastContents[T]) get(path string) *T {
	last, _ := l.byPath.Load(path)
	before, _ := last.(*T)
	return before
}
