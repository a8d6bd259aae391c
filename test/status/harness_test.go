// SPDX-License-Identifier: Apache-2.0

// Package status looks at the page of the option status as people do, with a browser, and as programs do.
package status

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// patience is how long a test waits for what must come: its end means "never".
const patience = 30 * time.Second

// binary is a CoreDNS with every stock plugin and balance; browser is what all tests share.
var (
	binary  string
	browser context.Context
)

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	dir, err := os.MkdirTemp("", "status")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "coredns")
	build := exec.Command("go", "build", "-C", filepath.Join("..", ".."), "-tags", "grpcnotrace", "-trimpath", "-o", binary, "./cmd/coredns")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		log.Fatalf("%v\n%s", err, out)
	}
	if _, err := exec.LookPath("chromium"); err != nil {
		log.Fatalf("%v: run test/install test", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.UserDataDir(filepath.Join(dir, "profile")), chromedp.WSURLReadTimeout(patience))
	allocator, end := chromedp.NewExecAllocator(context.Background(), options...)
	defer end()
	var cancel context.CancelFunc
	browser, cancel = chromedp.NewContext(allocator)
	defer cancel()
	if err := chromedp.Run(browser); err != nil {
		log.Fatal(err)
	}
	return m.Run()
}

// farm is three backends on one port, each at an address of its own.
type farm struct {
	t       *testing.T
	port    string
	servers [3]*http.Server
}

func (f *farm) addr(i int) string { return fmt.Sprintf("127.2.0.%d", i+1) }

func newFarm(t *testing.T) *farm {
	t.Helper()
	f := &farm{t: t, port: freePort(t)}
	for i := range f.servers {
		f.revive(i)
	}
	t.Cleanup(func() {
		for i := range f.servers {
			f.kill(i)
		}
	})
	return f
}

func (f *farm) kill(i int) { f.servers[i].Close() }

func (f *farm) revive(i int) {
	f.t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(f.addr(i), f.port))
	if err != nil {
		f.t.Fatal(err)
	}
	f.servers[i] = &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ReadHeaderTimeout: patience}
	go f.servers[i].Serve(listener)
}

// given are the ports that freePort returned.
var given = map[string]bool{}

// freePort returns a port of 127.0.0.1 that is free for UDP and TCP, another each time. It is below those that systems give to whoever
// wants any, so that nobody gets it by chance before it is used, nor while it is not.
func freePort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		port := strconv.Itoa(15_000 + rand.IntN(15_000))
		if given[port] {
			continue
		}
		packets, err := net.ListenPacket("udp", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		listener, err := net.Listen("tcp", "127.0.0.1:"+port)
		_ = packets.Close()
		if err != nil {
			continue
		}
		_ = listener.Close()
		given[port] = true
		return port
	}
	t.Fatal("no port is free")
	return ""
}

// server is a CoreDNS in a process of its own.
type server struct {
	t         *testing.T
	dns, page string
	overrides string
	cmd       *exec.Cmd
}

// corefile is a rule with all that the page can show, one that only observes, one that fails open, and one that
// is not shown.
const corefile = `example.org:%[1]s {
	bind 127.0.0.1
	balance {
		status %[2]s
	}
	balance app.example.org {
		status %[2]s
		policy weighted
		weight %[7]s 3
		overrides %[3]s 100ms
		health_check http %[4]s /healthz {
			allow 127.2.0.0/16
			interval 300ms
			timeout 250ms
			fast_interval 50ms
			max_interval 600ms
		}
	}
	balance seen.example.org {
		status %[2]s
		observe
		prefer 192.0.2.2
		answers 1
	}
	balance dead.example.org {
		status %[2]s
		health_check tcp %[5]s {
			allow 127.2.0.0/16
			watch dead.example.org
			interval 300ms
			timeout 250ms
			fast_interval 50ms
		}
	}
	balance hidden.example.org
	file %[6]s
}
`

const longName = "a-name-that-is-as-long-as-a-label-can-be-without-place-to-break.and-another-one-that-goes-on-and-on-and-on-for-the-width-of-it"

// start runs a CoreDNS whose names lead to a farm.
func start(t *testing.T, f *farm) *server {
	t.Helper()
	dir := t.TempDir()
	s := &server{t: t, dns: "127.0.0.1:" + freePort(t), page: "127.0.0.1:" + freePort(t), overrides: filepath.Join(dir, "overrides")}
	db := "$ORIGIN example.org.\n$TTL 300\n@ IN SOA ns hostmaster 1 7200 3600 1209600 60\n@ IN NS ns\nns IN A 192.0.2.53\n"
	for i := range 3 {
		db += fmt.Sprintf("app IN A %s\nwww IN A 192.0.2.%d\nseen IN A 192.0.2.%d\n%s IN AAAA 2001:db8:aaaa:bbbb:cccc:dddd:eeee:%d\n", f.addr(i), i+1, i+1, longName, i+1)
		db += fmt.Sprintf("dead IN A 127.2.0.%d\n@ IN MX %d mail%d\nsrv IN SRV 0 0 443 app\n", i+11, 10*i, i)
	}
	_, port, _ := net.SplitHostPort(s.dns)
	content := fmt.Sprintf(corefile, port, s.page, s.overrides, f.port, freePort(t), write(t, filepath.Join(dir, "db"), db), f.addr(0))
	s.cmd = exec.Command(binary, "-conf", write(t, filepath.Join(dir, "Corefile"), content))
	out, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stdout, s.cmd.Stderr = out, out
	t.Cleanup(func() {
		if said, err := os.ReadFile(out.Name()); t.Failed() && err == nil {
			t.Logf("%s", said)
		}
	})
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.end)
	s.eventually("the server answers", func() bool {
		response, err := http.Get(s.url("/"))
		if err == nil {
			response.Body.Close()
		}
		return err == nil && s.ask("www.example.org") == nil
	})
	return s
}

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

func (s *server) end() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
	s.cmd = nil
}

func (s *server) url(path string) string { return "http://" + s.page + path }

// ask looks the addresses of a name up.
func (s *server) ask(name string) error {
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", s.dns)
	}}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	_, err := resolver.LookupNetIP(ctx, "ip", name+".")
	return err
}

// use asks for every name some times.
func (s *server) use(times int) {
	s.t.Helper()
	for range times {
		for _, name := range []string{"app", "www", "seen", "dead", longName} {
			if err := s.ask(name + ".example.org"); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

// raw returns the JSON document.
func (s *server) raw() []byte {
	s.t.Helper()
	response, err := http.Get(s.url("/v1/status"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		s.t.Fatalf("status %d, %v: %s", response.StatusCode, err, body)
	}
	return body
}

// waitFor waits until the document holds a text.
func (s *server) waitFor(parts ...string) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("the document has %q", parts), func() bool {
		raw := string(s.raw())
		for _, part := range parts {
			if !strings.Contains(raw, part) {
				return false
			}
		}
		return json.Valid([]byte(raw))
	})
}

// eventually calls done until it is true.
func (s *server) eventually(what string, done func() bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.t.Fatalf("never: %s", what)
		}
	}
}
