// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// instance is a backend at a port of its own, as Consul, Nomad and named ports of Kubernetes have
// them.
type instance struct {
	t          *testing.T
	addr, port string
	end        func() // nil while it is dead
}

// newInstances starts backends at addresses of 127.1.0.0/16, each at another port.
func newInstances(t *testing.T, addrs ...string) (all []*instance) {
	t.Helper()
	for _, addr := range addrs {
		all = append(all, &instance{t: t, addr: addr, port: freePort(t)})
	}
	for _, i := range all {
		i.revive()
		t.Cleanup(i.kill)
	}
	return all
}

func (i *instance) kill() {
	if i.end != nil {
		i.end()
	}
	i.end = nil
}

func (i *instance) revive() {
	i.t.Helper()
	i.kill()
	i.end = listening(i.t, net.JoinHostPort(i.addr, i.port))
}

// record returns the data of the SRV record that leads to the backend.
func (i *instance) record(target string) string {
	return fmt.Sprintf("0 1 %s %s", i.port, target)
}

// srvCheck returns a health_check by the ports of records.
func srvCheck(protocol string, lines ...string) string {
	return healthCheck(protocol, "srv", "", append(lines, "ports 1024-65535", quick)...)
}

const webSRV = "_web._tcp.example.org."

// oneHost are the records of three backends on one host.
func oneHost(all []*instance) string {
	var records strings.Builder
	records.WriteString("host IN A " + all[0].addr + "\n")
	for _, i := range all {
		records.WriteString("_web._tcp IN SRV " + i.record("host") + "\n")
	}
	return records.String()
}

// dataOfSRV returns the data of the SRV records of some backends, sorted.
func dataOfSRV(target string, some ...*instance) (data []string) {
	for _, i := range some {
		data = append(data, i.record(target))
	}
	slices.Sort(data)
	return data
}

// Three backends on one host have three ports: only the record of the dead one leaves, with or
// without the address beside it, and the host keeps its address until all are dead.
func TestSRVMembersAreProbedOnTheirOwnPorts(t *testing.T) {
	for name, beside := range map[string]string{"glue": "", "no glue": "minimal\n"} {
		t.Run(name, func(t *testing.T) {
			all := newInstances(t, "127.1.0.1", "127.1.0.1", "127.1.0.1")
			k := startChecked(t, rule("all_down nodata", srvCheck("tcp", "watch _web._tcp.example.org")), beside+"file "+zone(t, "example.org.", oneHost(all)))
			k.judged(3, 0)
			k.answersOf(webSRV, dns.TypeSRV, 30, dataOfSRV("host.example.org.", all...)...)
			all[2].kill()
			k.answersOf(webSRV, dns.TypeSRV, 5, dataOfSRV("host.example.org.", all[:2]...)...)
			k.answersOf("host.example.org.", dns.TypeA, 30, "127.1.0.1")
			all[0].kill()
			all[1].kill()
			k.answersOf("host.example.org.", dns.TypeA, 5)
			k.answersOf(webSRV, dns.TypeSRV, 5)
			all[1].revive()
			k.answersOf(webSRV, dns.TypeSRV, 5, dataOfSRV("host.example.org.", all[1])...)
			k.answersOf("host.example.org.", dns.TypeA, 30, "127.1.0.1")
			for i, up := range []float64{0, 1, 0} {
				series := endpointUp(net.JoinHostPort(all[i].addr, all[i].port), "tcp:srv")
				if got := counts(t, k.metrics)[series]; got != up {
					t.Errorf("%s is %v, want %v", series, got, up)
				}
			}
		})
	}
}

// The address of a backend that leaves goes with its record, although another of its ports is up.
func TestGlueOfASRVMemberLeavesWithIt(t *testing.T) {
	all := newInstances(t, "127.1.0.1", "127.1.0.2", "127.1.0.1")
	records := "_web._tcp IN SRV " + all[0].record("a") + "\n_web._tcp IN SRV " + all[1].record("b") + "\n_metrics._tcp IN SRV " + all[2].record("a") +
		"\na IN A 127.1.0.1\nb IN A 127.1.0.2\n"
	k := startChecked(t, rule("all_down nodata", srvCheck("tcp", "watch _web._tcp.example.org _metrics._tcp.example.org")), "file "+zone(t, "example.org.", records))
	k.judged(3, 0)
	all[0].kill()
	k.answersOf(webSRV, dns.TypeSRV, 5, all[1].record("b.example.org."))
	reply := k.c.Ask(query(webSRV, dns.TypeSRV))
	if got := dataOf(reply.Extra, dns.TypeA); !slices.Equal(got, []string{"127.1.0.2"}) {
		t.Errorf("the additional section has %v, want the address of the other backend only", got)
	}
	k.answersOf("a.example.org.", dns.TypeA, 30, "127.1.0.1")
}

// Without watch, the first answer has the endpoints of its records probed.
func TestSRVEndpointsComeFromAnswers(t *testing.T) {
	all := newInstances(t, "127.1.0.1", "127.1.0.1")
	all[0].kill()
	t.Cleanup(silent(t, net.JoinHostPort(all[0].addr, all[0].port))) // it ends no connection
	all[1].kill()
	k := startChecked(t, rule(srvCheck("tcp", "hold")), "file "+zone(t, "example.org.", oneHost(all)))
	k.answersOf(webSRV, dns.TypeSRV, 5, all[0].record("host.example.org."))
	eventually(t, "a held connection", func() bool { return counts(t, k.metrics)[`coredns_balance_held_connections{zone="example.org."}`] == 1 })
}

// Each protocol with srv probes the port of the record: of two backends on one host, the record of
// the dead one leaves.
func TestProtocolsOfSRV(t *testing.T) {
	ca := newIssuer(t)
	host := func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) }
	for protocol, tc := range map[string]struct {
		open opener
		line func(at string) string
	}{
		"tcp":   {listening, nil},
		"http":  {serving(host), func(at string) string { return "body " + at }}, // the Host header has the port
		"https": {overTLS(certified(ca.forName("www.example.org")), saying(200, "")), func(string) string { return "host www.example.org\n tls " + ca.file() }},
		"grpc":  {healthServer("", grpc_health_v1.HealthCheckResponse_SERVING), nil},
		"udp":   {echoing, func(string) string { return "send ping\n receive ping" }},
	} {
		t.Run(protocol, func(t *testing.T) {
			all := newInstances(t, "127.1.0.1", "127.1.0.1")
			all[0].kill()
			all[1].kill()
			at := net.JoinHostPort(all[0].addr, all[0].port)
			t.Cleanup(tc.open(t, at))
			line := ""
			if tc.line != nil {
				line = tc.line(at)
			}
			k := startChecked(t, rule(srvCheck(protocol, line)), "file "+zone(t, "example.org.", oneHost(all)))
			k.answersOf(webSRV, dns.TypeSRV, 5, all[0].record("host.example.org."))
			k.judged(1, 1)
		})
	}
}

// With observe the record of a dead backend stays, and counts as removed.
func TestObservedSRVMembersStay(t *testing.T) {
	all := newInstances(t, "127.1.0.1", "127.1.0.1")
	all[1].kill()
	k := startChecked(t, rule("observe", srvCheck("tcp", "watch _web._tcp.example.org")), "file "+zone(t, "example.org.", oneHost(all)))
	k.judged(1, 1)
	before := k.grown(removed("example.org.", "", "down"))
	reply := k.c.Ask(query(webSRV, dns.TypeSRV))
	if got := members(reply, dns.TypeSRV); len(got) != 2 || !onlyTTL(reply.Answer, 300) {
		t.Errorf("the answer has %q, want both records as they came", reply.Answer)
	}
	if n := k.grown(removed("example.org.", "", "down")) - before; n != 1 {
		t.Errorf("%v records counted as removed, want the one that would have been", n)
	}
}

// The ports of one address count one by one for max_endpoints: the records beyond stay, unchecked.
func TestSRVEndpointsBeyondTheTable(t *testing.T) {
	all := newInstances(t, "127.1.0.1", "127.1.0.1", "127.1.0.1")
	for _, i := range all {
		i.kill()
	}
	k := startChecked(t, rule(srvCheck("tcp", "max_endpoints 2")), "file "+zone(t, "example.org.", oneHost(all)))
	eventually(t, "one record stays", func() bool { return len(members(k.c.Ask(query(webSRV, dns.TypeSRV)), dns.TypeSRV)) == 1 })
	if n := len(k.seriesOf("coredns_balance_endpoint_up")); n != 2 || k.grown(refused("table_full")) == 0 {
		t.Errorf("%d endpoints and %v refusals, want 2 and some", n, k.grown(refused("table_full")))
	}
}

// A port outside of ports is not probed: its record is served, counted and said once.
func TestPortsOutsidePortsAreNotProbed(t *testing.T) {
	all := newInstances(t, "127.1.0.1", "127.1.0.1")
	all[0].kill()
	all[1].kill()
	check := healthCheck("tcp", "srv", "", "ports "+all[0].port, quick)
	text := capture(t, func() {
		k := startChecked(t, rule(check), "file "+zone(t, "example.org.", oneHost(all)))
		k.answersOf(webSRV, dns.TypeSRV, 5, all[1].record("host.example.org."))
		if got := k.grown(refused("not_allowed")); got < 1 {
			t.Errorf("%s grew by %v, want at least 1", refused("not_allowed"), got)
		}
		if up := k.seriesOf("coredns_balance_endpoint_up"); len(up) != 1 {
			t.Errorf("endpoints are %q, want one", up)
		}
	})
	want := fmt.Sprintf("no health_check has port %s of 127.1.0.1 in ports", all[1].port)
	if n := strings.Count(text, want); n != 1 || strings.Contains(text, "no health_check allows") {
		t.Errorf("the log has %q %d times, want once:\n%s", want, n, text)
	}
}

// The page says so too: the port is to blame, not the address.
func TestPortsOutsidePortsAreOnThePage(t *testing.T) {
	s := startShown(t, "health_check tcp srv {\nallow 192.0.2.0/24\nports 8080\n}",
		"file "+zone(t, "example.org.", "host IN A 192.0.2.1\n_web._tcp IN SRV 0 1 8081 host\n_web._tcp IN SRV 0 1 8082 host\n"))
	s.c.Ask(query(webSRV, dns.TypeSRV))
	want := "no health_check has the port of 192.0.2.1:8081, 192.0.2.1:8082 in ports: answered unchecked"
	said := false
	for _, p := range s.document().Problems { // those of names that other tests asked for too
		said = said || p.Text == want
		if strings.Contains(p.Text, "allows 192.0.2.1") {
			t.Errorf("the page says %q", p.Text)
		}
	}
	if !said {
		t.Errorf("problems are %v, want %q", s.document().Problems, want)
	}
}

// A fixed port and the ports of records can be checked together: a record needs both, an address
// one of its ports too.
func TestSRVBesideAnotherCheck(t *testing.T) {
	f := newFarm(t, 2, listening)
	all := newInstances(t, f.addrs[0], f.addrs[1])
	records := "_web._tcp IN SRV " + all[0].record("a") + "\n_web._tcp IN SRV " + all[1].record("b") + "\n" + f.as("a", 0) + f.as("b", 1) + f.as("www")
	for require, want := range map[string]int{"all": 1, "any": 2} {
		t.Run(require, func(t *testing.T) {
			f.revive(0)
			k := startChecked(t, rule("require "+require, srvCheck("tcp", "watch _web._tcp.example.org"), f.check("tcp", "")), "file "+zone(t, "example.org.", records))
			k.judged(4, 0)
			f.kill(0)
			k.judged(3, 1)
			eventually(t, "the records that may answer", func() bool {
				return len(members(k.c.Ask(query(webSRV, dns.TypeSRV)), dns.TypeSRV)) == want && len(k.answer(dns.TypeA)) == want
			})
		})
	}
}

// Tiers and their quorum go by what is known of an address at all its ports.
func TestTiersOfAddressesProbedBySRV(t *testing.T) {
	all := newInstances(t, "127.1.0.1", "127.1.0.1", "127.1.0.2", "127.1.0.3", "127.1.0.4")
	var records strings.Builder
	for i, target := range []string{"a", "a", "b", "c", "d"} {
		fmt.Fprintf(&records, "_web._tcp IN SRV %s\n%s IN A %s\n", all[i].record(target), target, all[i].addr)
		if i > 0 {
			records.WriteString("www IN A " + all[i].addr + "\n")
		}
	}
	k := startChecked(t, rule("tier 127.1.0.1 127.1.0.2", "min_healthy 2", "answers 1", srvCheck("tcp", "watch _web._tcp.example.org")),
		"file "+zone(t, "example.org.", records.String()))
	k.judged(5, 0)
	k.answers(30, "127.1.0.1")
	k.answers(30, "127.1.0.2")
	all[0].kill()
	k.judged(4, 1)
	k.answers(30, "127.1.0.1") // its other port is up
	all[1].kill()
	k.answers(5, "127.1.0.3")
	k.answers(5, "127.1.0.4")
}

// A signed answer keeps the record of a dead backend, last.
func TestSignedSRVMembersStay(t *testing.T) {
	all := newInstances(t, "127.1.0.1", "127.1.0.1")
	z := newSignedZone(t, "example.org.", oneHost(all))
	s := start(t, block(append([]string{rule(srvCheck("tcp"))}, z.onTheFly()...)...))
	all[0].kill()
	c := dial(t, "udp", s.udp(), "")
	for turn := range 4 {
		eventually(t, fmt.Sprintf("answer %d ends with the dead backend", turn), func() bool {
			q := query(webSRV, dns.TypeSRV)
			q.SetEdns0(1232, true)
			got := members(c.Ask(q), dns.TypeSRV)
			return len(got) == 2 && got[1] == all[0].record("host.example.org.")
		})
	}
}

// The weights of SRV records are the weights of the policy, inside their priority. A weight line
// for an address goes before them. Weight 0 leads only while no other can.
func TestWeightsOfSRVRecords(t *testing.T) {
	records := "_a._tcp IN SRV 1 3 80 a\n_a._tcp IN SRV 1 1 80 b\n_a._tcp IN SRV 1 0 80 c\n_a._tcp IN SRV 2 9 80 d\n" +
		"_zero._tcp IN SRV 1 0 80 a\n_zero._tcp IN SRV 1 0 80 b\n" +
		"a IN A 192.0.2.1\nb IN A 192.0.2.2\nc IN A 192.0.2.3\nd IN A 192.0.2.4\n"
	for name, tc := range map[string]struct {
		owner, line string
		want        leads
	}{
		"their own": {"_a._tcp", "", leads{"1 3 80 a.example.org.": 300, "1 1 80 b.example.org.": 100}},
		"a line":    {"_a._tcp", "weight 192.0.2.1 1", leads{"1 3 80 a.example.org.": 200, "1 1 80 b.example.org.": 200}},
		"all zero":  {"_zero._tcp", "", leads{"1 0 80 a.example.org.": 200, "1 0 80 b.example.org.": 200}},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, block(rule("policy weighted", tc.line), "file "+zone(t, "example.org.", records)))
			c := dial(t, "udp", s.udp(), "")
			got := leads{}
			for range 400 {
				reply := c.Ask(query(tc.owner+".example.org.", dns.TypeSRV))
				got.add(reply, dns.TypeSRV)
				if all := members(reply, dns.TypeSRV); tc.owner == "_a._tcp" && (len(all) != 4 || all[2] != "1 0 80 c.example.org." || all[3] != "2 9 80 d.example.org.") {
					t.Fatalf("answer is %q, want weight 0 third and the later priority last", all)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(tc.want) {
				t.Errorf("leads are %v, want %v", got, tc.want)
			}
		})
	}
}

// The pods of a headless service with a named port are probed at that port, which the endpoints
// name: a dead one leaves the service's SRV record, with its glue, and its A record.
func TestNamedPortsOfAHeadlessService(t *testing.T) {
	all := newInstances(t, "127.1.0.1", "127.1.0.2")
	slice := func(i *instance) string {
		return fmt.Sprintf(`"metadata":{"name":"db-%[2]s","namespace":"default","resourceVersion":"1","labels":{"kubernetes.io/service-name":"db"}},
			"addressType":"IPv4","ports":[{"name":"pg","port":%[2]s,"protocol":"TCP"}],"endpoints":[{"addresses":[%[1]q]}]`, i.addr, i.port)
	}
	api := newClusterOf(t, map[string][]string{
		"services": {`"metadata":{"name":"db","namespace":"default","resourceVersion":"1"},
			"spec":{"clusterIP":"None","clusterIPs":["None"],"ports":[{"name":"pg","port":5432,"protocol":"TCP"}]}`},
		"endpointslices": {slice(all[0]), slice(all[1])},
	})
	const name = "_pg._tcp.db.default.svc.cluster.local."
	stanza := strings.ReplaceAll(rule(srvCheck("tcp", "watch "+name)), "\n", "\n    ")
	corefile := ".:53 {\n    bind 127.0.0.1\n    kubernetes cluster.local {\n    }\n    " + stanza + "\n}\n"
	c := serveInCluster(t, corefile, api, resolverOfTheNode(t)).Client
	pod := func(i *instance) string {
		return strings.ReplaceAll(i.addr, ".", "-") + ".db.default.svc.cluster.local."
	}
	records := func(some ...*instance) func() bool {
		return func() bool {
			reply := c.Ask(query(name, dns.TypeSRV))
			addrs, ports := dataOf(reply.Extra, dns.TypeA), members(reply, dns.TypeSRV)
			asked := members(c.Ask(query("db.default.svc.cluster.local.", dns.TypeA)), dns.TypeA)
			for _, i := range some {
				if !slices.Contains(addrs, i.addr) || !slices.Contains(asked, i.addr) || !slices.ContainsFunc(ports, func(data string) bool {
					return strings.HasSuffix(data, i.port+" "+pod(i))
				}) {
					return false
				}
			}
			return len(addrs) == len(some) && len(ports) == len(some) && len(asked) == len(some)
		}
	}
	eventually(t, "CoreDNS knows both pods", records(all...))
	all[0].kill()
	eventually(t, "the dead pod has left", records(all[1]))
	all[0].revive()
	eventually(t, "it is back", records(all...))
}
