// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fleet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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

// grace is how old a change has to be before an answer must know about it. It is far more than the
// bound, which "make bench-fleet" measures: this machine may be busy.
const grace = 15 * time.Second

// bed is a testbed whose answers are judged.
type bed struct {
	*testbed.Bed
	t     *testing.T
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
	t.Cleanup(b.close)
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

func (b *bed) close() {
	b.Close()
	for _, r := range b.Replicas {
		if b.t.Failed() {
			b.t.Logf("%s printed:\n%s", r, r.Log())
		}
	}
}

// agree waits until what some replicas answer is right.
func (b *bed) agree(replicas ...*testbed.Replica) {
	b.t.Helper()
	testserver.Eventually(b.t, "all answers are right", func() bool { return b.judge.Agree(replicas...) })
}

// right fails the test if an answer was wrong since it was last called.
func (b *bed) right(t *testing.T) {
	t.Helper()
	answers, number := b.judge.Wrong()
	for _, wrong := range answers {
		t.Error(wrong)
	}
	if number > len(answers) {
		t.Errorf("and %d more", number-len(answers))
	}
}
