// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-f1518d44/balance/internal/testserver"
)

// TestMain lets this test's own processes play their roles.
func TestMain(m *testing.M) {
	if _, ours := os.LookupEnv(apartVariable); ours { // empty: not apart yet
		main()
		return
	}
	os.Exit(m.Run())
}

// A killed backend is noticed, with hold and without, and the table says so. The test asserts
// nothing about speed.
func TestSmoke(t *testing.T) {
	coredns := filepath.Join(t.TempDir(), "coredns")
	if err := testserver.Build("./cmd/coredns", coredns); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), self, "-coredns", coredns, "-rounds", "1", "-many", "200", "-only", "balance http fastest")
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.Env = append(os.Environ(), apartVariable+"=")
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	table := string(out)
	lines := strings.Split(strings.TrimSpace(table), "\n")
	if len(lines) != 6 || strings.Contains(table, "over ") || strings.Count(table, "`hold`") != 2 {
		t.Errorf("table is\n%s\nwant four rows, two of them with hold, and all noticed", table)
	}
}

func TestTimes(t *testing.T) {
	const second = time.Second
	tests := []struct {
		took []time.Duration
		want string
	}{
		{nil, "not seen by such a check"},
		{[]time.Duration{3 * second, 1234 * time.Microsecond, 2 * second}, "2s (1.23ms to 3s)"},
		{[]time.Duration{0, 0, second}, "over 1m0s (1s to over 1m0s)"},
		{[]time.Duration{123456 * time.Microsecond}, "123ms (123ms to 123ms)"},
		{[]time.Duration{4 * second, second, 3 * second, 2 * second}, "2.5s (1s to 4s)"},
	}
	for _, tc := range tests {
		if got := (times{Patience: time.Minute, Took: tc.took}).String(); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.took, got, tc.want)
		}
	}
}

// A server that died, or says nothing, does not keep the dead in its answers: it is not measured.
func TestUntilGone(t *testing.T) {
	silent := errors.New("connection refused")
	const patience = 5 * time.Second
	tests := []struct {
		name  string
		there func(asked int) (bool, error)
		gone  bool
		want  string
	}{
		{"goes", func(n int) (bool, error) { return n < 3, nil }, true, ""},
		{"goes while some are lost", func(n int) (bool, error) {
			if n%2 == 0 {
				return false, silent
			}
			return n < 5, nil
		}, true, ""},
		{"stays", func(int) (bool, error) { return true, nil }, false, ""},
		{"no server", func(int) (bool, error) { return false, silent }, false, "no answer in 5s, the last question: connection refused"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				took, err := untilGone(t.Context(), time.Now(), patience, func() (bool, error) {
					asked++
					return tc.there(asked)
				})
				problem := ""
				if err != nil {
					problem = err.Error()
				}
				if (took > 0) != tc.gone || problem != tc.want {
					t.Errorf("took %v and says %q, want %q", took, problem, tc.want)
				}
			})
		})
	}
}
