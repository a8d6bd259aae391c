// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/seed-f1518d44/balance/internal/testserver"
	"github.com/seed-f1518d44/balance/tools/internal/report"
)

// TestMain lets this test's own processes play their roles.
func TestMain(m *testing.M) {
	if done, err := playRole(); done {
		exitOn(err)
		return
	}
	goleak.VerifyTestMain(m)
}

// TestQuick runs the suite as "make bench" does, for a shorter time, with the servers that are
// installed. It asserts nothing about speed, because machines that run tests are busy.
func TestQuick(t *testing.T) {
	dir := t.TempDir()
	coredns := filepath.Join(dir, "coredns")
	if err := testserver.Build("./cmd/coredns", coredns); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-quick", "-out", dir, "-coredns", coredns}, &out, t.Output()); err != nil {
		t.Fatal(err)
	}
	r, err := loadResults(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Servers) != len(servers) {
		t.Errorf("%d servers in the results, want all %d", len(r.Servers), len(servers))
	}
	for _, e := range r.Servers {
		if !strings.Contains(out.String(), "| "+e.Name) {
			t.Errorf("%s is not in the tables", e.Name)
		}
		switch measured := slices.ContainsFunc(r.Samples, func(s Sample) bool {
			return s.Server == e.Name && s.QPS > 0 && s.CPU > 0 && s.P50 > 0 && s.P99 >= s.P50
		}); {
		case e.Missing:
			t.Logf("%s is not installed", e.Program)
		case !measured:
			t.Errorf("%s was not measured", e.Name)
		}
	}
	checkDocument(t, dir)
	t.Run("profile", func(t *testing.T) { checkProfile(t, coredns) })
}

// checkProfile asserts that a profile is gathered, and that functions of balance are in it.
func checkProfile(t *testing.T, coredns string) {
	profile := filepath.Join(t.TempDir(), "default.pgo")
	args := []string{"-profile", profile, "-only", "^file.cache.balance(, health_check)?/3$", "-seconds", "0.2", "-coredns", coredns}
	if err := run(t.Context(), args, nil, t.Output()); err != nil {
		t.Fatal(err)
	}
	top, err := exec.Command("go", "tool", "pprof", "-top", "-cum", "-nodecount=100000", "-nodefraction=0", profile).CombinedOutput()
	if err != nil || !bytes.Contains(top, []byte("github.com/seed-f1518d44/balance.")) {
		t.Errorf("%v: nothing of balance in the profile:\n%s", err, top)
	}
}

// checkDocument asserts that the results are written into an existing document.
func checkDocument(t *testing.T, results string) {
	t.Helper()
	text, err := os.ReadFile("../../bench/results/answers.md")
	if err != nil {
		t.Fatal(err)
	}
	document := filepath.Join(t.TempDir(), "answers.md")
	if err := os.WriteFile(document, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), []string{"-report", results, "-document", document}, nil, os.Stderr); err != nil {
		t.Fatal(err)
	}
	filled, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"answers-servers.svg", "| file+cache+balance |", "<!-- end of bench servers -->", "<!-- end of bench gc -->"} {
		if !bytes.Contains(filled, []byte(want)) {
			t.Errorf("no %q in the document", want)
		}
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(document), "answers-servers.svg")); err != nil {
		t.Error(err)
	}
}

// answers is a name server that answers with A records as it is told.
func answers(t *testing.T, answer func(n int, r *dns.Msg, from net.Addr)) (port int) {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	started := make(chan struct{})
	server := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		r := new(dns.Msg)
		r.SetReply(q)
		answer(int(asked.Add(1)), r, w.RemoteAddr())
		_ = w.WriteMsg(r)
	})}
	go func() { _ = server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = server.Shutdown() })
	return conn.LocalAddr().(*net.UDPAddr).Port
}

// rotated adds n's addresses to an answer, the i-th first.
func rotated(r *dns.Msg, n zoneName, i int) {
	for k := range n.addrs {
		r.Answer = append(r.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: n.fqdn(), Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300},
			A:   n.addrs[(i+k)%len(n.addrs)].AsSlice(),
		})
	}
}

func TestVerify(t *testing.T) {
	w := works[0]
	name := w.names()[0]
	octet := func(from net.Addr, i int) int { return int(netip.MustParseAddrPort(from.String()).Addr().As4()[i]) }
	weights := []int{0, 0, 0, 1, 1, 2}
	for _, test := range []struct {
		name   string
		order  Order
		answer func(n int, r *dns.Msg, from net.Addr)
		want   string // the error
	}{
		{"fixed", Any, func(_ int, r *dns.Msg, _ net.Addr) { rotated(r, name, 0) }, ""},
		{"fixed instead of moving", Moves, func(_ int, r *dns.Msg, _ net.Addr) { rotated(r, name, 0) },
			"w3.bench.: 127.1.0.0 leads all of 40 answers, want others too"},
		{"moving", Moves, func(n int, r *dns.Msg, _ net.Addr) { rotated(r, name, n/7) }, ""},
		{"round robin", Strict, func(n int, r *dns.Msg, _ net.Addr) { rotated(r, name, n) }, ""},
		{"round robin with a skip", Strict, func(n int, r *dns.Msg, _ net.Addr) { rotated(r, name, n+n/5) },
			"w3.bench.: 127.1.0.1 leads 4 of 9 answers, want 3"},
		{"weighted", Weighted, func(n int, r *dns.Msg, _ net.Addr) { rotated(r, name, weights[n%6]) }, ""},
		{"round robin instead of weighted", Weighted, func(n int, r *dns.Msg, _ net.Addr) { rotated(r, name, n) },
			"w3.bench.: 127.1.0.0 leads 4 of 12 answers, want 6"},
		{"sticky", Sticky, func(_ int, r *dns.Msg, from net.Addr) { rotated(r, name, octet(from, 2)) }, ""},
		{"sticky by host", Sticky, func(_ int, r *dns.Msg, from net.Addr) { rotated(r, name, octet(from, 3)) },
			"w3.bench.: 127.9.0.1 is led by 127.1.0.1 and 127.9.0.2 by 127.1.0.2, want the same"},
		{"fixed instead of sticky", Sticky, func(_ int, r *dns.Msg, _ net.Addr) { rotated(r, name, 0) },
			"w3.bench.: 127.1.0.0 leads the answers of 40 networks, want others too"},
		{"truncated", Any, func(_ int, r *dns.Msg, _ net.Addr) { rotated(r, name, 0); r.Truncated = true },
			"w3.bench.: NOERROR, truncated true: want NOERROR, false"},
		{"failing", Any, func(_ int, r *dns.Msg, _ net.Addr) { r.Rcode = dns.RcodeServerFailure },
			"w3.bench.: SERVFAIL, truncated false: want NOERROR, false"},
		{"short", Any, func(_ int, r *dns.Msg, _ net.Addr) { rotated(r, name, 0); r.Answer = r.Answer[1:] },
			"w3.bench.: 2 records in the answer section and 0 in the authority section, want 3 and 0"},
		{"doubled", Any, func(_ int, r *dns.Msg, _ net.Addr) { rotated(r, name, 0); r.Answer[1] = r.Answer[0] },
			"w3.bench.: 127.1.0.0 in the answer, want each of 3 addresses once at most"},
	} {
		t.Run(test.name, func(t *testing.T) {
			at := &site{server: Server{Order: test.order}, port: answers(t, test.answer)}
			got := ""
			if err := verify(t.Context(), at, w); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("verify: %q, want %q", got, test.want)
			}
		})
	}
}

const dnsperfPrinted = `DNS Performance Testing Tool
Version 2.10.0

[Status] Sending queries (to 127.0.0.1:5301)
> NOERROR w3.bench A 0.000300
> NOERROR w3.bench A 0.000100
> NOERROR w3.bench A 0.000200
> T w3.bench A
Statistics:

  Queries sent:         4000
  Queries completed:    3999 (99.98%)
  Queries lost:         1 (0.02%)

  Response codes:       NOERROR 3998 (99.97%), SERVFAIL 1 (0.03%)
  Average packet size:  request 37, response 109
  Run time (s):         0.811140
  Queries per second:   14908.647089

  Average Latency (s):  0.001283 (min 0.000022, max 0.041165)
  Latency StdDev (s):   0.003016
`

func TestOutcome(t *testing.T) {
	file := filepath.Join(t.TempDir(), "printed")
	if err := os.WriteFile(file, []byte(dnsperfPrinted), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readOutcome(file)
	if err != nil {
		t.Fatal(err)
	}
	want := &outcome{
		Sent: 4000, Completed: 3999, Lost: 1, NoError: 3998, AnswerBytes: 109, Seconds: 0.81114, QPS: 14908.647089,
		latencies: []float64{100, 200, 300},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(outcome{})); diff != "" {
		t.Errorf("readOutcome (-want +got):\n%s", diff)
	}
	if err := got.check(); err == nil || err.Error() != "3998 of 3999 answers are NOERROR" {
		t.Errorf("check: %v, want it to refuse SERVFAIL", err)
	}
	if p := got.percentile(50); p != 200 {
		t.Errorf("median latency %v, want 200", p)
	}
}

// rounds are samples of a server, one a round.
func rounds(server string, cpu ...float64) []Sample {
	var samples []Sample
	for i, c := range cpu {
		samples = append(samples, Sample{Round: i + 1, Server: server, Work: "3", CPU: c, QPS: 1e6 / c, Busy: 1, Client: 0.5})
	}
	return samples
}

// TestRatio asserts that a ratio compares values of one round. The machine was slower in the
// second.
func TestRatio(t *testing.T) {
	r := &Results{Samples: slices.Concat(rounds("a", 30, 10, 20), rounds("b", 33, 11, 22))}
	got := r.ratio("b", "a", "3")
	if diff := cmp.Diff(report.Spread{Median: 1.1, Low: 1.1, High: 1.1}, got, cmp.Comparer(func(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 })); diff != "" {
		t.Errorf("ratio (-want +got):\n%s", diff)
	}
}

// TestTable asserts that the tables list all that was planned, and say why something has no
// numbers.
func TestTable(t *testing.T) {
	bound := rounds("peer", 2, 2, 2)
	for i := range bound {
		bound[i].Busy, bound[i].Client = 0.4, 1
	}
	r := &Results{
		Rounds: 3, Finished: true, Works: works[:1],
		Servers: []Entry{{Name: fileServer}, {Name: "peer", Records: 1}, {Name: "absent", Program: "absentd", Missing: true}, {Name: "wrong"}},
		Refused: []Refusal{{Round: 1, Server: "wrong", Work: "3", Why: "a | b"}},
		Samples: slices.Concat(rounds(fileServer, 20, 25, 16), bound),
	}
	var b strings.Builder
	r.writeTable(&b, works[0])
	want := `### one name with 3 addresses

| server | records | µs a query | × file | × loadbalance | queries/s | busy, % | p50, µs | p99, µs | MiB |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
| file | 3 | 20.00 (16.00 to 25.00) | 1.00 |  | 50000 (40000 to 62500) | 100 / 50 |  |  | 0 |
| peer | 1 | 2.00 (2.00 to 2.00) | 0.10 |  | 500000 (500000 to 500000) † | 40 / 100 |  |  | 0 |
| absent: **missing**, absentd is not installed |  |  |  |  |  |  |  |  |  |
| wrong: **refused** in 1 of 3 rounds, a / b |  |  |  |  |  |  |  |  |  |

`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	if chart := r.chart(); !strings.Contains(chart, "not installed") || !strings.Contains(chart, "refused") {
		t.Error("the chart does not say what was not installed and what was refused")
	}
}

func TestBetween(t *testing.T) {
	text := []byte("a\n<!-- bench gc -->\nold\n<!-- end of bench gc -->\nb\n")
	got, err := between(text, "gc", "new\n")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("a\n<!-- bench gc -->\n\nnew\n<!-- end of bench gc -->\nb\n", string(got)); diff != "" {
		t.Errorf("between (-want +got):\n%s", diff)
	}
	if _, err := between(text, "pgo", "new\n"); err == nil {
		t.Error("no error for a document without the markers")
	}
}

// TestInterrupted asserts that an interrupted run keeps its results and leaves no process behind.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dir := t.TempDir()
	after := writerFunc(func(p []byte) (int, error) {
		cancel()
		return len(p), nil
	})
	err := run(ctx, []string{"-rounds", "100", "-seconds", "0.1", "-only", "^floor.*/3$", "-out", dir}, &bytes.Buffer{}, after)
	if err == nil {
		t.Fatal("no error from a run that was interrupted")
	}
	r, err := loadResults(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Samples) != 1 || r.Finished {
		t.Errorf("%d samples, finished %t: want 1, false", len(r.Samples), r.Finished)
	}
	children, err := os.ReadFile("/proc/thread-self/children")
	if err == nil && len(bytes.TrimSpace(children)) > 0 {
		t.Errorf("processes %s are left", children)
	}
}

// TestMissing asserts that a server that is not installed is in the tables and is no error.
func TestMissing(t *testing.T) {
	dnsperf, err := exec.LookPath("dnsperf")
	if err != nil {
		t.Fatalf("%v: test/install installs it", err)
	}
	path := t.TempDir()
	if err := os.Symlink(dnsperf, filepath.Join(path, "dnsperf")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", path)
	var out bytes.Buffer
	args := []string{"-rounds", "1", "-seconds", "0.1", "-only", "^(floor.*|gdnsd, plain)/3$", "-out", t.TempDir()}
	if err := run(t.Context(), args, &out, t.Output()); err != nil {
		t.Fatal(err)
	}
	if want := "| gdnsd, plain: **missing**, gdnsd is not installed |"; !strings.Contains(out.String(), want) {
		t.Errorf("no %q in\n%s", want, out.String())
	}
	if strings.Contains(out.String(), "Not finished") {
		t.Errorf("said not to have finished:\n%s", out.String())
	}
}

// TestRefused asserts that a server that does not run is an error, and is in the tables.
func TestRefused(t *testing.T) {
	var out bytes.Buffer
	args := []string{"-rounds", "2", "-seconds", "0.1", "-only", "^file/3$", "-out", t.TempDir(), "-coredns", "/bin/false"}
	err := run(t.Context(), args, &out, t.Output())
	if err == nil || !strings.Contains(err.Error(), "2 measurements refused, the first file/3 in round 1: ended: exit status 1") {
		t.Errorf("%v, want 2 refusals", err)
	}
	if want := "| file: **refused** in 2 of 2 rounds, ended: exit status 1"; !strings.Contains(out.String(), want) {
		t.Errorf("no %q in\n%s", want, out.String())
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestPinned asserts that a server has a processor for itself, which this process is not on.
func TestPinned(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cpus, err := pinning()
	if err != nil {
		t.Fatal(err)
	}
	p, err := start([]string{"sleep", "60"}, t.TempDir(), nil, cpus.server, cpus.client)
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	for process, want := range map[int]int{p.Process.Pid: cpus.server, 0: cpus.client} {
		var set unix.CPUSet
		if err := unix.SchedGetaffinity(process, &set); err != nil {
			t.Fatal(err)
		}
		if set.Count() != 1 || !set.IsSet(want) {
			t.Errorf("process %d may use %d processors, of which %d: %t; want that one alone", process, set.Count(), want, set.IsSet(want))
		}
	}
	if runtime.NumCPU() > 1 && cpus.server == cpus.client {
		t.Errorf("client and server both on processor %d of %d", cpus.client, runtime.NumCPU())
	}
	if used, err := p.used(); used == 0 || err != nil {
		t.Errorf("used %v, %v: want some time", used, err)
	}
}

func TestFlags(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"-rounds", "0"}, "-rounds 0: want 1 or more"},
		{[]string{"-seconds", "0.01"}, "-seconds 0.01: want 0.1 or more"},
		{[]string{"-compare", "gcc"}, `-compare "gcc": want gc or pgo`},
		{[]string{"-only", "("}, "-only \"(\": want a regular expression: error parsing regexp: missing closing ): `(`"},
		{[]string{"all"}, `unexpected "all": want flags only`},
		{[]string{"-only", "nothing"}, `-only "nothing": leaves nothing to measure`},
	} {
		if err := run(t.Context(), append(test.args, "-out", t.TempDir()), &bytes.Buffer{}, &bytes.Buffer{}); err == nil || err.Error() != test.want {
			t.Errorf("%q: %v, want %q", test.args, err, test.want)
		}
	}
}
