// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// resources is what the idle server uses.
type resources struct {
	Own           int            // goroutines of balance, except those that probe
	Workers       int            // that probe: as many as were in flight at once
	Others        int            // goroutines
	Strays        int            // goroutines that stock plugins leave behind when a Corefile fails after they started
	Descriptors   int            // open, except those of Listeners
	Listeners     int            // of stock plugins for HTTP, which they leave behind in the same way
	Heap          int            // bytes in use after a collection
	RSS           int            // bytes
	Series        int            // of metrics
	BalanceSeries int            // of the plugin's own
	Panics        int            // that the server recovered from
	Held          int            // connections to endpoints that the option hold has open
	HeldAmiss     int            // by how many that is more or less than backends see
	unsettled     int            // endpoints that are not up
	stacks        map[string]int // goroutines by their stacks
}

// allowance is how much more than at the start is not yet a leak.
var allowance = resources{
	Own: 0, Workers: 40, // endpoints there are
	Others: 8, Descriptors: 10,
	Heap: 96 << 20,                                     // the turns of names that were asked for, which are kept for 65,536 of them
	RSS:  1500 << 20, Series: 1500, BalanceSeries: 150, // labels that the first fault of a kind brings
}

// limits returns the most that is not yet a leak, given what was used at the start.
func (r resources) limits() resources {
	return resources{
		Own: r.Own + allowance.Own, Workers: allowance.Workers, Others: r.Others + allowance.Others, Strays: math.MaxInt,
		Descriptors: r.Descriptors + allowance.Descriptors, Listeners: math.MaxInt, Held: backendsOfFarm,
		Heap: r.Heap + allowance.Heap, RSS: r.RSS + allowance.RSS, Series: r.Series + allowance.Series, BalanceSeries: r.BalanceSeries + allowance.BalanceSeries,
	}
}

// usage is a row of the table of resources.
type usage struct {
	what         string
	value, limit int
}

func (r resources) rows(limit resources) []usage {
	return []usage{
		{"goroutines of balance, except those that probe", r.Own, limit.Own},
		{"goroutines that probe", r.Workers, limit.Workers},
		{"goroutines of others", r.Others, limit.Others},
		{"goroutines that stock plugins lost", r.Strays, limit.Strays},
		{"descriptors", r.Descriptors, limit.Descriptors},
		{"listeners of stock plugins", r.Listeners, limit.Listeners},
		{"heap after a collection, KiB", r.Heap >> 10, limit.Heap >> 10},
		{"resident memory, KiB", r.RSS >> 10, limit.RSS >> 10},
		{"metric series", r.Series, limit.Series},
		{"metric series of balance", r.BalanceSeries, limit.BalanceSeries},
		{"connections held", r.Held, limit.Held},
		{"of these, too many or too few for the backends", r.HeldAmiss, 0},
		{"panics", r.Panics, 0},
		{"endpoints that are not up", r.unsettled, 0},
	}
}

// over returns what is above its limit.
func (r resources) over(limit resources) (what []string) {
	for _, u := range r.rows(limit) {
		if u.value > u.limit {
			what = append(what, fmt.Sprintf("%s: %d, want at most %d", u.what, u.value, u.limit))
		}
	}
	return what
}

// settle stops all queries and waits until the server uses no more than it may. What it still uses
// after a while is a leak. At the start, without anything to compare with, it waits until every
// endpoint is up.
func (w *world) settle(ctx context.Context, start *resources) (now resources) {
	w.hush(func() {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		var problem []string
		for {
			var err error
			if now, err = w.measure(ctx); err != nil {
				problem = []string{err.Error(), w.server.log.tail(20)}
			} else if problem = now.problems(start); len(problem) == 0 {
				return
			}
			if pause(ctx, 300*time.Millisecond) != nil {
				break
			}
		}
		if !errors.Is(ctx.Err(), context.Canceled) {
			w.violation("something stays behind", "%s%s", strings.Join(problem, "; "), now.grown(start))
		}
	})
	return now
}

func (r resources) problems(start *resources) []string {
	if start != nil {
		return r.over(start.limits())
	}
	if r.unsettled > 0 || r.Held != backendsOfFarm {
		return []string{fmt.Sprintf("%d endpoints are not up, and %d are held, want none and %d", r.unsettled, r.Held, backendsOfFarm)}
	}
	return nil
}

// grown says of which goroutines there are more than at the start.
func (r resources) grown(start *resources) string {
	if start == nil {
		return ""
	}
	var text strings.Builder
	for _, stack := range slices.Sorted(maps.Keys(r.stacks)) {
		if more := r.stacks[stack] - start.stacks[stack]; more > 0 && !strings.Contains(stack, workerStack) {
			fmt.Fprintf(&text, "\n  %d goroutines more: %s", more, stack)
		}
	}
	return text.String()
}

// measure asks the server, and the kernel, what it uses.
func (w *world) measure(ctx context.Context) (r resources, err error) {
	ask := func(url string, read func(io.Reader) error) {
		if err == nil {
			err = get(ctx, url, read)
		}
	}
	ask("http://"+pprofAddress+"/debug/pprof/heap?gc=1", func(io.Reader) error { return nil }) // collects
	ask("http://"+pprofAddress+"/debug/pprof/goroutine?debug=1", r.readStacks)
	if !w.blind.Load() { // else what metrics say is not known
		ask("http://"+metricsAddress+"/metrics", r.readMetrics)
		r.HeldAmiss = w.heldBy() - r.Held
		r.HeldAmiss = max(r.HeldAmiss, -r.HeldAmiss)
	}
	if err != nil {
		return r, err
	}
	if r.RSS, err = residentMemory(w.server.pid()); err != nil {
		return r, err
	}
	open, err := descriptors(w.server.pid())
	r.Descriptors = open - r.Listeners
	return r, err
}

// own is a client that leaves nothing open.
var own = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}

func get(ctx context.Context, url string, read func(io.Reader) error) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := own.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // only read
	return errors.Join(read(response.Body), drainBody(response.Body))
}

func drainBody(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// strays are the functions of goroutines that stock plugins start with a server and end with it,
// but leave running if it fails to come up: the zone reloads of file, the connections of forward,
// the listeners of pprof and prometheus, and the cleaner of dnssec's cache.
var strays = []string{"file.(*Zone).Reload", "proxy.(*Transport).connManager", "up.(*Probe)", "pprof.(*handler).Startup", "metrics.(*Metrics).OnStartup",
	"dnssec.periodicClean"}

// kindOf returns the count that a goroutine belongs to, by the functions that it is in.
func (r *resources) kindOf(stack string) *int {
	switch {
	case strings.Contains(stack, workerStack):
		return &r.Workers
	case strings.Contains(stack, "balance."):
		return &r.Own
	case slices.ContainsFunc(strays, func(stray string) bool { return strings.Contains(stack, stray) }):
		return &r.Strays
	}
	return &r.Others
}

const (
	workerStack = "balance.(*pool).work"
	acceptStack = "net.(*TCPListener).accept" // a listener waits
)

// readStacks reads a profile of goroutines: "N @ addresses", and a line for every function, the
// innermost first.
func (r *resources) readStacks(from io.Reader) error {
	r.stacks = make(map[string]int)
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	n, stack := 0, []string{}
	finish := func() {
		text := strings.Join(stack, " < ")
		kind := r.kindOf(text)
		r.stacks[text] += n
		*kind += n
		if kind == &r.Strays && strings.Contains(text, acceptStack) {
			r.Listeners += n
		}
		n, stack = 0, nil
	}
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) > 2 && fields[0] == "#":
			name, _, _ := strings.Cut(fields[2][strings.LastIndex(fields[2], "/")+1:], "+")
			stack = append(stack, name)
		case len(fields) > 1 && fields[1] == "@":
			finish()
			n, _ = strconv.Atoi(fields[0]) //nolint:errcheck // 0 then
		}
	}
	finish()
	return lines.Err()
}

// readMetrics reads a scrape.
func (r *resources) readMetrics(from io.Reader) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "#") {
			continue
		}
		r.Series++
		if strings.HasPrefix(line, "coredns_balance_") {
			r.BalanceSeries++
		}
		value, _ := strconv.ParseFloat(line[strings.LastIndex(line, " ")+1:], 64) //nolint:errcheck // 0 then
		switch name, _, _ := strings.Cut(line, " "); {
		case name == "coredns_panics_total":
			r.Panics = int(value)
		case strings.HasPrefix(name, "coredns_balance_held_connections{"):
			r.Held += int(value)
		case name == "go_memstats_heap_alloc_bytes":
			r.Heap = int(value)
		case strings.HasPrefix(name, "coredns_balance_endpoints{") && !strings.Contains(name, `state="up"`):
			r.unsettled += int(value)
		}
	}
	return lines.Err()
}

// residentMemory returns how many bytes of a process are in memory.
func residentMemory(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, errors.New("no VmRSS in the status of the server")
	}
	kilobytes, err := strconv.Atoi(fields[0])
	return kilobytes << 10, err
}
