// SPDX-License-Identifier: Apache-2.0

package observability

import (
	"fmt"
	"io"
	golog "log"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/bind" // the directives of the Corefile below
	_ "github.com/coredns/coredns/plugin/file"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	_ "github.com/seed-f1518d44/balance" // the plugin whose metrics these are
	"github.com/seed-f1518d44/balance/internal/directives"
	"github.com/seed-f1518d44/balance/internal/testserver"
)

// scrape is what one scrape found: values by series, as the text format spells them.
type scrape map[string]float64

// recording is the series of a real server, one scrape a tick. The rules look at hours, so each is
// played as if it were one of a minute.
type recording struct {
	t        *testing.T
	scrapes  []scrape
	families map[string]*dto.MetricFamily // by name, the last of each
	ticks    *time.Ticker
	client   *testserver.Client
	backends map[string]func() // what ends them, by address
	port     string
}

// tick is the time between two scrapes, enough for a probe in between.
const tick = 100 * time.Millisecond

// names are those that are asked for before each scrape.
var names = []string{"www.example.org.", "full.example.org.", "slow.example.org.", "held.example.org.", "outside.example.org."}

// next asks, scrapes and waits for the next tick.
func (r *recording) next() {
	r.t.Helper()
	<-r.ticks.C
	for _, name := range names {
		r.client.Ask(testserver.Query(name, dns.TypeA))
	}
	r.scrape()
}

// scrape records what there is now.
func (r *recording) scrape() {
	r.t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	now := scrape{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "coredns_balance_") {
			continue
		}
		r.families[f.GetName()] = f
		for _, m := range f.GetMetric() {
			now.add(f.GetName(), m)
		}
	}
	r.scrapes = append(r.scrapes, now)
}

// add adds a metric, as the series that a scrape makes of it.
func (s scrape) add(name string, m *dto.Metric) {
	h := m.GetHistogram()
	if h == nil {
		s[seriesOf(name, m)] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		return
	}
	for _, b := range h.GetBucket() {
		s[seriesOf(name+"_bucket", m, fmt.Sprintf("le=%q", strconv.FormatFloat(b.GetUpperBound(), 'g', -1, 64)))] = float64(b.GetCumulativeCount())
	}
	s[seriesOf(name+"_bucket", m, `le="+Inf"`)] = float64(h.GetSampleCount())
	s[seriesOf(name+"_count", m)] = float64(h.GetSampleCount())
	s[seriesOf(name+"_sum", m)] = h.GetSampleSum()
}

// seriesOf spells a series, with the labels that a scrape adds, and more.
func seriesOf(name string, m *dto.Metric, more ...string) string {
	labels := append(more, `instance="192.0.2.53:9153"`, `job="coredns"`)
	for _, l := range m.GetLabel() {
		labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
	}
	slices.Sort(labels)
	return name + "{" + strings.Join(labels, ",") + "}"
}

// many records so many scrapes.
func (r *recording) many(scrapes int) {
	for range scrapes {
		r.next()
	}
}

// until records until the last scrape has a value for a series whose text has all of some parts.
func (r *recording) until(value float64, name string, parts ...string) {
	r.t.Helper()
	for deadline := time.Now().Add(testserver.Patience); time.Now().Before(deadline); r.next() {
		for series, n := range r.scrapes[len(r.scrapes)-1] {
			has := func(part string) bool { return strings.Contains(series, part) }
			if strings.HasPrefix(series, name+"{") && n == value && !slices.ContainsFunc(parts, func(p string) bool { return !has(p) }) {
				return
			}
		}
	}
	r.t.Fatalf("never: %s with %q is %v", name, parts, value)
}

// minute returns when the last scrape is played, in minutes since the start.
func (r *recording) minute() int { return len(r.scrapes) - 1 }

// revive starts backends that accept connections and hang up, kill ends them.
func (r *recording) revive(addrs ...string) {
	r.t.Helper()
	for _, addr := range addrs {
		r.backends[addr] = testserver.Listen(r.t, net.JoinHostPort(addr, r.port), func(c net.Conn) {})
	}
}

func (r *recording) kill(addrs ...string) {
	for _, addr := range addrs {
		r.backends[addr]()
		delete(r.backends, addr)
	}
}

// input is a Corefile.
type input string

func (i input) Body() []byte       { return []byte(i) }
func (i input) Path() string       { return "Corefile" }
func (i input) ServerType() string { return "dns" }

// up are the backends' addresses, silentAddr is one that accepts connections and never says a word.
var up = []string{"127.3.0.1", "127.3.0.2", "127.3.0.3"}

const db = `$ORIGIN example.org.
$TTL 300
@ IN SOA ns hostmaster 1 7200 3600 1209600 60
@ IN NS ns
www IN A 127.3.0.1
www IN A 127.3.0.2
www IN A 127.3.0.3
full IN A 127.3.0.1
full IN A 127.3.0.2
slow IN A 127.3.1.1
slow IN A 127.3.1.2
slow IN A 127.3.1.3
held IN A 127.3.0.4
outside IN A 192.0.2.1
outside IN A 192.0.2.2
`

// record starts a server with live backends, and a recording of it. It returns the overrides file,
// which the server reads often.
func record(t *testing.T) (r *recording, overrides string) {
	t.Helper()
	caddy.Quiet, dnsserver.Quiet = true, true
	golog.SetOutput(io.Discard)
	if err := directives.Install(); err != nil {
		t.Fatal(err)
	}
	r = &recording{t: t, families: map[string]*dto.MetricFamily{}, ticks: time.NewTicker(tick), backends: map[string]func(){}, port: testserver.FreePort(t)}
	t.Cleanup(r.ticks.Stop)
	t.Cleanup(func() {
		for _, end := range r.backends {
			end()
		}
	})
	r.revive(up...)
	r.revive("127.3.0.4")
	silent := testserver.FreePort(t)
	for _, addr := range []string{"127.3.1.1", "127.3.1.2", "127.3.1.3"} {
		r.backends[addr] = testserver.Listen(t, net.JoinHostPort(addr, silent), func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	}
	dir := t.TempDir()
	overrides = filepath.Join(dir, "overrides")
	testserver.Write(t, overrides, "")
	testserver.Write(t, filepath.Join(dir, "db"), db)
	const quick = "interval 300ms\n timeout 250ms\n fast_interval 50ms\n max_interval 300ms\n fall 1\n rise 1\n"
	corefile := strings.NewReplacer("DIR", dir, "PORT", r.port, "SILENT", silent, "QUICK", quick).Replace(`example.org:0 {
 bind 127.0.0.1
 balance {
  overrides DIR/overrides 100ms
  health_check tcp PORT {
   allow 127.3.0.0/16
   QUICK
  }
 }
 balance full.example.org {
  health_check tcp PORT {
   allow 127.3.0.0/16
   max_endpoints 1
   QUICK
  }
 }
 balance slow.example.org {
  health_check http SILENT / {
   allow 127.3.0.0/16
   max_in_flight 1
   QUICK
  }
 }
 balance held.example.org {
  health_check tcp PORT {
   allow 127.3.0.0/16
   hold
   QUICK
  }
  fleet f {
   listen 127.3.9.1
  }
 }
 balance outside.example.org {
  health_check tcp PORT {
   allow 127.3.0.0/16
   QUICK
  }
  tier 192.0.2.1
  failback after 1m
  slow_start 2m
  damp
 }
 file DIR/db
}
`)
	instance, err := caddy.Start(input(corefile))
	if err != nil {
		t.Fatalf("%v\n%s", err, corefile)
	}
	t.Cleanup(func() {
		for _, err := range append(instance.ShutdownCallbacks(), instance.Stop()) {
			if err != nil {
				t.Error(err)
			}
		}
	})
	r.client = testserver.Dial(t, "udp", instance.Servers()[0].LocalAddr().String(), "")
	return r, overrides
}
