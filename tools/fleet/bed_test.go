// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fleet

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-f1518d44/balance/internal/testserver"
	"github.com/seed-f1518d44/balance/tools/internal/testbed"
)

// coredns builds a CoreDNS with the race detector, as "make test-soak" does, and returns its path.
var coredns = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "fleet")
	if err != nil {
		return "", err
	}
	root, err := testserver.Root()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "coredns")
	build := exec.Command("go", "build", "-C", root, "-race", "-pgo=off", "-tags", "grpcnotrace", "-o", binary, "./cmd/coredns")
	build.Stderr = os.Stderr
	return binary, build.Run()
})

// quick is the timing of checks here.
const quick = "interval 1s\n timeout 500ms\n fast_interval 300ms\n"

// grace is how old a change has to be before answers must follow it. It is far longer than the
// bound that "make bench-fleet" measures, because this machine may be busy.
const grace = 15 * time.Second

// bed is a testbed with a judge of its answers.
type bed struct {
	*testbed.Bed
	t     *testing.T // the test that runs now
	judge *testbed.Judge
}

// newBed makes a testbed that has not started yet.
func newBed(t *testing.T, o testbed.Options) *bed {
	t.Helper()
	binary, err := coredns()
	if err != nil {
		t.Fatal(err)
	}
	o.CoreDNS, o.Dir = binary, t.TempDir()
	if o.Check == "" {
		o.Check = quick
	}
	b := &bed{t: t, judge: &testbed.Judge{Grace: grace}}
	if b.Bed, err = testbed.New(o, b.judge.Hear); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { b.close(t) })
	return b
}

// start starts all replicas and waits until all of them know all backends.
func (b *bed) start() {
	b.t.Helper()
	if err := b.Start(); err != nil {
		b.t.Fatal(err)
	}
	for _, r := range b.Replicas {
		b.knows(r, len(b.Backends))
	}
	b.agree(b.Replicas...)
}

// knows waits until a replica knows that so many backends are up.
func (b *bed) knows(r *testbed.Replica, up int) {
	b.t.Helper()
	testserver.Eventually(b.t, fmt.Sprintf("%s knows that %d are up", r, up), func() bool {
		known, err := r.Metric(`coredns_balance_endpoints{state="up"`)
		return err == nil && int(known) == up
	})
}

// close ends everything. It searches what replicas have printed for data races, and shows it if the
// test failed.
func (b *bed) close(t *testing.T) {
	b.Close()
	for _, r := range b.Replicas {
		if strings.Contains(r.Log(), "DATA RACE") {
			t.Errorf("%s has a data race", r)
		}
		if t.Failed() {
			t.Logf("%s printed:\n%s", r, r.Log())
		}
	}
}

// agree waits until what some replicas answer is right.
func (b *bed) agree(replicas ...*testbed.Replica) {
	b.t.Helper()
	testserver.Eventually(b.t, "all answers are right", func() bool { return b.judge.Agree(replicas...) })
}

// right fails the test if an answer was wrong since it was last called.
func (b *bed) right() {
	b.t.Helper()
	answers, number := b.judge.Wrong()
	for _, wrong := range answers {
		b.t.Error(wrong)
	}
	if number > len(answers) {
		b.t.Errorf("and %d more", number-len(answers))
	}
}

// must fails the test on an error.
func (b *bed) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// together waits until each replica sees all of them.
func (b *bed) together() {
	b.t.Helper()
	for _, r := range b.Replicas {
		testserver.Eventually(b.t, fmt.Sprintf("%s sees all replicas", r), func() bool {
			seen, err := r.Metric("coredns_balance_fleet_members{")
			return err == nil && int(seen) == len(b.Replicas)
		})
	}
}

// without returns all replicas except one.
func (b *bed) without(number int) []*testbed.Replica {
	return slices.Delete(slices.Clone(b.Replicas), number, number+1)
}

// each calls a method of all replicas at once.
func (b *bed) each(call func(*testbed.Replica) error) error {
	errs := make([]error, len(b.Replicas))
	var calls sync.WaitGroup
	for i, r := range b.Replicas {
		calls.Go(func() { errs[i] = call(r) })
	}
	calls.Wait()
	return errors.Join(errs...)
}
