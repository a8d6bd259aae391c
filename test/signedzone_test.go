// SPDX-License-Identifier: Apache-2.0

package test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/testserver"
)

// signedZone is a zone and the key that it is signed with.
type signedZone struct {
	t      *testing.T
	origin string
	key    *dns.DNSKEY
	base   string // of the key's files
	plain  string // the zone file without signatures
}

// newSignedZone makes a zone, as zone does, and a key for it.
func newSignedZone(t *testing.T, origin, records string) *signedZone {
	t.Helper()
	onlyWhole(t, "it runs programs that test/install installs")
	z := &signedZone{t: t, origin: origin, plain: zone(t, origin, records)}
	z.key, z.base = signingKeyOf(t, origin)
	return z
}

// onTheFly are lines that serve it signed by the plugin dnssec.
func (z *signedZone) onTheFly() []string {
	return []string{"one_by_one", "dnssec {\n key file " + z.base + "\n }", "file " + z.plain}
}

// signedFile are lines that serve it signed in advance, with NSEC.
func (z *signedZone) signedFile() string { return "one_by_one\nfile " + z.sign() }

// oneByOne is a plugin that lets one query after the other pass. The plugins file and dnssec append
// signatures to the zone's own slice of an RRset (CoreDNS 1.15, lookup.go and dnssec.go), where
// that has room, as one of three records has: two queries at a time write to the same place, and
// the race detector says so.
type oneByOne struct{ plugin.Handler }

var (
	onePasses sync.Mutex
	itPasses  = new(byte) // key of the context of a query that does, and may be asked anew for an alias
)

func init() {
	dnsserver.Directives = slices.Insert(dnsserver.Directives, slices.Index(dnsserver.Directives, "dnssec"), "one_by_one")
	plugin.Register("one_by_one", func(c *caddy.Controller) error {
		dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler { return oneByOne{next} })
		return nil
	})
}

func (o oneByOne) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	if ctx.Value(itPasses) == nil {
		onePasses.Lock()
		defer onePasses.Unlock()
		ctx = context.WithValue(ctx, itPasses, true)
	}
	return plugin.NextOrFailure("one_by_one", o.Handler, ctx, w, r)
}

// sign signs it with BIND's dnssec-signzone and returns the file.
func (z *signedZone) sign(options ...string) string {
	z.t.Helper()
	text, err := os.ReadFile(z.plain)
	if err != nil {
		z.t.Fatal(err)
	}
	unsigned := file(z.t, "db", string(text)+z.key.String()+"\n")
	signed := unsigned + ".signed"
	run(z.t, "", "dnssec-signzone", append(options, "-z", "-o", z.origin, "-d", filepath.Dir(signed), "-f", signed, unsigned, z.base)...)
	return signed
}

// ds returns the record by which the zone above says which key is right.
func (z *signedZone) ds() string { return z.key.ToDS(dns.SHA256).String() + "\n" }

// validator is a resolver that trusts some keys, and BIND's delv, which trusts the first of these.
// Both ask the same server.
type validator struct {
	t       *testing.T
	asks    string // the server
	anchors string // delv's file
	root    string // the zone of the first key
	addr    string // the resolver's
	c       *testserver.Client
}

// validate starts Unbound, which asks addr, keeps nothing and leaves RRsets in the order that they
// have, until the test ends.
func validate(t *testing.T, addr string, zones ...*signedZone) *validator {
	t.Helper()
	v := &validator{t: t, asks: addr, root: zones[0].origin, addr: "127.0.0.1:" + freePort(t)}
	var keys, anchors strings.Builder
	for _, z := range zones {
		fmt.Fprintln(&keys, z.key)
		fmt.Fprintf(&anchors, "%s static-key %d %d %d %q;\n", z.origin, z.key.Flags, z.key.Protocol, z.key.Algorithm, z.key.PublicKey)
	}
	v.anchors = file(t, "anchors", "trust-anchors {\n"+anchors.String()+"};\n")
	unbound(t, v.addr, strings.NewReplacer("KEYS", file(t, "keys", keys.String()), "ASKS", at(addr)).Replace(`
  trust-anchor-file: "KEYS"
  cache-max-ttl: 0
  cache-max-negative-ttl: 0
  rrset-roundrobin: no
  aggressive-nsec: no
forward-zone:
  name: "."
  forward-addr: ASKS
`))
	v.c = dial(t, "udp", v.addr, "")
	return v
}

// unboundServer is what every Unbound here is told.
const unboundServer = `
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  log-time-ascii: yes
  module-config: "validator iterator"
  val-log-level: 2
  do-ip6: no
  do-not-query-localhost: no
  trust-anchor-signaling: no
remote-control:
  control-enable: no
server:`

// at writes an address the way Unbound does.
func at(addr string) string { return strings.Replace(addr, ":", "@", 1) }

// unbound runs Unbound with a configuration until the test ends, and returns when it listens.
func unbound(t *testing.T, addr, conf string) {
	t.Helper()
	said := filepath.Join(t.TempDir(), "log")
	log, err := os.Create(said)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unbound", "-d", "-c", file(t, "unbound.conf", "server:\n  interface: "+at(addr)+unboundServer+conf))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		log.Close()
		if text, err := os.ReadFile(said); err == nil && t.Failed() {
			t.Logf("unbound: %s", text)
		}
	})
	eventually(t, "unbound listens", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// resolves returns what the resolver answers, to a client that wants to know whether it is secure.
func (v *validator) resolves(name string, qtype uint16) *dns.Msg {
	v.t.Helper()
	return v.c.Ask(query(name, qtype).SetEdns0(4096, true))
}

// resolved fails the test unless the resolver finds what the server says signed by whom it trusts,
// and returns what it answers.
func (v *validator) resolved(name string, qtype uint16) *dns.Msg {
	v.t.Helper()
	reply := v.resolves(name, qtype)
	if !reply.AuthenticatedData {
		v.t.Fatalf("%s %s is not secure: %v", name, dns.TypeToString[qtype], reply)
	}
	return reply
}

// secure is resolved, and fails the test unless delv validates it as well.
func (v *validator) secure(name string, qtype uint16) *dns.Msg {
	v.t.Helper()
	reply := v.resolved(name, qtype)
	v.delved(name, qtype)
	return reply
}

// delved fails the test unless delv validates what the server says.
func (v *validator) delved(name string, qtype uint16) {
	v.t.Helper()
	if out := v.delv(name, qtype); !strings.Contains(out, "fully validated") || strings.Contains(out, "unsigned") {
		v.t.Fatalf("delv %s %s: %s", name, dns.TypeToString[qtype], out)
	}
}

// delv returns what delv says of a name at the server.
func (v *validator) delv(name string, qtype uint16) string {
	v.t.Helper()
	host, port, err := net.SplitHostPort(v.asks)
	if err != nil {
		v.t.Fatal(err)
	}
	out, _ := exec.Command("delv", "@"+host, "-p", port, "-a", v.anchors, "+root="+v.root, name, dns.TypeToString[qtype]).CombinedOutput()
	return string(out) // what it found is in there, also that it failed
}
