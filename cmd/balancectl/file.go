// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-f1518d44/balance/cmd/balancectl/terminal"
	"github.com/seed-f1518d44/balance/internal/filewatch"
	"github.com/seed-f1518d44/balance/internal/overrides"
	"github.com/seed-f1518d44/balance/internal/statuspage"
)

// carryOut changes the file, or writes how to change the ConfigMap. It has the pages that can be
// asked.
func (c *change) carryOut(ctx context.Context, shown []shownPage, s streams) (status int, err error) {
	unlock, err := lock(filepath.Dir(c.file))
	if err != nil {
		return 0, err
	}
	defer unlock()
	content, err := filewatch.ReadRegular(c.file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%s: %w", c.file, err)
	}
	changed, err := c.apply(string(content))
	if err != nil {
		return 0, err
	}
	before, _ := overrides.Parse(content) // apply has checked both
	after, _ := overrides.Parse([]byte(changed))
	for _, p := range shown {
		if err := c.refusal(p.document, before, after, time.Now()); err != nil {
			return 0, err
		}
	}
	if err := c.nothingWaits(shown); err != nil {
		return 0, err
	}
	s.printf("%s%s", difference(c.file, string(content), changed, s.screen), c.note(shown))
	switch {
	case c.dryRun || changed == string(content):
		return exitDone, nil
	case c.configMap != "" || isMounted(c.file):
		s.printf("%s\n", c.kubectl(changed))
		return exitDone, nil
	}
	began := time.Now()
	if err := replace(c.file, changed); err != nil {
		return 0, err
	}
	return c.confirm(ctx, shown, began, s)
}

// difference shows the lines that go and come.
func difference(file, before, after string, on terminal.Screen) string {
	var b strings.Builder
	b.WriteString(file + "\n")
	old, fresh := lineCounts(before), lineCounts(after)
	write := func(text, sign string, colour terminal.Colour, other map[string]int) {
		for line := range strings.Lines(text) {
			if line = strings.TrimSuffix(line, "\n"); other[line] > 0 {
				other[line]--
				continue
			}
			b.WriteString(on.Paint(colour, sign+" "+line) + "\n")
		}
	}
	write(before, "-", terminal.Red, fresh)
	write(after, "+", terminal.Green, old)
	return b.String()
}

func lineCounts(text string) map[string]int {
	counts := map[string]int{}
	for line := range strings.Lines(text) {
		counts[strings.TrimSuffix(line, "\n")]++
	}
	return counts
}

// replace writes a file at once, with the mode that it had.
func replace(path, content string) error {
	if to, err := filepath.EvalSymlinks(path); err == nil {
		path = to
	}
	mode := fs.FileMode(0o644)
	if info, err := os.Stat(path); err == nil { //nolint:gosec // the user's own
		mode = info.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it is gone once it was renamed
	_, err = f.WriteString(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path) //nolint:gosec // the user's own
}

// isMounted reports whether a file belongs to a mounted ConfigMap, which nobody can write: a
// symbolic link through "..data".
func isMounted(path string) bool {
	to, err := os.Readlink(path)
	return err == nil && strings.HasPrefix(to, "..data"+string(filepath.Separator))
}

// The ConfigMap of our manifests, and where a pod finds its namespace.
const (
	defaultConfigMap = "coredns-overrides"
	defaultNamespace = "kube-system"
	namespaceFile    = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
)

// kubectl returns the command that changes the ConfigMap.
func (c *change) kubectl(content string) string {
	namespace, name, both := strings.Cut(c.configMap, "/")
	if !both {
		namespace, name = "", c.configMap
	}
	if name == "" {
		name = defaultConfigMap
	}
	if namespace == "" {
		namespace = defaultNamespace
		if text, err := os.ReadFile(namespaceFile); err == nil {
			namespace = strings.TrimSpace(string(text))
		}
	}
	// Of strings alone.
	patch, _ := json.Marshal(map[string]any{"data": map[string]string{filepath.Base(c.file): content}})
	return fmt.Sprintf("kubectl --namespace %s patch configmap %s --type merge --patch '%s'",
		namespace, name, strings.ReplaceAll(string(patch), "'", `'\''`))
}

// confirm waits until the servers of the pages have taken the file, each for itself.
func (c *change) confirm(ctx context.Context, shown []shownPage, began time.Time, s streams) (status int, err error) {
	if len(shown) == 0 || c.wait <= 0 {
		s.printf("written; the server was not asked whether it has taken it\n")
		return exitDone, nil
	}
	for _, p := range shown {
		whose := ""
		if len(shown) > 1 {
			whose = fmt.Sprintf(" at %s, %s", p.document.Process.Host, p.at)
		}
		switch taken, problem := c.awaitTaken(ctx, p.at, began); {
		case problem != "":
			err = errors.Join(err, fmt.Errorf("the server does not take it%s: %s", whose, problem))
		case taken:
			s.printf("in force%s after %s\n", whose, time.Since(began).Round(100*time.Millisecond))
			continue
		default:
			s.complain("written, but the server has not taken it within %v%s\n", c.wait, whose)
		}
		status = exitNot
	}
	if name := fleetOf(shown[0].document, c.file); name != "" && len(shown) == 1 {
		s.printf("other replicas of the fleet %s were not asked, and each reads the file for itself: name their pages with -at too\n", name)
	}
	return status, err
}

// awaitTaken waits until the server of a page has taken the file, or says what is wrong with it.
func (c *change) awaitTaken(ctx context.Context, at page, began time.Time) (taken bool, problem string) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	late := time.After(time.Until(began.Add(c.wait)))
	for {
		if d, _, err := at.get(ctx); err == nil {
			if taken, problem = takenSince(d, c.file, began); taken || problem != "" {
				return taken, problem
			}
		}
		select {
		case <-tick.C:
		case <-late:
			return false, ""
		case <-ctx.Done():
			return false, ""
		}
	}
}

// takenSince reports whether every rule that reads a file has done so since, or what is wrong.
func takenSince(d *statuspage.Document, file string, began time.Time) (taken bool, problem string) {
	for i := range d.Rules {
		for _, f := range d.Rules[i].Files {
			if !isSame(file, located(d, f.Path)) {
				continue
			}
			if f.Problem != "" {
				return false, f.Problem
			}
			if f.Since.Before(began) {
				return false, ""
			}
			taken = true
		}
	}
	return taken, ""
}
