// SPDX-License-Identifier: Apache-2.0

//go:build linux

package testbed

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/testserver"
	"github.com/seed-f1518d44/balance/tools/internal/netns"
)

// Replica is a CoreDNS on a host of its own. Its methods are called by one goroutine, except those
// that say otherwise.
type Replica struct {
	Number     int
	Check      string        // lines of the check's block, for the next Start or Reload
	ClockAhead time.Duration // of its wall clock, for the next Start

	bed     *Bed
	host    *netns.Host
	process *testserver.Process       // nil: none runs
	since   atomic.Pointer[time.Time] // when it was last started or resumed
	ended   []*testserver.Process
}

func newReplica(b *Bed, host *netns.Host, number int) *Replica {
	r := &Replica{Number: number, Check: b.Check, bed: b, host: host}
	r.since.Store(new(time.Time))
	return r
}

func (r *Replica) String() string { return fmt.Sprintf("replica %d", r.Number+1) }

// Host returns its host.
func (r *Replica) Host() *netns.Host { return r.host }

// Log returns what its processes have printed. Safe for concurrent use with itself only.
func (r *Replica) Log() string {
	var text strings.Builder
	for _, p := range r.ended {
		text.WriteString(p.Log.String())
	}
	if r.process != nil {
		text.WriteString(r.process.Log.String())
	}
	return text.String()
}

// Start starts the process and returns once it says that it is ready.
func (r *Replica) Start() error {
	if err := r.writeCorefile(); err != nil {
		return err
	}
	cmd := exec.Command(r.bed.CoreDNS, "-conf", r.bed.path(r.corefileName())) //nolint:gosec // the user's choice
	cmd.Dir = r.bed.Dir
	cmd.Env = append(os.Environ(), "GORACE=halt_on_error=0 exitcode=66")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := r.host.Do(func() (err error) {
		if r.process, err = testserver.Run(cmd); err == nil && r.ClockAhead != 0 {
			err = setClock(cmd.Process, r.ClockAhead)
		}
		return err
	})
	if err != nil {
		return err
	}
	err = r.process.Await(r.ready)
	r.touch()
	return err
}

// ready returns nil if it says that it is ready. It may say so a moment before it listens; then it
// prints its version.
func (r *Replica) ready(context.Context) error {
	text, err := r.Get("http://127.0.0.1:8181/ready")
	if err == nil && (text != "OK" || !strings.Contains(r.process.Log.String(), "CoreDNS-")) {
		err = fmt.Errorf("%s is not ready: %q", r, text)
	}
	return err
}

func (r *Replica) corefileName() string { return "Corefile" + strconv.Itoa(r.Number) }

func (r *Replica) writeCorefile() error {
	return os.WriteFile(r.bed.path(r.corefileName()), []byte(r.corefile()), 0o600)
}

// touch notes that the replica could not answer until now.
func (r *Replica) touch() {
	now := time.Now()
	r.since.Store(&now)
}

// Kill kills the process, which has no chance to say anything.
func (r *Replica) Kill() { r.kill() }

func (r *Replica) kill() {
	if r.process != nil {
		r.process.Kill()
		r.ended, r.process = append(r.ended, r.process), nil
	}
}

// Leave ends the process in order.
func (r *Replica) Leave() error {
	err := r.process.End(syscall.SIGTERM)
	r.ended, r.process = append(r.ended, r.process), nil
	return err
}

// Pause stops the process until Resume.
func (r *Replica) Pause() error { return r.process.Cmd.Process.Signal(syscall.SIGSTOP) }

// Resume undoes Pause.
func (r *Replica) Resume() error {
	defer r.touch()
	return r.process.Cmd.Process.Signal(syscall.SIGCONT)
}

// Reload has the process read its Corefile again, and waits until it says that it has.
func (r *Replica) Reload() error {
	if err := r.writeCorefile(); err != nil {
		return err
	}
	const done = "Reloading complete"
	before := strings.Count(r.process.Log.String(), done)
	if err := r.process.Cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		return err
	}
	return r.process.Await(func(context.Context) error {
		if strings.Count(r.process.Log.String(), done) == before {
			return fmt.Errorf("%s does not reload", r)
		}
		return nil
	})
}

// Has reports whether an answer that is asked for now holds a backend.
func (r *Replica) Has(b *Backend) (has bool, err error) {
	c := client{replica: r, hear: func(a Answer) { has = a.In[b.Number-a.First] }}
	defer c.hangUp()
	return has, c.ask(b.Number / r.bed.PerName)
}

// dial connects to the DNS server, from its own host.
func (r *Replica) dial() (*dns.Conn, error) {
	var c net.Conn
	err := r.host.Do(func() (err error) {
		c, err = net.Dial("udp", "127.0.0.1:53")
		return err
	})
	if err != nil {
		return nil, err
	}
	return &dns.Conn{Conn: c, UDPSize: dns.MaxMsgSize}, nil
}

// Get returns what one of its HTTP servers has at a URL. Safe for concurrent use.
func (r *Replica) Get(url string) (string, error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		err = r.host.Do(func() error {
			c, err = new(net.Dialer).DialContext(ctx, network, addr)
			return err
		})
		return c, err
	}}
	reply, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Get(url)
	if err != nil {
		return "", err
	}
	defer reply.Body.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(reply.Body)
	return string(text), err
}

// Metric returns the sum of the series whose text begins with a prefix: a name, and perhaps labels.
// Safe for concurrent use.
func (r *Replica) Metric(series string) (sum float64, err error) {
	text, err := r.Get("http://127.0.0.1:9153/metrics")
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, series) {
			continue
		}
		fields := strings.Fields(line)
		if value, err := strconv.ParseFloat(fields[len(fields)-1], 64); err == nil {
			sum += value
		}
	}
	return sum, err
}
