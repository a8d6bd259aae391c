// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// watched is a headless service that clients ask for without a pause while its endpoints change.
// Every change waits until all clients have seen the one before, so that it is known what an answer
// may hold: what the API server said when it was asked, or what a change under way makes of it.
type watched struct {
	t       *testing.T
	n       namespace
	slices  map[string]map[string]bool // slice, address, ready; owned by the test
	clients []*observer

	mu       sync.Mutex
	versions [][]string // the ready addresses after each change, in the order of round robin
	stop     chan struct{}
	running  sync.WaitGroup
}

// observer is a client of a watched service.
type observer struct {
	*client
	seen    atomic.Int64 // the version in the last answer
	answers atomic.Int64
	leads   map[string]int // owned by its goroutine until that has ended
	history []observation  // the same
}

// observation is an answer's version and who led.
type observation struct {
	version int
	lead    string
}

// watch makes a service with some slices and clients that ask for it.
func watch(t *testing.T, n namespace, clients int, content map[string]map[string]bool) *watched {
	t.Helper()
	w := &watched{t: t, n: n, slices: content, stop: make(chan struct{})}
	n.headless(t, "web")
	for name, addrs := range content {
		n.slice(t, "web", name, endpointsOf(addrs))
	}
	w.versions = [][]string{w.now()}
	first := dial(t, "udp")
	eventually(t, "the service is known", func() bool {
		return slices.Equal(sorted(addresses(first.ask(t, n.fqdn("web"), dns.TypeA))), w.versions[0])
	})
	for range clients {
		w.clients = append(w.clients, &observer{client: dial(t, "udp"), leads: map[string]int{}})
	}
	for _, o := range w.clients {
		w.running.Go(func() { w.observe(o) })
	}
	w.settle()
	return w
}

func endpointsOf(addrs map[string]bool) (endpoints []discoveryv1.Endpoint) {
	for addr, ready := range addrs {
		endpoints = append(endpoints, endpoint(addr, ready))
	}
	return endpoints
}

// now returns the addresses that are ready in any slice.
func (w *watched) now() []string {
	ready := map[string]bool{}
	for _, addrs := range w.slices {
		for addr, isReady := range addrs {
			if isReady {
				ready[addr] = true
			}
		}
	}
	return sorted(slices.Collect(maps.Keys(ready)))
}

// observe asks until the end and checks every answer.
func (w *watched) observe(o *observer) {
	for {
		select {
		case <-w.stop:
			return
		default:
		}
		from := w.newestSeen()
		reply, err := o.tryAsk(w.n.fqdn("web"), dns.TypeA)
		if err != nil {
			w.t.Errorf("no answer: %v", err)
			return
		}
		got := addresses(reply)
		version := w.versionOf(got, from)
		if version < 0 {
			w.t.Errorf("answer %d is %v, want one of the versions from %d on: %v\n%v", o.answers.Load(), got, from, w.versionsFrom(from), reply)
			return
		}
		o.leads[got[0]]++
		o.history = append(o.history, observation{version, got[0]})
		o.seen.Store(int64(version))
		o.answers.Add(1)
	}
}

// newestSeen returns the newest version that any client has seen: nobody may be answered an older
// one.
func (w *watched) newestSeen() int {
	newest := 0
	for _, o := range w.clients {
		newest = max(newest, int(o.seen.Load()))
	}
	return newest
}

func (w *watched) versionsFrom(from int) [][]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.versions[from:]
}

// versionOf returns the version that an answer holds, in rotation, -1 if it holds none.
func (w *watched) versionOf(got []string, from int) int {
	for i, version := range w.versionsFrom(from) {
		if len(got) > 0 && isRotation(got, version) {
			return from + i
		}
	}
	return -1
}

// set changes a slice and waits until all clients have seen it.
func (w *watched) set(slice string, addrs map[string]bool) {
	w.t.Helper()
	w.slices[slice] = addrs
	if now := w.now(); !slices.Equal(now, w.versions[len(w.versions)-1]) {
		w.mu.Lock()
		w.versions = append(w.versions, now)
		w.mu.Unlock()
	}
	w.n.setEndpoints(w.t, slice, endpointsOf(addrs))
	w.settle()
}

// settle waits until all clients have seen the last version, or one has failed.
func (w *watched) settle() {
	w.t.Helper()
	last := int64(len(w.versions) - 1)
	eventually(w.t, fmt.Sprintf("all clients see version %d", last), func() bool {
		return w.t.Failed() || !slices.ContainsFunc(w.clients, func(o *observer) bool { return o.seen.Load() < last || o.answers.Load() == 0 })
	})
	if w.t.Failed() {
		w.end()
		w.t.FailNow()
	}
}

// moreAnswers waits until all clients have got so many more answers.
func (w *watched) moreAnswers(n int64) {
	w.t.Helper()
	for _, o := range w.clients {
		until := o.answers.Load() + n
		eventually(w.t, "more answers", func() bool { return w.t.Failed() || o.answers.Load() >= until })
	}
}

func (w *watched) end() {
	close(w.stop)
	w.running.Wait()
}

// shuffle makes n changes of all kinds: endpoints become unready and ready, come, go and move to
// another slice. It leaves alone those that it is told to.
func (w *watched) shuffle(n int, stay []string) {
	w.t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	names := slices.Sorted(maps.Keys(w.slices))
	for i := range n {
		name := names[random.IntN(len(names))]
		addrs := maps.Clone(w.slices[name])
		movable := slices.DeleteFunc(slices.Sorted(maps.Keys(addrs)), func(a string) bool { return slices.Contains(stay, a) })
		if len(movable) == 0 || random.IntN(3) == 0 {
			addrs[fmt.Sprintf("10.244.%d.%d", random.IntN(250), i+1)] = true
			w.set(name, addrs)
			continue
		}
		one := movable[random.IntN(len(movable))]
		switch random.IntN(3) {
		case 0:
			addrs[one] = !addrs[one]
		case 1: // to another slice, where it is before it leaves this one
			other := names[(slices.Index(names, name)+1)%len(names)]
			there := maps.Clone(w.slices[other])
			there[one] = addrs[one]
			w.set(other, there)
			delete(addrs, one)
		case 2:
			delete(addrs, one)
		}
		w.set(name, addrs)
	}
}

// staying are endpoints that no change touches, in the slices of threeSlices.
var staying = []string{"10.244.20.20", "10.244.100.1", "10.244.100.2", "10.244.200.7"}

func threeSlices() map[string]map[string]bool {
	return map[string]map[string]bool{
		"web-a": {staying[0]: true, "10.244.1.1": true, "10.244.120.1": true},
		"web-b": {staying[1]: true, staying[3]: true, "10.244.2.2": false},
		"web-c": {staying[2]: true},
	}
}

// Whatever comes and goes, every query is answered with what the API says, and those that stay take
// equal turns.
func testChanges(t *testing.T, name string, clients int) {
	w := watch(t, newNamespace(t, "changes-"+name), clients, threeSlices())
	w.shuffle(60, staying)
	w.moreAnswers(20)
	w.end()
	if clients == 1 {
		w.skipsNobody(w.clients[0].history)
	}
	w.leadEqually(clients)
}

// skipsNobody fails the test unless each answer of a history is led by the member that was due: the
// one after the last lead or, where that has gone, the next that is there.
func (w *watched) skipsNobody(history []observation) {
	w.t.Helper()
	for i, now := range history[1:] {
		before := history[i]
		due := after(w.versions[before.version], before.lead)
		if cycle := w.versions[now.version]; !slices.Contains(cycle, due) {
			due = after(cycle, due)
		}
		if now.lead != due {
			w.t.Fatalf("answer %d is led by %s after %s, want %s\nbefore: %v\nnow: %v", i+1, now.lead, before.lead, due,
				w.versions[before.version], w.versions[now.version])
		}
	}
	w.t.Logf("%d answers over %d versions of the endpoints", len(history), len(w.versions))
}

// leadEqually fails the test unless those that stayed led equally often. With several clients
// answers may be under way with the set of before when a change comes.
func (w *watched) leadEqually(clients int) {
	w.t.Helper()
	var counts []int
	for _, who := range staying {
		sum := 0
		for _, o := range w.clients {
			sum += o.leads[who]
		}
		counts = append(counts, sum)
	}
	give := 1 + 2*(clients-1)
	w.t.Logf("those that stayed led %v times, over %d versions of the endpoints", counts, len(w.versions))
	if slices.Max(counts)-slices.Min(counts) > give {
		w.t.Errorf("those that stayed led %v times, want equally often, give or take %d", counts, give)
	}
}

// While the API server is gone, answers go on where they stood; what changes after it is back is
// seen.
func testAPIServerRestarts(t *testing.T) {
	w := watch(t, newNamespace(t, "restart"), 1, threeSlices())
	if err := theCluster.apiserver.end(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.moreAnswers(1000)
	if err := theCluster.startAPIServer(); err != nil {
		t.Fatal(err)
	}
	w.shuffle(10, staying)
	w.end()
	w.skipsNobody(w.clients[0].history)
	w.leadEqually(1)
}
