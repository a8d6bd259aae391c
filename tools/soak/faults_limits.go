// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// limitFaults are those of the machine: a lack of descriptors, a full disk. They happen alone,
// because they could explain many other failures.
func limitFaults() []fault {
	return []fault{
		{name: "limits: no more descriptors", lane: laneAlone, hold: 5 * time.Second, inject: starve},
		{name: "limits: no more descriptors, and a reload", lane: laneAlone, hold: time.Second, inject: starveAndReload},
		{name: "limits: the disk is full", lane: laneAlone, hold: 4 * time.Second, inject: fillDisk},
		{name: "limits: the server stands still", lane: laneAlone, hold: 3 * time.Second, inject: freeze},
	}
}

// starve leaves the server no descriptors except those that are open.
func starve(ctx context.Context, w *world, _ *rand.Rand) (end func() error, err error) {
	open, err := descriptors(w.server.pid())
	if err != nil {
		return nil, err
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", w.server.pid()))
	if err != nil {
		return nil, err
	}
	_, rest, _ := strings.Cut(string(limits), "Max open files")
	before := append(strings.Fields(rest), "1024")[0]
	w.starved.set(true)
	return func() error {
		err := w.server.limitDescriptors(ctx, before)
		w.starved.set(false)
		return err
	}, w.server.limitDescriptors(ctx, strconv.Itoa(open))
}

// limitDescriptors sets how many descriptors the server may have. It does so as the server's user.
func (s *server) limitDescriptors(ctx context.Context, n string) error {
	c := exec.CommandContext(ctx, "prlimit", "--pid", strconv.Itoa(s.pid()), "--nofile="+n+":") //nolint:gosec // a number
	c.SysProcAttr = s.cmd.SysProcAttr
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("prlimit: %w: %s", err, out)
	}
	return nil
}

// starveAndReload reloads the Corefile without descriptors. The reload may fail; the server goes
// on.
func starveAndReload(ctx context.Context, w *world, r *rand.Rand) (end func() error, err error) {
	feed, err := starve(ctx, w, r)
	if err != nil {
		return nil, err
	}
	w.reloading.set(true)
	from, err := w.trigger(changes[0])
	return func() error { return errors.Join(feed(), w.quiet(ctx, from), w.loadBase(ctx)) }, errors.Join(err, pause(ctx, 3*time.Second))
}

// fillDisk fills the disk that the log and the operator's files are on. The operator tries to write
// nevertheless: by rename, which fails, and in place, which tears the overrides.
func fillDisk(_ context.Context, w *world, _ *rand.Rand) (end func() error, err error) {
	remove, err := ballast(w)
	if err != nil {
		return nil, err
	}
	restore := func() error { return errors.Join(remove(), w.overrides.put(w.overrides.versions[0])) }
	if err := writeWhole(w.weights.path, w.weights.versions[1].text); err == nil {
		return nil, errors.Join(restore(), errors.New("the disk does not fill up"))
	}
	if err := os.Remove(w.weights.path + ".next"); err != nil {
		return restore, err
	}
	return restore, w.overrides.change(nil, func() error {
		text := strings.Repeat("192.0.2.2 down # a line that is long enough\n", 1000)
		if err := os.WriteFile(w.overrides.path, []byte(text), 0o600); err == nil {
			return errors.New("the disk is not full")
		}
		return nil
	})
}

// freeze stops the server for a moment, as if the machine were suspended. Queries that come
// meanwhile get their answers later.
func freeze(ctx context.Context, w *world, _ *rand.Rand) (end func() error, err error) {
	if err := w.server.signal(syscall.SIGSTOP); err != nil {
		return nil, err
	}
	err = pause(ctx, 3*time.Second)
	return func() error { return nil }, errors.Join(err, w.server.signal(syscall.SIGCONT))
}

// descriptors returns how many descriptors a process has open.
func descriptors(pid int) (int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(entries), err
}
