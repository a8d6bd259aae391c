// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"
)

// operated is a file that an operator changes, and the version that is in force. Versions are
// immutable.
type operated[T any] struct {
	name     string
	path     string
	versions []version[T]
	empty    T // what an empty file means
	missing  bool
	inForce  *timeline[*T] // nil: not known
}

// version is a good content, and what it means.
type version[T any] struct {
	text  string
	means T
}

// put replaces the content with a version, by renaming, and notes that it is in force.
func (o *operated[T]) put(v version[T]) error {
	return o.change(&v.means, func() error { return writeWhole(o.path, v.text) })
}

// change runs f and notes what is in force afterwards, nil if that is not known.
func (o *operated[T]) change(means *T, f func() error) error {
	o.inForce.set(nil)
	err := f()
	if means != nil {
		o.inForce.set(means)
	}
	return err
}

// noticed is how long the server takes to put new content into force.
const noticed = 2*time.Second + 200*time.Millisecond

// await waits until the server must have read the last version. If a version is replaced sooner, it
// is unknown whether it was read.
func (o *operated[T]) await(ctx context.Context, busy func() time.Duration) error {
	for now := time.Now(); len(o.during(now, now, busy())) > 1; now = time.Now() {
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// settled returns what is certainly in force, the zero value if something changed lately.
func (o *operated[T]) settled(busy time.Duration) (means T) {
	now := time.Now()
	if all := o.during(now, now, busy); len(all) == 1 && all[0] != nil {
		return *all[0]
	}
	return means
}

// during returns what may have been in force during some time, nil for what is not known.
func (o *operated[T]) during(from, to time.Time, busy time.Duration) []*T {
	return o.inForce.during(from.Add(-noticed-busy), to)
}

// weightsIn returns the weight file, with versions that sum up to 7, 11 and 5.
func weightsIn(disk string) *operated[map[netip.Addr]int] {
	o := &operated[map[netip.Addr]int]{name: "weights", path: filepath.Join(disk, "weights"), inForce: newTimeline[*map[netip.Addr]int](nil)}
	addrs := someAddrs("192.0.2.1")
	o.empty = sharesOf(addrs, []int{1, 1, 1, 1, 1})
	for _, weights := range [][]int{{3, 1, 1, 1, 1}, {1, 5, 1, 2, 2}, {1, 1, 1, 1, 1}} {
		text := new(strings.Builder)
		fmt.Fprintf(text, "# weights\nweighted.file.test\n")
		for i, a := range addrs {
			fmt.Fprintf(text, "%s %d\n", a, weights[i])
		}
		o.versions = append(o.versions, version[map[netip.Addr]int]{text.String(), sharesOf(addrs, weights)})
	}
	return o
}

func sharesOf(addrs []netip.Addr, weights []int) map[netip.Addr]int {
	shares := make(map[netip.Addr]int)
	for i, a := range addrs {
		shares[a] = weights[i]
	}
	return shares
}

// overridesIn returns the overrides file, which excludes nobody, one or two.
func overridesIn(disk string) *operated[map[netip.Addr]bool] {
	o := &operated[map[netip.Addr]bool]{name: "overrides", path: filepath.Join(disk, "overrides"), inForce: newTimeline[*map[netip.Addr]bool](nil)}
	o.empty = map[netip.Addr]bool{}
	o.missing = true
	addrs := someAddrs("192.0.2.1")
	o.versions = []version[map[netip.Addr]bool]{
		{"# nobody\n", o.empty},
		{fmt.Sprintf("%s down # one\n", addrs[1]), map[netip.Addr]bool{addrs[1]: true}},
		{fmt.Sprintf("%s drain # two\nover.file.test %s down\n", addrs[0], addrs[3]), map[netip.Addr]bool{addrs[0]: true, addrs[3]: true}},
	}
	return o
}

// excluding returns the members that all of some sets exclude, and those that some do. An unknown
// set may exclude any.
func excluding(sets []*map[netip.Addr]bool) (always, sometimes map[netip.Addr]bool) {
	always, sometimes = make(map[netip.Addr]bool), make(map[netip.Addr]bool)
	for _, a := range someAddrs("192.0.2.1") {
		n := 0
		for _, set := range sets {
			switch {
			case set == nil:
				sometimes[a] = true
			case (*set)[a]:
				n++
			}
		}
		always[a] = n > 0 && n == len(sets)
		sometimes[a] = sometimes[a] || n > 0
	}
	return always, sometimes
}
