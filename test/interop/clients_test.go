// SPDX-License-Identifier: Apache-2.0

//go:build linux

package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// client is a program that looks names up, or that connects to what it finds.
type client struct {
	name string // as in the tables
	// look looks a name up so many times and returns the addresses that it got, or the one that it
	// connected to. Clients that keep answers are told not to, or get an alias for each time.
	look func(t *testing.T, name string, times int) [][]netip.Addr
	// keep does the same for one name as the client comes, in one process; nil: as look.
	keep func(t *testing.T, name string, times int) [][]netip.Addr
	// goesOn reports whether the client gets to a member behind one that refuses; nil if it does
	// not connect.
	goesOn func(t *testing.T, name string) bool
	// needs starts what the client needs; nil: nothing.
	needs func(t *testing.T)
}

// lookupClients return addresses to whoever called them.
var lookupClients = []client{
	{name: "dig", look: asking("dig", "+tries=1", "+time=60", "+short", "NAME", "AAAA", "NAME", "A")},
	{name: "kdig", look: asking("kdig", "+retry=0", "+time=60", "+short", "NAME", "AAAA", "NAME", "A")},
	{name: "drill", look: drill},
	{name: "glibc `getaddrinfo`", look: look("cc")},
	{name: "musl `getaddrinfo`", look: look("musl-gcc", "-static")},
	{name: "Go, its own resolver", look: goClient("go", "lookup")},
	{name: "Go with cgo", look: goClient("cgo", "lookup")},
	{name: "Node.js `dns.lookup`", look: lines("node", "testdata/look.js", "lookup", "NAME", "TIMES")},
	{name: "Node.js `dns.resolve` (c-ares)", look: lines("node", "testdata/look.js", "resolve", "NAME", "TIMES")},
	{name: "Python `socket.getaddrinfo`", look: lines("/usr/bin/python3", "testdata/look.py", "lookup", "NAME", "TIMES")},
	{name: "Java `InetAddress`", look: java("0", "lookup", "NAME"), keep: java("", "lookup", "NAME")},
	{name: "systemd-resolved, its stub", needs: resolved, look: asking("dig", "@127.0.0.53", "+tries=1", "+time=60", "+short", "NAME", "AAAA", "NAME", "A")},
	{name: "glibc with nss-resolve", needs: nssResolve, look: look("cc")},
	{name: "glibc with nscd", needs: nscd, look: look("cc")},
}

// connectClients return the address that they were served at.
var connectClients = []client{
	{name: "curl", look: curl(), goesOn: gets(nil, "curl", "-sS", "URL")},
	{name: "curl with DoH", look: curl(doh...), goesOn: gets(nil, "curl", append([]string{"-sS", "URL"}, doh...)...)},
	{name: "Go `net/http`", look: goClient("go", "http"), goesOn: gets(goEnv("go", "http"), "/proc/self/exe", "URL", "1")},
	{name: "Node.js `http.get`", look: lines("node", "testdata/look.js", "http", "http://NAME/", "TIMES"),
		goesOn: gets(nil, "node", "testdata/look.js", "http", "URL", "1")},
	{name: "Node.js `fetch`", look: lines("node", "testdata/look.js", "fetch", "http://NAME/", "TIMES"),
		goesOn: gets(nil, "node", "testdata/look.js", "fetch", "URL", "1")},
	{name: "Python `urllib`", look: lines("/usr/bin/python3", "testdata/look.py", "http", "http://NAME/", "TIMES"),
		goesOn: gets(nil, "/usr/bin/python3", "testdata/look.py", "http", "URL", "1")},
	{name: "Java `URLConnection`", look: java("0", "connection", "http://NAME/"), keep: java("", "connection", "http://NAME/"),
		goesOn: gets(nil, "java", javaArgs("", "connection", "URL", 1)...)},
	{name: "Java `HttpClient`", look: java("0", "client", "http://NAME/"), keep: java("", "client", "http://NAME/"),
		goesOn: gets(nil, "java", javaArgs("", "client", "URL", 1)...)},
	browser(chromium).client("Chromium"),
	browser(chromiumDoH).client("Chromium with DoH"),
	browser(firefox).client("Firefox"),
	browser(firefoxDoH).client("Firefox with DoH"),
}

// run runs a program to its end and returns what it prints.
func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	out, err := tryRun(t, env, name, args...)
	if err != nil {
		t.Fatalf("%s %q: %v", name, args, err)
	}
	return out
}

func tryRun(t *testing.T, env []string, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.WaitDelay = append(os.Environ(), env...), time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		t.Fatalf("%v: test/install installs what these tests run", err)
	case ctx.Err() != nil:
		t.Fatalf("%s %q did not end within %s: %s", name, args, patience, stderr.String())
	case err != nil:
		return "", fmt.Errorf("%w: %s", err, stderr.String())
	}
	return stdout.String(), nil
}

// parse reads a line of addresses for each time.
func parse(t *testing.T, text string) (all [][]netip.Addr) {
	t.Helper()
	for line := range strings.Lines(text) {
		all = append(all, addressesIn(line))
	}
	return all
}

// addressesIn returns the words that are addresses.
func addressesIn(text string) (all []netip.Addr) {
	for _, word := range strings.Fields(text) {
		if a, err := netip.ParseAddr(word); err == nil {
			all = append(all, a)
		}
	}
	return all
}

// asking is a tool that prints the addresses of one lookup; NAME stands for the name.
func asking(tool string, args ...string) func(*testing.T, string, int) [][]netip.Addr {
	return func(t *testing.T, name string, times int) (all [][]netip.Addr) {
		t.Helper()
		for range times {
			all = append(all, addressesIn(run(t, nil, tool, filled(args, name, 1)...)))
		}
		return all
	}
}

func filled(args []string, name string, times int) (all []string) {
	replacer := strings.NewReplacer("NAME", name, "TIMES", strconv.Itoa(times))
	for _, arg := range args {
		all = append(all, replacer.Replace(arg))
	}
	return all
}

// lines is a program that looks up TIMES times and prints a line for each.
func lines(program string, args ...string) func(*testing.T, string, int) [][]netip.Addr {
	return func(t *testing.T, name string, times int) [][]netip.Addr {
		t.Helper()
		return parse(t, run(t, nil, program, filled(args, name, times)...))
	}
}

func drill(t *testing.T, name string, times int) (all [][]netip.Addr) {
	t.Helper()
	for range times {
		all = append(all, addressesIn(run(t, nil, "drill", "-Q", name, "AAAA")+run(t, nil, "drill", "-Q", name, "A")))
	}
	return all
}

// compiled keeps what was compiled from look.c, by compiler.
var compiled sync.Map

// look is look.c, compiled against one C library or another.
func look(compiler string, args ...string) func(*testing.T, string, int) [][]netip.Addr {
	return func(t *testing.T, name string, times int) [][]netip.Addr {
		t.Helper()
		build := sync.OnceValue(func() string {
			path := filepath.Join(os.Getenv(roomEnv), "look-"+compiler)
			run(t, nil, compiler, append(args, "-Wall", "-Werror", "-o", path, "testdata/look.c")...)
			return path
		})
		path, _ := compiled.LoadOrStore(compiler, build)
		env := []string{"LD_LIBRARY_PATH=" + unpacked("usr/lib/x86_64-linux-gnu")}
		return parse(t, run(t, env, path.(func() string)(), name, strconv.Itoa(times)))
	}
}

// unpacked returns the path of a file of the packages that test/unpack unpacks.
func unpacked(path string) string {
	abs, _ := filepath.Abs(filepath.Join("../../.cache/debian", path))
	return abs
}

// goClientEnv makes this binary a client: lookup or http.
const goClientEnv = "INTEROP_GO"

// goClient is this binary with one of Go's resolvers: go or cgo.
func goClient(resolver, way string) func(*testing.T, string, int) [][]netip.Addr {
	return func(t *testing.T, name string, times int) [][]netip.Addr {
		t.Helper()
		if way == "http" {
			name = "http://" + name + "/"
		}
		return parse(t, run(t, goEnv(resolver, way), "/proc/self/exe", name, strconv.Itoa(times)))
	}
}

func goEnv(resolver, way string) []string {
	return []string{goClientEnv + "=" + way, "GODEBUG=netdns=" + resolver}
}

// beGoClient prints a line of addresses for each time; arguments are a name or a URL, and how many
// times.
func beGoClient(way string, args []string) {
	times, err := strconv.Atoi(args[1])
	for ; times > 0 && err == nil; times-- {
		var line string
		if way == "http" {
			line, err = goGet(args[0])
		} else {
			var found []string
			found, err = net.DefaultResolver.LookupHost(context.Background(), args[0])
			line = strings.Join(found, " ")
		}
		fmt.Println(strings.TrimSpace(line))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func goGet(url string) (string, error) {
	reply, err := http.Get(url) //nolint:noctx // the test that started this process ends it
	if err != nil {
		return "", err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	return string(text), err
}

// java runs Look.java, with networkaddress.cache.ttl as given; "" leaves it as it is.
func java(ttl string, way, what string) func(*testing.T, string, int) [][]netip.Addr {
	return func(t *testing.T, name string, times int) [][]netip.Addr {
		t.Helper()
		compileJava(t)
		return parse(t, run(t, nil, "java", javaArgs(ttl, way, strings.ReplaceAll(what, "NAME", name), times)...))
	}
}

// compileJava compiles Look.java, once.
func compileJava(t *testing.T) {
	t.Helper()
	if _, done := compiled.LoadOrStore("javac", true); !done {
		run(t, nil, "javac", "--add-exports", "java.base/sun.net=ALL-UNNAMED", "-d", os.Getenv(roomEnv), "testdata/Look.java")
	}
}

func javaArgs(ttl, way, what string, times int) []string {
	args := []string{"-XX:TieredStopAtLevel=1", "--add-exports", "java.base/sun.net=ALL-UNNAMED", "-cp", os.Getenv(roomEnv)}
	if ttl != "" {
		args = append(args, "-Dsun.net.inetaddr.ttl="+ttl)
	}
	return append(args, "Look", way, what, strconv.Itoa(times))
}

// dohURL is our DoH.
const dohURL = "https://" + router4 + ":5443/dns-query"

// doh sends curl there.
var doh = []string{"--doh-url", dohURL, "--doh-insecure"}

func curl(args ...string) func(*testing.T, string, int) [][]netip.Addr {
	return asking("curl", append([]string{"-sS", "http://NAME/"}, args...)...)
}

// gets reports whether a program, of which URL stands for the URL, gets past members that refuse,
// whoever leads.
func gets(env []string, program string, args ...string) func(*testing.T, string) bool {
	return func(t *testing.T, name string) bool {
		t.Helper()
		url, served := "http://"+name+":"+fallbackPort+"/", 0
		for range memberSets["four"] {
			var argv []string
			for _, arg := range args {
				argv = append(argv, strings.ReplaceAll(arg, "URL", url))
			}
			if _, err := tryRun(t, env, program, argv...); err == nil {
				served++
			}
		}
		return served == len(memberSets["four"])
	}
}
