// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// unit is a server with the works that one start of it is measured with.
type unit struct {
	server Server
	full   bool // its zone has all names
	works  []Work
}

// suite is a run under way. Owned by one goroutine, which is locked to its thread.
type suite struct {
	*Options
	cpus     processors
	dir      string
	backends int // port
	progress io.Writer
	works    []Work

	results     *Results
	done, total int
	began       time.Time
}

// measure runs the suite. What was measured before an error or an interrupt is returned with it.
func measure(ctx context.Context, o *Options, progress io.Writer) (*Results, error) {
	s, clean, err := newSuite(o, progress)
	if err != nil {
		return nil, err
	}
	defer clean()
	units := s.plan()
	for _, u := range units {
		s.total += len(u.works) * o.Rounds
	}
	for round := 1; round <= o.Rounds; round++ {
		rand.Shuffle(len(units), func(i, j int) { units[i], units[j] = units[j], units[i] }) //nolint:gosec // no secret
		for _, u := range units {
			s.measureUnit(ctx, round, u)
			if ctx.Err() != nil {
				s.finish()
				return s.results, fmt.Errorf("interrupted: %w", ctx.Err())
			}
		}
	}
	s.finish()
	s.results.Finished = true
	return s.results, nil
}

func (s *suite) finish() { s.results.Took = time.Since(s.began) }

// newSuite prepares what all servers share.
func newSuite(o *Options, progress io.Writer) (s *suite, clean func(), err error) {
	if _, err := exec.LookPath("dnsperf"); err != nil {
		return nil, nil, fmt.Errorf("%w: test/install bench installs it", err)
	}
	if err := refuseServices(); err != nil && !o.Quick {
		return nil, nil, err
	}
	runtime.LockOSThread()
	s = &suite{Options: o, progress: progress, works: works, began: time.Now()}
	if o.Quick && o.Profile == "" {
		s.works = fewer()
	}
	if s.cpus, err = pinning(); err != nil {
		return nil, nil, err
	}
	if s.dir, err = os.MkdirTemp("", "bench"); err != nil {
		return nil, nil, err
	}
	backends, err := s.startBackends()
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	s.results = &Results{
		Command: o.Command, Compare: o.Compare, Quick: o.Quick, Rounds: o.Rounds, Seconds: o.Seconds,
		Clients: o.Clients, Outstanding: o.Outstanding, Machine: examine(o, s.cpus), Began: s.began, Works: s.works,
	}
	return s, func() {
		backends.stop()
		_ = os.RemoveAll(s.dir)
		runtime.UnlockOSThread()
	}, nil
}

func (s *suite) startBackends() (*process, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s.backends = ports[0]
	return start([]string{self}, s.dir, []string{fmt.Sprintf("%s=backends %d", roleVariable, s.backends)}, s.cpus.client, s.cpus.client)
}

// plan returns what is to be measured, and notes what cannot be.
func (s *suite) plan() []unit {
	candidates := servers
	if variants := comparisons[s.Compare]; variants != nil {
		candidates = compared(variants)
	}
	var units []unit
	for i, c := range candidates {
		one, many := unit{server: c, full: c.Full}, unit{server: c, full: true}
		for k, w := range c.worksOf(s.works) {
			switch {
			case s.Only.String() != "" && !s.Only.MatchString(c.Name+"/"+w.Name):
			case s.Quick && !c.reference() && k != i%len(c.worksOf(s.works)):
			case w.many() && !c.Full:
				many.works = append(many.works, w)
			default:
				one.works = append(one.works, w)
			}
		}
		if len(one.works)+len(many.works) == 0 {
			continue
		}
		missing := s.missing(c)
		s.results.Servers = append(s.results.Servers, Entry{Name: c.Name, Base: c.Base, Records: c.Records, Program: c.program, Missing: missing, Next: c.Probes && !c.Full})
		for _, u := range []unit{one, many} {
			if len(u.works) > 0 && !missing {
				units = append(units, u)
			}
		}
	}
	return units
}

func (s Server) reference() bool { return s.Name == fileServer || s.Name == loadbalanceServer }

// missing reports whether the program of a server is not installed. If so, it notes that.
func (s *suite) missing(c Server) bool {
	if c.program == "" {
		return false
	}
	_, err := exec.LookPath(c.program)
	if err != nil {
		_, _ = fmt.Fprintf(s.progress, "missing: %s, because %s is not installed (test/install bench installs it)\n", c.Name, c.program)
	}
	return err != nil
}

// measureUnit starts a server, measures it with its works in random order, and ends it.
func (s *suite) measureUnit(ctx context.Context, round int, u unit) {
	at, p, err := s.startServer(ctx, u)
	if err != nil {
		for _, w := range u.works {
			s.refuse(ctx, round, u.server, w, err)
		}
		return
	}
	defer p.stop()
	for _, i := range rand.Perm(len(u.works)) { //nolint:gosec // no secret
		w := u.works[i]
		sample, err := s.measureWork(ctx, at, p, w)
		if err == nil {
			err = p.ended()
		}
		if err != nil {
			s.refuse(ctx, round, u.server, w, err)
			continue
		}
		sample.Round, sample.Server, sample.Work, sample.Memory = round, u.server.Name, w.Name, p.peakMemory()
		s.results.Samples = append(s.results.Samples, *sample)
		s.report(round, u.server, w, fmt.Sprintf("%.0f queries/s, %.1f µs, %.0f %% busy, p99 %.0f µs", sample.QPS, sample.CPU, 100*sample.Busy, sample.P99))
	}
}

func (s *suite) refuse(ctx context.Context, round int, server Server, w Work, err error) {
	if ctx.Err() != nil {
		return // it was interrupted
	}
	s.results.Refused = append(s.results.Refused, Refusal{Round: round, Server: server.Name, Work: w.Name, Why: err.Error()})
	s.report(round, server, w, "refused: "+err.Error())
}

// report tells how far the run is.
func (s *suite) report(round int, server Server, w Work, what string) {
	s.done++
	left := time.Duration(float64(time.Since(s.began)) / float64(s.done) * float64(s.total-s.done))
	_, _ = fmt.Fprintf(s.progress, "round %d of %d, %d of %d, ETA %s: %s/%s: %s\n",
		round, s.Rounds, s.done, s.total, left.Round(time.Second), server.Name, w.Name, what)
}

// measureWork measures a closed loop, then the latency at half of its rate.
func (s *suite) measureWork(ctx context.Context, at *site, p *process, w Work) (*Sample, error) {
	l := s.load(at, w)
	l.seconds = s.Seconds
	full, err := s.observe(ctx, at, p, l)
	if err != nil {
		return nil, err
	}
	l.seconds, l.rate = s.Seconds/2, max(1, int(full.QPS/2))
	half, err := s.observe(ctx, at, p, l)
	if err != nil {
		return nil, fmt.Errorf("at half load: %w", err)
	}
	return &Sample{
		QPS: full.QPS, CPU: full.cpu, Busy: full.busy, Client: full.client, Foreign: full.foreign, AnswerBytes: full.AnswerBytes, Lost: full.Lost,
		HalfQPS: half.QPS, HalfBusy: half.busy, P50: half.percentile(50), P99: half.percentile(99), HalfLost: half.Lost,
	}, nil
}

// observed is an outcome, and what it cost the server.
type observed struct {
	*outcome
	cpu, busy, foreign float64
}

func (s *suite) observe(ctx context.Context, at *site, p *process, l load) (*observed, error) {
	began, others := time.Now(), busy(s.cpus.server)
	before, err := p.used()
	if err != nil {
		return nil, err
	}
	o, err := l.run(ctx, at.dir)
	if err != nil {
		return nil, err
	}
	after, err := p.used()
	if err != nil {
		return nil, err
	}
	used := after - before
	others = max(0, busy(s.cpus.server)-others-used)
	return &observed{
		outcome: o,
		cpu:     float64(used.Nanoseconds()) / 1e3 / float64(o.Completed),
		busy:    used.Seconds() / o.Seconds,
		foreign: others.Seconds() / time.Since(began).Seconds(),
	}, nil
}
