// SPDX-License-Identifier: Apache-2.0

// Package status tests the page of the option status as people see it, with a browser, and as
// programs do.
package status

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/testserver"
)

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
	if err := testserver.Build("./cmd/coredns", binary); err != nil {
		log.Fatal(err)
	}
	if _, err := exec.LookPath("chromium"); err != nil {
		log.Fatalf("%v: run test/install test", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.UserDataDir(filepath.Join(dir, "profile")), chromedp.WSURLReadTimeout(testserver.Patience))
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
	t    *testing.T
	port string
	ends [3]func()
}

func (f *farm) addr(i int) string { return fmt.Sprintf("127.2.0.%d", i+1) }

func newFarm(t *testing.T) *farm {
	t.Helper()
	f := &farm{t: t, port: testserver.FreePort(t)}
	for i := range f.ends {
		f.revive(i)
	}
	t.Cleanup(func() {
		for _, end := range f.ends {
			end()
		}
	})
	return f
}

func (f *farm) kill(i int) { f.ends[i]() }

// revive starts a backend that answers every request with 200.
func (f *farm) revive(i int) {
	f.t.Helper()
	f.ends[i] = testserver.Listen(f.t, net.JoinHostPort(f.addr(i), f.port), func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		}
	})
}

// server is a CoreDNS in a process of its own.
type server struct {
	*testserver.Server
	t         *testing.T
	page      string
	overrides string
}

// corefile is a rule with all that the page can show, one that only observes, one that fails open,
// and one that is not shown.
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
		tier 127.2.0.11
		health_check tcp %[5]s {
			allow 127.2.0.0/16
			watch dead.example.org
			interval 300ms
			timeout 250ms
			fast_interval 50ms
		}
		fleet east {
			listen 127.2.9.1
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
	s := &server{t: t, page: "127.0.0.1:" + testserver.FreePort(t), overrides: filepath.Join(dir, "overrides")}
	var db strings.Builder
	db.WriteString("$ORIGIN example.org.\n$TTL 300\n@ IN SOA ns hostmaster 1 7200 3600 1209600 60\n@ IN NS ns\nns IN A 192.0.2.53\n")
	for i := range 3 {
		fmt.Fprintf(&db, "app IN A %s\nwww IN A 192.0.2.%d\nseen IN A 192.0.2.%d\n%s IN AAAA 2001:db8:aaaa:bbbb:cccc:dddd:eeee:%d\n", f.addr(i), i+1, i+1, longName, i+1)
		fmt.Fprintf(&db, "dead IN A 127.2.0.%d\n@ IN MX %d mail%d\nsrv IN SRV 0 0 443 app\n", i+11, 10*i, i)
	}
	s.Server = testserver.Serve(t, binary, func(port string) string {
		return fmt.Sprintf(corefile, port, s.page, s.overrides, f.port, testserver.FreePort(t), testserver.Write(t, filepath.Join(dir, "db"), db.String()), f.addr(0))
	})
	testserver.Eventually(t, "the page is there", func() bool {
		response, err := http.Get(s.url("/"))
		if err == nil {
			response.Body.Close()
		}
		return err == nil
	})
	return s
}

func (s *server) url(path string) string { return "http://" + s.page + path }

// use asks for every name some times.
func (s *server) use(times int) {
	s.t.Helper()
	for range times {
		for _, name := range []string{"app", "www", "seen", "dead", longName} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
				s.Client.Ask(testserver.Query(name+".example.org.", qtype))
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
	testserver.Eventually(s.t, fmt.Sprintf("the document has %q", parts), func() bool {
		raw := string(s.raw())
		for _, part := range parts {
			if !strings.Contains(raw, part) {
				return false
			}
		}
		return json.Valid([]byte(raw))
	})
}
