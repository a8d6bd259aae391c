// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

// processor returns the time that this process has spent on processors, in the kernel too.
func processor() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// heap returns the bytes in use on the heap, without garbage.
func heap() int {
	runtime.GC()
	runtime.GC() // what a sync.Pool held goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// descriptors returns how many are open.
func descriptors() int {
	// As Linux says since 6.2.
	if info, err := os.Stat("/proc/self/fd"); err == nil && info.Size() > 0 {
		return int(info.Size())
	}
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return 0
	}
	defer dir.Close() //nolint:errcheck // only read
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return 0
	}
	return len(names) - 1 // the directory's own
}

// connections returns how many TCP connections of the namespace are the prober's, how many of those
// are in TIME-WAIT, and how many are the backends', which have a port.
func connections(port int) (ours, waiting, theirs int) {
	text, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return -1, -1, -1
	}
	const listening, timeWait = "0A", "06"
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line) // number, local address, remote address, state
		if len(fields) < 4 || fields[3] == listening || fields[3] == "st" || fields[0] == "sl" {
			continue
		}
		switch {
		case strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port)):
			theirs++
		case fields[3] == timeWait:
			waiting++
		default:
			ours++
		}
	}
	return ours, waiting, theirs
}

// Probes is what balance's metrics say.
type Probes struct {
	Passed, Failed, Faults int // probes
	Unknown, Up, Down      int // endpoints
	WentDown               int // transitions
}

// Total is the number of probes, whatever came of them.
func (p Probes) Total() int { return p.Passed + p.Failed + p.Faults }

// readMetrics collects them, as a scrape does.
func readMetrics() (p Probes, err error) {
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		return p, err
	}
	into := map[string]map[string]*int{
		"coredns_balance_probes_total":      {"success": &p.Passed, "failure": &p.Failed, "error": &p.Faults},
		"coredns_balance_endpoints":         {"unknown": &p.Unknown, "up": &p.Up, "down": &p.Down},
		"coredns_balance_transitions_total": {"down": &p.WentDown},
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				if count := into[family.GetName()][label.GetValue()]; count != nil {
					*count += int(m.GetCounter().GetValue() + m.GetGauge().GetValue())
				}
			}
		}
	}
	return p, nil
}

// peaks are the highest numbers seen while a watch lasts.
type peaks struct {
	goroutines, descriptors int

	stop chan struct{}
	done sync.WaitGroup
}

// watchPeaks looks from time to time, so rarely that it costs almost nothing.
func watchPeaks() *peaks {
	p := &peaks{stop: make(chan struct{})}
	p.done.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			p.goroutines = max(p.goroutines, runtime.NumGoroutine())
			p.descriptors = max(p.descriptors, descriptors())
			select {
			case <-tick.C:
			case <-p.stop:
				return
			}
		}
	})
	return p
}

// end ends the watch; the numbers can be read then.
func (p *peaks) end() {
	close(p.stop)
	p.done.Wait()
}
