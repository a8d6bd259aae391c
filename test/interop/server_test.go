// SPDX-License-Identifier: Apache-2.0

//go:build linux

package interop

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-f1518d44/balance/internal/testserver"
)

// patience is how long a client may take for all that it is told to do: its end means "never".
const patience = 2 * time.Minute

// memberSets are the RRsets that clients look up, by the first label of their name below
// example.org. The client's machine is
// 10.9.0.10/24 and 2001:db8:9::10/64. Wildcards below are aliases, for clients that would not ask twice for one name.
var memberSets = map[string][]netip.Addr{
	"four":  addrs("198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.4"),
	"own":   addrs("10.9.0.11", "10.9.0.20", "10.9.0.130", "198.51.100.4"),
	"six":   addrs("2001:db8:77::1", "2001:db8:77::2", "2001:db8:77::3", "2001:db8:77::4"),
	"far":   addrs("2001:db8:8::1", "2001:db8:1::1", "2001:db8:100::1", "2001:db8:4000::1"),
	"both":  addrs("2001:db8:77::1", "2001:db8:77::2", "198.51.100.1", "198.51.100.2"),
	"mixed": addrs("2001:db8:77::1", "2001:db8:77::2", "10.9.0.11", "10.9.0.20", "10.9.0.130", "198.51.100.4"),
	"hint":  addrs("198.51.100.5", "198.51.100.6"),
}

// services are the records of names that have HTTPS records, by the label above them.
var services = map[string][]string{
	"hints":    {"A 198.51.100.1", "HTTPS 1 . alpn=http/1.1 ipv4hint=198.51.100.5,198.51.100.6"},
	"noaddr":   {"HTTPS 1 . alpn=http/1.1 ipv4hint=198.51.100.5,198.51.100.6"},
	"down":     {"HTTPS 1 . alpn=http/1.1 ipv4hint=198.51.100.5,198.51.100.6"}, // 198.51.100.5 is
	"port":     {"A 198.51.100.1", "HTTPS 1 . alpn=http/1.1 port=8443"},
	"priority": {"A 198.51.100.1", "HTTPS 2 second alpn=http/1.1", "HTTPS 1 first alpn=http/1.1"},
	"alias":    {"A 198.51.100.1", "HTTPS 0 first"},
}

// manyAddresses are as many A records as a message over TCP holds with some to spare.
const manyAddresses = 4000

func addrs(texts ...string) (all []netip.Addr) {
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

// records writes an RRset, and its alias.
func records(b *bytes.Buffer, name string, ttl int, members []netip.Addr) {
	for _, m := range members {
		rrtype := map[bool]string{true: "A", false: "AAAA"}[m.Is4()]
		fmt.Fprintf(b, "%s %d IN %s %s\n", name, ttl, rrtype, m)
	}
	fmt.Fprintf(b, "*.%s 0 IN CNAME %s\n", name, name)
}

// zoneFile is example.org. TTLs of members are 0 except for names that are to be cached.
func zoneFile() []byte {
	var b bytes.Buffer
	b.WriteString("$ORIGIN example.org.\n@ 300 IN SOA ns hostmaster 1 7200 3600 1209600 0\n@ 300 IN NS ns\nns 300 IN A 192.0.2.53\n")
	b.WriteString("start 0 IN A 198.51.100.1\n")
	for name, set := range memberSets {
		records(&b, name, 0, set)
		records(&b, name+".one", 0, set)
	}
	records(&b, "ttl300", 300, memberSets["four"])
	b.WriteString("first 0 IN A 198.51.100.2\nfirst 0 IN HTTPS 1 . alpn=http/1.1\nsecond 0 IN A 198.51.100.3\n")
	for name, set := range services {
		for _, record := range set {
			fmt.Fprintf(&b, "*.%s 0 IN %s\n", name, record)
		}
	}
	b.WriteString("*.many 0 IN CNAME many\n")
	for i := range manyAddresses {
		fmt.Fprintf(&b, "many 0 IN A 100.64.%d.%d\n", i/250, i%250+1)
	}
	return b.Bytes()
}

// server is a CoreDNS process on the router, 10.9.0.1: port 53, and 5443 for DoH.
type server struct {
	t   *testing.T
	log *testserver.Log
}

// corefile has every name balanced, some answered with one member each, and some with a member
// down.
const corefile = `(names) {
    log . "asked {name} {type} {proto} {>bufsize}"
    errors
    balance
    balance one.example.org {
        answers 1
    }
    balance down.example.org {
        overrides down
    }
    file db.example.org example.org
}
example.org:53 {
    bind 10.9.0.1
    import names
}
https://example.org:5443 {
    bind 10.9.0.1
    tls cert.pem key.pem
    import names
}
`

// binary is our CoreDNS.
var binary = sync.OnceValues(func() (string, error) {
	path, err := filepath.Abs("../../.cache/interop/coredns")
	if err != nil {
		return "", err
	}
	return path, testserver.Build("./cmd/coredns", path)
})

// serve runs CoreDNS until the test ends.
func serve(t *testing.T) *server {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, _, err := writeCertificate(dir); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"Corefile": []byte(corefile), "db.example.org": zoneFile(), "down": []byte("198.51.100.5 down\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := daemon(t, dir, nil, "nsenter", "--net="+farPath(), path, "-conf", "Corefile")
	testserver.Eventually(t, "CoreDNS listens", func() bool { return listens(router4+":53") && listens(router4+":5443") })
	return &server{t, p.Log}
}

// daemon runs a program until the test ends.
func daemon(t *testing.T, dir string, env []string, name string, args ...string) *testserver.Process {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v; test/install installs what these tests run, test/unpack what they only unpack", err)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	return testserver.Start(t, cmd)
}

func listens(addr string) bool {
	conn, err := net.Dial("tcp", addr)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// question is a query as the server logged it.
type question struct {
	name, rrtype, proto, size string
}

// asked runs do and returns the questions that came for a name or below it.
func (s *server) asked(name string, do func()) (all []question) {
	before := s.log.Len()
	do()
	s.catchUp()
	for line := range strings.Lines(s.log.String()[before:]) {
		_, text, found := strings.Cut(line, "asked ")
		if f := strings.Fields(text); found && len(f) == 4 && strings.HasSuffix("."+f[0], "."+name+".") {
			all = append(all, question{f[0], f[1], f[2], f[3]})
		}
	}
	return all
}

// catchUp waits until the log has what was asked so far: a line is written after the answer has
// gone out.
func (s *server) catchUp() {
	s.t.Helper()
	direct := net.Resolver{PreferGo: true} // whatever nsswitch.conf says
	name := fmt.Sprintf("n%d.start.example.org.", s.log.Len())
	testserver.Eventually(s.t, "the log says that "+name+" was asked for", func() bool {
		direct.LookupHost(s.t.Context(), name)
		return strings.Contains(s.log.String(), "asked "+name)
	})
}
