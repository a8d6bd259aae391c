// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// fileFaults are what happens to the weight file and the overrides.
func fileFaults(asNobody bool) (all []fault) {
	all = append(all, faultsOf(func(w *world) *operated[map[netip.Addr]int] { return w.weights }, "weights", asNobody)...)
	all = append(all, faultsOf(func(w *world) *operated[map[netip.Addr]bool] { return w.overrides }, "overrides", asNobody)...)
	return append(all, fault{name: "overrides: a line that ends", lane: laneFiles, hold: 5 * time.Second, inject: expiring})
}

// mishap is something that happens to a file. It returns the version that is in force then, nil if
// that stays the same.
type mishap[T any] struct {
	name   string
	happen func(o *operated[T], r *rand.Rand) error
	means  func(o *operated[T]) *T // what is in force then; nil: what was
}

// faultsOf returns the faults of a file.
func faultsOf[T any](of func(w *world) *operated[T], name string, asNobody bool) (all []fault) {
	for _, m := range mishaps[T]() {
		f := fault{name: name + ": " + m.name, lane: laneFiles, hold: 4 * time.Second}
		if m.name == noPermission && !asNobody {
			f.needs = "root"
		}
		f.inject = func(ctx context.Context, w *world, r *rand.Rand) (func() error, error) {
			o := of(w)
			if err := o.await(ctx, w.busy); err != nil {
				return nil, err
			}
			again := o.versions[r.IntN(len(o.versions))]
			restore := func() error {
				err := o.change(&again.means, func() error { return errors.Join(clearAway(o.path), writeWhole(o.path, again.text)) })
				w.filesBad.set(false)
				return err
			}
			if m.means == nil || m.means(o) == o.inForce.now() {
				w.filesBad.set(true)
				return restore, m.happen(o, r)
			}
			return restore, o.change(m.means(o), func() error { return m.happen(o, r) })
		}
		all = append(all, f)
	}
	return all
}

const noPermission = "permission denied"

// mishaps returns what can happen to a file.
func mishaps[T any]() []mishap[T] {
	return []mishap[T]{
		{"deleted", func(o *operated[T], _ *rand.Rand) error { return os.Remove(o.path) }, whenMissing[T]},
		{"emptied", func(o *operated[T], _ *rand.Rand) error { return os.Truncate(o.path, 0) }, whenMissing[T]},
		{"replaced by rename", func(o *operated[T], _ *rand.Rand) error { return writeWhole(o.path, o.versions[1].text) }, second[T]},
		{"replaced by turning a link", func(o *operated[T], _ *rand.Rand) error { return turnLink(o.path, o.versions[1].text) }, second[T]},
		{"written in place", func(o *operated[T], _ *rand.Rand) error {
			return os.WriteFile(o.path, []byte(o.versions[1].text), 0o600)
		}, second[T]},
		{"torn", func(o *operated[T], _ *rand.Rand) error { return writeWhole(o.path, o.versions[2].text+"192.0.") }, nil},
		{noPermission, func(o *operated[T], _ *rand.Rand) error { return os.Chmod(o.path, 0) }, nil},
		{"100 MB of random bytes", func(o *operated[T], r *rand.Rand) error {
			return writeLarge(o.path, noise(r.Uint64(), 1<<20), 100)
		}, nil},
		{"100 MB in one line", func(o *operated[T], _ *rand.Rand) error {
			return writeLarge(o.path, bytes.Repeat([]byte("x"), 1<<20), 100)
		}, nil},
		{"60 MB in one line", func(o *operated[T], _ *rand.Rand) error {
			return writeLarge(o.path, bytes.Repeat([]byte("x"), 1<<20), 60)
		}, nil},
		{"a directory in its place", func(o *operated[T], _ *rand.Rand) error {
			next := o.path + ".next" // the file is never missing, because that would have a meaning
			return errors.Join(os.Mkdir(next, 0o700), unix.Renameat2(unix.AT_FDCWD, next, unix.AT_FDCWD, o.path, unix.RENAME_EXCHANGE), os.Remove(next))
		}, nil},
		{"a pipe in its place", func(o *operated[T], _ *rand.Rand) error {
			next := o.path + ".next"
			return errors.Join(unix.Mkfifo(next, 0o644), os.Chmod(next, 0o644), os.Rename(next, o.path)) //nolint:gosec // the server may read it
		}, nil},
		{"a link to itself", func(o *operated[T], _ *rand.Rand) error {
			next := o.path + ".next"
			return errors.Join(os.Symlink(o.path, next), os.Rename(next, o.path))
		}, nil},
	}
}

func second[T any](o *operated[T]) *T { return &o.versions[1].means }

// whenMissing returns what a missing or empty file means: no overrides, but the weights that were.
func whenMissing[T any](o *operated[T]) *T {
	if o.missing {
		return &o.empty
	}
	return o.inForce.now()
}

// turnLink replaces a file as Kubernetes does with a ConfigMap.
func turnLink(path, content string) error {
	target := path + ".data"
	if err := writeWhole(target, content); err != nil {
		return err
	}
	next := path + ".next"
	return errors.Join(os.Symlink(target, next), os.Rename(next, path))
}

// writeLarge replaces a file by a large one, of the same bytes over and over.
func writeLarge(path string, part []byte, times int) error {
	next := path + ".next"
	f, err := os.OpenFile(next, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644) //nolint:gosec // the server reads it
	if err != nil {
		return err
	}
	for range times {
		if _, err := f.Write(part); err != nil {
			return errors.Join(err, f.Close(), os.Remove(next))
		}
	}
	return errors.Join(f.Close(), os.Rename(next, path))
}

// clearAway removes what cannot be renamed over.
func clearAway(path string) error {
	info, err := os.Lstat(path)
	if err != nil || !info.IsDir() {
		return nil //nolint:nilerr // nothing there
	}
	return os.Remove(path)
}

// expiring is an override that ends while the file stays.
func expiring(ctx context.Context, w *world, _ *rand.Rand) (end func() error, err error) {
	o := w.overrides
	victim := someAddrs("192.0.2.1")[2]
	until := time.Now().Add(3 * time.Second).Truncate(time.Second)
	text := fmt.Sprintf("%s down until %s # for a moment\n", victim, until.UTC().Format(time.RFC3339))
	means := map[netip.Addr]bool{victim: true}
	if err := o.change(&means, func() error { return writeWhole(o.path, text) }); err != nil {
		return nil, err
	}
	o.inForce.setFrom(until, &o.empty) // whenever we are woken
	return func() error { return o.put(o.versions[0]) }, pause(ctx, time.Until(until))
}

// ballast fills the disk to the last byte.
func ballast(w *world) (remove func() error, err error) {
	path := w.disk + "/ballast"
	f, err := os.Create(path) //nolint:gosec // ours
	if err != nil {
		return nil, err
	}
	part := []byte(strings.Repeat("x", 1<<16))
	for {
		if _, err := f.Write(part); err != nil {
			break
		}
	}
	return func() error { return os.Remove(path) }, f.Close()
}
