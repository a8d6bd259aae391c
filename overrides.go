// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-f1518d44/balance/internal/filewatch"
	"github.com/seed-f1518d44/balance/internal/overrides"
	"github.com/seed-f1518d44/balance/internal/text"
)

// defaultOverridesInterval is how often the overrides file is read.
const defaultOverridesInterval = 5 * time.Second

// overridesFile is the option overrides. Safe for concurrent use.
type overridesFile struct {
	*filewatch.File
	user fileUser
	set  atomic.Pointer[overrides.Set]
}

var lastOverrides lastContents[overrides.Set]

// newOverridesFile reads an overrides file. A missing one counts as an empty one.
func newOverridesFile(user fileUser, path string, every time.Duration) (*overridesFile, error) {
	f := &overridesFile{user: user}
	f.File = &filewatch.File{
		Path: path, Every: every, Optional: true,
		Use:    f.use,
		Report: func(problem error) { user.report(f.File, problem) },
		Dated: &filewatch.Dated{
			Clock:   filewatch.Clock,
			Differ:  func(from, to time.Time) bool { return f.set.Load().Differ(from, to) },
			Next:    func(now time.Time) (time.Time, bool) { return f.set.Load().Next(now) },
			Changed: f.pass,
		},
	}
	for _, zone := range user.zones { // so that the first increase can be seen
		overridesLifted.WithLabelValues(zone, f.Name())
	}
	return f, f.Read()
}

// use takes new content into force: nil if the file is missing.
func (f *overridesFile) use(content []byte) error {
	set, err := overrides.Parse(content)
	if err != nil {
		return err
	}
	before := f.set.Swap(&set)
	if last := lastOverrides.swap(f.Path, &set); before == nil {
		before = last
	}
	f.user.changed()
	if before == nil {
		before = new(overrides.Set)
	}
	f.logChange(content, *before, set, f.Dated.Clock())
	return nil
}

func (f *overridesFile) unused(most int) (first []string, total int) {
	unused := f.set.Load().Unused(f.Dated.Clock())
	for _, l := range unused[:min(most, len(unused))] {
		first = append(first, fmt.Sprintf("%d: %s", l.Number, text.OneLine(l.String())))
	}
	return first, len(unused)
}

// pass tells the user that lines have begun or ended, or are in force again because the clock was
// set back.
func (f *overridesFile) pass(from, to time.Time) {
	f.user.outdated()
	set := f.set.Load()
	f.logLines(set.InForce(from), set.InForce(to), nil, nil)
}

// logChange logs what new content changes. If a file without content lifts overrides, somebody may
// have deleted or truncated it by mistake: that is a warning, and counted.
func (f *overridesFile) logChange(content []byte, before, after overrides.Set, now time.Time) {
	was, is := before.InForce(now), after.InForce(now)
	lifted := was.Without(is)
	switch {
	case isBlank(content) && len(lifted) > 0:
		log.Warningf("%s is %s, which lifted %s: %s%s", f.Name(), emptiness(content), text.Count(len(lifted), "override"), oneLines(lifted), f.user.note)
		for _, zone := range f.user.zones {
			overridesLifted.WithLabelValues(zone, f.Name()).Add(float64(len(lifted)))
		}
	case content == nil:
		log.Warningf("%s is missing: no overrides until it is there%s", f.Name(), f.user.note)
	default:
		f.logLines(was, is, before.ToCome(now), after.ToCome(now))
	}
}

// emptiness says in which way a file is empty.
func emptiness(content []byte) string {
	if content == nil {
		return "missing"
	}
	return "empty"
}

// logLines logs how the lines in force and those to come changed, unless they did not.
func (f *overridesFile) logLines(was, is, wasToCome, isToCome overrides.Set) {
	var changes strings.Builder
	for _, change := range []struct {
		what  string
		lines overrides.Set
	}{
		{"added", is.Without(was)},
		{"lifted", was.Without(is)},
		{"to come", isToCome.Without(wasToCome)},
		{"no longer to come", wasToCome.Without(isToCome).Without(is)},
	} {
		if len(change.lines) > 0 {
			fmt.Fprintf(&changes, "; %s: %s", change.what, oneLines(change.lines))
		}
	}
	if changes.Len() > 0 {
		log.Infof("%s: %s in force%s%s", f.Name(), text.Count(len(is), "override"), &changes, f.user.note)
	}
}

// oneLines writes lines for the log: the first few, each bounded.
func oneLines(lines overrides.Set) string {
	var texts []string
	for _, l := range lines {
		texts = append(texts, text.OneLine(l.String()))
	}
	return text.Few(texts)
}
