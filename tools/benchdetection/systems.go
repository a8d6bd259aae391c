// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// testCase is a server with settings.
type testCase struct {
	Server, Check, Settings string
	Hold                    bool
	// 2: each backend that dies and one that stays; else this many.
	Endpoints int
	interval  time.Duration // between probes
	patience  time.Duration // after which a death counts as not noticed
	blind     bool          // the check cannot see that a process is frozen
	configure func(c *testCase, o options, dir string) (command []string, err error)
	options   string // in the words of the server
}

func (c testCase) String() string {
	name := fmt.Sprintf("%s %s %s", c.Server, c.Check, c.Settings)
	if c.Hold {
		name += " hold"
	}
	if c.Endpoints > 0 {
		name += fmt.Sprintf(" %d", c.Endpoints)
	}
	return name
}

// The fastest settings: the shortest interval and timeout that the server accepts, and one failure
// is enough. Ours accepts 10 ms; these leave a machine with two cores room for the rest.
const (
	ourFastest     = "interval 100ms\n timeout 50ms\n fast_interval 50ms\n fall 1\n"
	ourFastestMany = "interval 2s\n timeout 500ms\n fast_interval 500ms\n fall 1\n"
)

// cases returns all that is measured.
func cases(o options) (all []testCase) {
	ours := testCase{Server: "balance", configure: configureBalance, patience: time.Minute}
	for _, hold := range []bool{false, true} {
		for _, endpoints := range []int{0, o.many} {
			c := ours
			c.Check, c.Hold, c.Endpoints = "http", hold, endpoints
			c.Settings, c.interval = "default", 5*time.Second
			all = append(all, c)
			c.Settings, c.interval, c.options = "fastest", 100*time.Millisecond, ourFastest
			if endpoints > 0 {
				c.interval, c.options = 2*time.Second, ourFastestMany
			}
			all = append(all, c)
		}
	}
	tcp := ours
	tcp.Check, tcp.Settings, tcp.Hold, tcp.interval, tcp.blind = "tcp", "default", true, 5*time.Second, true
	all = append(all, tcp)
	for _, check := range []string{"http_status", "tcp_connect"} {
		c := testCase{Server: "gdnsd", Check: check, blind: check == "tcp_connect", configure: configureGdnsd}
		c.Settings, c.interval, c.patience = "default", 10*time.Second, 4*time.Minute
		all = append(all, c)
		c.Settings, c.interval, c.patience = "fastest", 2*time.Second, time.Minute
		c.options = "interval => 2, timeout => 1, up_thresh => 1, ok_thresh => 1, down_thresh => 1,"
		all = append(all, c)
	}
	for _, check := range []string{"ifurlup", "ifportup"} {
		c := testCase{Server: "PowerDNS", Check: check, blind: check == "ifportup", configure: configurePowerDNS, patience: time.Minute}
		c.Settings, c.interval, c.options = "default", 5*time.Second, "lua-health-checks-interval=5"
		all = append(all, c)
		c.Settings, c.interval, c.options = "fastest", time.Second, "lua-health-checks-interval=1"
		all = append(all, c)
	}
	return all
}

// missing returns the program that is not installed for the case, "" if there is none.
func (c testCase) missing() string {
	for server, program := range map[string]string{"gdnsd": "gdnsd", "PowerDNS": "pdns_server"} {
		if _, err := exec.LookPath(program); c.Server == server && err != nil {
			return program
		}
	}
	return ""
}

// server is the address at which all servers listen.
const server = "127.0.0.1:5300"

const soa = "$ORIGIN example.org.\n$TTL 30\n@ IN SOA ns hostmaster 1 7200 3600 1209600 60\n@ IN NS ns\nns IN A 127.0.0.1\n"

func write(dir, name, content string) (path string, err error) {
	path = filepath.Join(dir, name)
	return path, os.WriteFile(path, []byte(content), 0o600)
}

// configureBalance writes a Corefile and a zone file. If there are many endpoints, those that stay
// up are members of names with ten each.
func configureBalance(c *testCase, o options, dir string) ([]string, error) {
	var b strings.Builder
	b.WriteString(soa)
	for i := range 2 * o.rounds {
		fmt.Fprintf(&b, "t%d IN A %s\nt%d IN A %s\n", i, addrOf(mortal, i), i, addrOf(staying, 0))
	}
	for i := range c.lasting(o) {
		fmt.Fprintf(&b, "n%d IN A %s\n", i/perName, addrOf(staying, i))
	}
	if _, err := write(dir, "db", b.String()); err != nil {
		return nil, err
	}
	hold := ""
	if c.Hold {
		hold = "hold\n"
	}
	corefile := fmt.Sprintf("example.org:5300 {\n bind 127.0.0.1\n prometheus %s\n balance {\n health_check %s %d {\n allow 127.0.0.0/8\n max_endpoints 100000\n %s %s}\n}\n file %s\n}\n",
		metrics, c.Check, port, c.options, hold, filepath.Join(dir, "db"))
	path, err := write(dir, "Corefile", corefile)
	return []string{o.coredns, "-conf", path}, err
}

// configureGdnsd has the plugin multifo answer with all addresses that are up.
func configureGdnsd(c *testCase, o options, dir string) ([]string, error) {
	var names, resources strings.Builder
	names.WriteString(soa)
	for i := range 2 * o.rounds {
		fmt.Fprintf(&names, "t%d 30/30 DYNA multifo!t%d\n", i, i)
		fmt.Fprintf(&resources, "t%d => { a => %s, b => %s }\n", i, addrOf(mortal, i), addrOf(staying, 0))
	}
	for _, sub := range []string{"zones", "run", "state"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	if _, err := write(filepath.Join(dir, "zones"), "example.org", names.String()); err != nil {
		return nil, err
	}
	config := fmt.Sprintf("options => { listen => 127.0.0.1, dns_port => 5300, run_dir => %s/run, state_dir => %s/state }\n"+
		"service_types => { web => { plugin => %s, port => %d, %s } }\n"+
		"plugins => { multifo => { service_types => web\n%s } }\n", dir, dir, c.Check, port, c.options, resources.String())
	_, err := write(dir, "config", config)
	return []string{"gdnsd", "-c", dir, "start"}, err
}

// configurePowerDNS has LUA records answer with all addresses that are up. Its caches are off: what
// it answers is what it knows.
func configurePowerDNS(c *testCase, o options, dir string) ([]string, error) {
	var b strings.Builder
	b.WriteString(soa)
	for i := range 2 * o.rounds {
		what := strconv.Itoa(port)
		if c.Check == "ifurlup" {
			what = fmt.Sprintf("'http://www.example.org:%d/'", port)
		}
		fmt.Fprintf(&b, "t%d IN LUA A \"%s(%s, {'%s', '%s'}, {selector='all'})\"\n", i, c.Check, what, addrOf(mortal, i), addrOf(staying, 0))
	}
	zone, err := write(dir, "db", b.String())
	if err != nil {
		return nil, err
	}
	named, err := write(dir, "named.conf", fmt.Sprintf("zone \"example.org\" { type master; file \"%s\"; };\n", zone))
	if err != nil {
		return nil, err
	}
	_, err = write(dir, "pdns.conf", fmt.Sprintf("launch=bind\nbind-config=%s\nenable-lua-records=yes\nlocal-address=127.0.0.1\nlocal-port=5300\n"+
		"socket-dir=%s\ncache-ttl=0\nquery-cache-ttl=0\n%s\n", named, dir, c.options))
	return []string{"pdns_server", "--config-dir=" + dir, "--daemon=no", "--guardian=no"}, err
}

// metrics is the URL of CoreDNS' metrics.
const metrics = "127.0.0.1:9153"

// known reads from the metrics how many endpoints are up, and to how many a connection is held.
func known(ctx context.Context) (up, held int) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+metrics+"/metrics", nil)
	if err != nil {
		return 0, 0
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, 0
	}
	defer response.Body.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(text)) {
		var n int
		if _, err := fmt.Sscanf(line, `coredns_balance_endpoints{state="up",zone="example.org."} %d`, &n); err == nil {
			up = n
		}
		if _, err := fmt.Sscanf(line, `coredns_balance_held_connections{zone="example.org."} %d`, &n); err == nil {
			held = n
		}
	}
	return up, held
}
