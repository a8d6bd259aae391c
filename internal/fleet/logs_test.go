// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// lines is a log.
type lines struct {
	sync.Mutex
	all []string
}

func (l *lines) Infof(format string, args ...any) {
	l.Lock()
	defer l.Unlock()
	l.all = append(l.all, fmt.Sprintf(format, args...))
}
func (l *lines) Warningf(format string, args ...any) { l.Infof(format, args...) }
func (l *lines) Errorf(format string, args ...any)   { l.Infof(format, args...) }

// with returns the lines that hold a text.
func (l *lines) with(text string) (found []string) {
	l.Lock()
	defer l.Unlock()
	for _, line := range l.all {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// The log says who joins, leaves and fails. Of very many it names some, and how many it does not.
func TestLogOfMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		f := New(Config{Name: "dns", Replica: "a", Log: &log})
		at := netip.MustParseAddrPort("192.0.2.2:7946")
		self, b, c := Replica{Name: "a"}, Replica{Name: "b", Locality: "zone-b", Addr: at}, Replica{Name: "c", Addr: at}
		f.Members([]Replica{self, b, c})
		f.Left("b", true)
		f.Members([]Replica{self, c})
		f.Left("c", false)
		f.Members([]Replica{self})
		for _, want := range []string{
			"fleet dns: replica b (192.0.2.2:7946, zone-b) has joined; live replicas: 3",
			"fleet dns: replica b has left; live replicas: 2",
			"fleet dns: replica c has failed or cannot be reached; live replicas: 1",
		} {
			if len(log.with(want)) != 1 {
				t.Errorf("the log is %q, want %q once", log.all, want)
			}
		}
		if gone := f.Snapshot().Gone; len(gone) != 1 || gone[0].Name != "c" || !gone[0].Since.Equal(time.Now()) {
			t.Errorf("%+v, want c, which failed now", gone)
		}
		f.Members([]Replica{self, {Name: "c2", Addr: at}})
		if gone := f.Snapshot().Gone; len(gone) != 0 {
			t.Errorf("%+v, though another process is there", gone)
		}
		f.Members([]Replica{self})
		time.Sleep(goneFor)
		if gone := f.Snapshot().Gone; len(gone) != 0 {
			t.Errorf("%+v after %v", gone, goneFor)
		}
		crowd := []Replica{self}
		for i := range 500 {
			crowd = append(crowd, Replica{Name: fmt.Sprint("m", i), Addr: at})
		}
		f.Members(crowd)
		time.Sleep(time.Minute)
		f.Members(append(crowd, c))
		if n := len(log.with("has joined")); n > 25 {
			t.Errorf("%d lines about 500 replicas, want at most 25", n)
		}
		if len(log.with("changes before it not logged")) != 1 {
			t.Error("the log does not say how many changes it leaves out")
		}
	})
}

// A replica that leaves and joins again does not say that all others failed.
func TestLogOfStartAgain(t *testing.T) {
	var log lines
	f := New(Config{Name: "dns", Replica: "a", Log: &log})
	self, b := Replica{Name: "a"}, Replica{Name: "b"}
	for range 2 {
		f.Start(&node{})
		f.Members([]Replica{self})
		f.Members([]Replica{self, b})
		f.Stop(t.Context())
	}
	if joined, failed := len(log.with("b (")), len(log.with("has failed")); joined != 2 || failed > 0 {
		t.Errorf("the log is %q, want b to join twice", log.all)
	}
	if f.Forget(); len(f.Snapshot().Members) != 1 {
		t.Errorf("%+v, want itself alone", f.Snapshot().Members)
	}
}

// Votes that differ for some intervals are in the log once, and so is the end of that.
func TestLogOfDisputes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		w := newNetwork(t, 3)
		for _, n := range w.nodes {
			n.fleet.config.Log = &log
		}
		all := endpoints(20)
		for _, at := range all {
			w.nodes[0].see(at)
		}
		w.run(10 * time.Second)
		w.down = func(n *node, at netip.AddrPort) bool { return n == w.nodes[2] && at == all[3] }
		w.run(time.Minute)
		said := log.with("replicas have disagreed on " + nameOf(all[3]))
		if len(said) != 3 || !strings.Contains(said[0], "it is up by 2 of 3 votes") {
			t.Errorf("the log says %q, want the disagreement once for each replica", said)
		}
		if s := w.nodes[0].fleet.Snapshot(); s.Checks[0].Lasting != 1 {
			t.Errorf("%d disagreements last, want 1", s.Checks[0].Lasting)
		}
		w.down = func(*node, netip.AddrPort) bool { return false }
		w.run(20 * time.Second)
		if ended := log.with("replicas agree again"); len(ended) != 3 {
			t.Errorf("the log says %q, want the end once for each replica", ended)
		}
	})
}

// A replica that doubts itself says why, and when it does no longer.
func TestLogOfDoubt(t *testing.T) {
	for why, begin := range map[string]func(w *network){
		"all its probes fail, and other replicas report some of the endpoints up": func(w *network) {
			w.down = func(n *node, _ netip.AddrPort) bool { return n == w.nodes[0] }
		},
		"most of its probes are late or fail because of a local error": func(w *network) {
			w.nodes[0].share.Overloaded(true)
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			var log lines
			w := newNetwork(t, 3)
			w.nodes[0].fleet.config.Log = &log
			for _, at := range endpoints(20) {
				w.nodes[0].see(at)
			}
			w.run(10 * time.Second)
			begin(w)
			w.run(30 * time.Second)
			if want := "this replica doubts itself, so its votes do not count: " + why; len(log.with(want)) != 1 {
				t.Errorf("the log is %q, want %q once", log.all, want)
			}
			w.down = func(*node, netip.AddrPort) bool { return false }
			w.nodes[0].share.Overloaded(false)
			w.run(30 * time.Second)
			if len(log.with("trusts itself again")) != 1 {
				t.Errorf("the log is %q, want that it trusts itself again", log.all)
			}
		})
	}
}
