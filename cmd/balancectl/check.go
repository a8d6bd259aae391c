// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-f1518d44/balance/internal/filewatch"
	"github.com/seed-f1518d44/balance/internal/findings"
	"github.com/seed-f1518d44/balance/internal/overrides"
	"github.com/seed-f1518d44/balance/internal/weights"
)

// checking is what a check was asked to do.
type checking struct {
	corefile           string // "": files alone are checked
	weights, overrides string
	strict             bool
	coredns            string // a binary with balance; "": it is searched for
}

const checkHelp = `
Says what is wrong with them, as a server that starts would, and which lines have no effect. Opens no
listener and sends nothing. COREFILE is ./Corefile unless a file is given. FILE stands in for the file that
the Corefile names.
Exit status: 0 without errors, 1 with errors or, if -strict, warnings, 2 if the check was not done.`

// runCheck is "balancectl check".
func runCheck(ctx context.Context, args []string, s streams) (status int, err error) {
	flags := newFlags("check", "[flags] [COREFILE] [weights FILE] [overrides FILE]", "Checks a Corefile, a weight file and an overrides file."+checkHelp, s)
	c := &checking{}
	flags.BoolVar(&c.strict, "strict", false, "count warnings as errors in the exit status")
	flags.StringVar(&c.coredns, "coredns", "", "`FILE` of a CoreDNS with balance; by default the one beside balancectl, or in PATH")
	words, err := flags.words(args)
	if err != nil {
		return 0, err
	}
	if err := c.read(words); err != nil {
		return 0, err
	}
	if c.corefile == "" {
		return c.checkFiles(s)
	}
	return c.askCoreDNS(ctx, s)
}

// read reads the words "[COREFILE] [weights FILE] [overrides FILE]".
func (c *checking) read(words []string) error {
	files := map[string]*string{"weights": &c.weights, "overrides": &c.overrides}
	for i := 0; i < len(words); i++ {
		into := files[words[i]]
		switch {
		case into == nil && i == 0:
			c.corefile = words[i]
		case into == nil:
			return fmt.Errorf("found %q: want [COREFILE] [weights FILE] [overrides FILE]", words[i])
		case i+1 == len(words):
			return fmt.Errorf("found nothing behind %q: want a file", words[i])
		case *into != "":
			return fmt.Errorf("%s: given twice: want it once", words[i])
		default:
			i++
			*into = words[i]
		}
	}
	if len(words) == 0 {
		c.corefile = "Corefile"
	}
	return nil
}

// checkFiles checks files without a Corefile.
func (c *checking) checkFiles(s streams) (status int, err error) {
	var found findings.List
	now := time.Now()
	use := map[string]func(content []byte) error{
		c.weights: func(content []byte) error {
			f, err := weights.Parse(content)
			if err == nil {
				for _, warning := range f.Warnings {
					found.Warnf(c.weights, "%s:%s", c.weights, warning)
				}
			}
			return err
		},
		c.overrides: func(content []byte) error {
			set, err := overrides.Parse(content)
			for _, l := range set.Ended(now) {
				found.Warnf(fmt.Sprintf("%s:%d", c.overrides, l.Number), "no effect, because it ended at %s", l.Until.Format(time.RFC3339))
			}
			return err
		},
	}
	delete(use, "")
	for path, use := range use {
		f := &filewatch.File{Path: path, Use: use}
		if err := f.Read(); err != nil {
			if inside := filewatch.ContentError(""); !errors.As(err, &inside) {
				return 0, err
			}
			found.Errorf(path, "%v", err)
		}
	}
	return found.Write(s.out, c.strict)
}

// askCoreDNS has a CoreDNS with balance check a Corefile: only its plugins know what they make of
// it.
func (c *checking) askCoreDNS(ctx context.Context, s streams) (status int, err error) {
	coredns, err := c.findCoreDNS()
	if err != nil {
		return 0, err
	}
	words := []string{"-balance.check", c.corefile}
	for option, file := range map[string]string{"weights": c.weights, "overrides": c.overrides} {
		if file != "" {
			words = append(words, option, file)
		}
	}
	if c.strict {
		words = append(words, "strict")
	}
	var found, complaints bytes.Buffer
	cmd := exec.CommandContext(ctx, coredns, words...) //nolint:gosec // the user's own
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, &found, &complaints
	err = cmd.Run()
	s.printf("%s", found.String())
	exit := new(exec.ExitError)
	switch said := strings.TrimSpace(complaints.String()); {
	case err != nil && !errors.As(err, &exit):
		return 0, err
	case strings.Contains(said, "not defined: -balance.check"), found.Len() == 0 && said == "":
		return 0, fmt.Errorf("%s is no CoreDNS with balance that can check: want one of this version as -coredns", coredns)
	case said != "":
		return exitFailure, errors.New(said)
	}
	return cmd.ProcessState.ExitCode(), nil
}

// findCoreDNS returns the path of a CoreDNS: the one that was named, or beside this program, or in
// PATH.
func (c *checking) findCoreDNS() (string, error) {
	if c.coredns != "" {
		return c.coredns, nil
	}
	beside := filepath.Join(ownDirectory(), "coredns")
	if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
		return beside, nil
	}
	inPath, err := exec.LookPath("coredns")
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return "", errors.New("found no coredns beside this program or in PATH: want -coredns FILE, a CoreDNS with balance, because only its plugins can read a Corefile")
	}
	return inPath, err
}

// ownDirectory returns the directory of this program. Without /proc, as in some jails, it is known
// only if the program was called by its path.
func ownDirectory() string {
	if path, err := os.Executable(); err == nil {
		return filepath.Dir(path)
	}
	if filepath.IsAbs(os.Args[0]) {
		return filepath.Dir(os.Args[0])
	}
	return os.DevNull // nothing is beside it
}
