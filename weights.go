// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/seed-f1518d44/balance/internal/filewatch"
	"github.com/seed-f1518d44/balance/internal/text"
	"github.com/seed-f1518d44/balance/internal/weights"
)

// defaultWeightsInterval is how often the weight file is read.
const defaultWeightsInterval = 30 * time.Second

// weightFile is the option weights: a file that gives weights to the addresses of names. Safe for
// concurrent use.
type weightFile struct {
	*filewatch.File
	user    fileUser
	weights atomic.Pointer[weights.File]
}

var lastWeights lastContents[weights.File]

// newWeightFile reads a weight file.
func newWeightFile(user fileUser, path string, every time.Duration) (*weightFile, error) {
	f := &weightFile{user: user}
	f.File = &filewatch.File{
		Path: path, Every: every, Use: f.use,
		Report: func(problem error) { user.report(f.File, problem) },
		Dated: &filewatch.Dated{
			Clock:   filewatch.Clock,
			Differ:  func(from, to time.Time) bool { return f.weights.Load().Differ(from, to) },
			Next:    func(now time.Time) (time.Time, bool) { return f.weights.Load().Next(now) },
			Changed: f.step,
		},
	}
	return f, f.Read()
}

// use takes new content into force. A file that had weights and holds nothing at all was truncated.
func (f *weightFile) use(content []byte) error {
	now, err := weights.Parse(content)
	if err != nil {
		return err
	}
	before := f.weights.Load()
	if before == nil {
		before = lastWeights.get(f.Path)
	}
	if before != nil && before.Len() > 0 && isBlank(content) {
		return fmt.Errorf("1: the file is empty, and had %s: write a comment line if it is to have none", text.Count(before.Len(), "weight"))
	}
	f.weights.Store(now)
	lastWeights.swap(f.Path, now)
	f.user.changed()
	f.logChange(before, now)
	return nil
}

// step tells the user that ramps have changed weights.
func (f *weightFile) step(from, to time.Time) {
	f.user.outdated()
	if ramps := f.weights.Load().Ramps(from, to); len(ramps) > 0 {
		log.Infof("%s: %s", f.Name(), text.OneLine(text.Few(ramps)))
	}
}

func (f *weightFile) unused(most int) (first []string, total int) {
	lines, total := f.weights.Load().Unused(most)
	for _, l := range lines {
		first = append(first, l.String())
	}
	return first, total
}

// logChange logs what new content changes, and what may be meant otherwise.
func (f *weightFile) logChange(before, now *weights.File) {
	if len(now.Warnings) > 0 {
		log.Warningf("%s:%s", f.Name(), text.OneLine(text.Few(now.Warnings)))
	}
	if before == nil {
		return
	}
	if changes := now.Changes(before); len(changes) > 0 {
		log.Infof("%s: %s changed: %s", f.Name(), text.Count(len(changes), "weight"), text.OneLine(text.Few(changes)))
	}
}

// parseWeight reads "weight ADDRESS|CIDR WEIGHT".
func parseWeight(args []string) (weights.Line, error) {
	if len(args) != 2 {
		return weights.Line{}, wrongCount(args)
	}
	return weights.ParseLine(args[0], args[1])
}
