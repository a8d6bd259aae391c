// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"fmt"
	"maps"
	"net"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
)

// raced is CoreDNS with balance and the race detector.
const raced = "coredns-race"

// What an operator gets who applies our manifests as they are.
func TestManifests(t *testing.T) {
	theCluster.apply(t)
	runPod(t, raced)
	t.Run("headless", testHeadless)
	t.Run("SRV", testSRV)
	t.Run("ClusterIP", testClusterIP)
	t.Run("ExternalName", testExternalName)
	t.Run("changes/one client", func(t *testing.T) { testChanges(t, "one", 1) })
	t.Run("changes/four clients", func(t *testing.T) { testChanges(t, "four", 4) })
	t.Run("API server restarts", testAPIServerRestarts)
}

// Endpoints in several slices, whose order the kubernetes plugin gets from a map:
// TestShuffledUpstream.
func testHeadless(t *testing.T) {
	n := newNamespace(t, "headless")
	cycle := severalSlices(t, n, "web")
	rotates(t, n.fqdn("web"), cycle, 200*len(cycle))
}

// severalSlices makes a headless service with twelve ready endpoints in three slices and returns
// their addresses.
func severalSlices(t *testing.T, n namespace, service string) (cycle []string) {
	t.Helper()
	var endpoints [3][]discoveryv1.Endpoint
	for i := range 12 {
		addr := fmt.Sprintf("10.244.%d.%d", i%4, 200-i)
		cycle = append(cycle, addr)
		endpoints[i%3] = append(endpoints[i%3], endpoint(addr, true))
	}
	endpoints[1] = append(endpoints[1], endpoint("10.244.9.9", false))
	n.headless(t, service, endpoints[:]...)
	cycle = sorted(cycle)
	c := dial(t, "udp")
	eventually(t, "all endpoints are in the answer", func() bool {
		return slices.Equal(sorted(addresses(c.ask(t, n.fqdn(service), dns.TypeA))), cycle)
	})
	return cycle
}

// The records rotate, each with the target's address in the additional section.
func testSRV(t *testing.T) {
	n := newNamespace(t, "srv")
	addrs := []string{"10.244.1.1", "10.244.1.2", "10.244.1.3"}
	n.headless(t, "web", ready(addrs[0], addrs[2]), ready(addrs[1]))
	c := dial(t, "udp")
	name := n.fqdn("_http._tcp.web")
	eventually(t, "three records", func() bool { return len(dataOf(c.ask(t, name, dns.TypeSRV).Answer, dns.TypeSRV)) == 3 })
	led := ""
	for i := range 300 {
		reply := c.ask(t, name, dns.TypeSRV)
		var got []string
		for _, rr := range reply.Answer {
			srv := rr.(*dns.SRV)
			addr := glueOf(reply, srv.Target)
			got = append(got, addr)
			if want := n.fqdn("pod-" + strings.ReplaceAll(addr, ".", "-") + ".web"); srv.Target != want || srv.Port != 8080 {
				t.Fatalf("record is %v, want target %s and port 8080", srv, want)
			}
		}
		if !isRotation(got, addrs) || led != "" && got[0] != after(addrs, led) {
			t.Fatalf("targets of answer %d are %v after %s, want the rotation that follows\n%v", i, got, led, reply)
		}
		led = got[0]
	}
}

// glueOf returns the address that the additional section has for a target, or nothing.
func glueOf(reply *dns.Msg, target string) string {
	for _, rr := range reply.Extra {
		if a, ok := rr.(*dns.A); ok && a.Hdr.Name == target {
			return a.A.String()
		}
	}
	return ""
}

// A service with an address of its own has one record, whatever its endpoints are.
func testClusterIP(t *testing.T) {
	n := newNamespace(t, "clusterip")
	made := n.service(t, "web", corev1.ServiceSpec{})
	n.slice(t, "web", "web-a", ready("10.244.1.1", "10.244.1.2"))
	c := dial(t, "udp")
	eventually(t, "the service is known", func() bool { return len(c.ask(t, n.fqdn("web"), dns.TypeA).Answer) > 0 })
	for range 20 {
		reply := c.ask(t, n.fqdn("web"), dns.TypeA)
		if got := addresses(reply); !slices.Equal(got, []string{made.Spec.ClusterIP}) || reply.Answer[0].Header().Ttl != 30 {
			t.Fatalf("answer is %v, want %s with TTL 30", reply.Answer, made.Spec.ClusterIP)
		}
	}
	reply := c.ask(t, n.fqdn("_http._tcp.web"), dns.TypeSRV)
	if len(reply.Answer) != 1 || glueOf(reply, n.fqdn("web")) != made.Spec.ClusterIP {
		t.Errorf("reply is %v, want one SRV record with the address %s", reply, made.Spec.ClusterIP)
	}
	ptr, err := dns.ReverseAddr(made.Spec.ClusterIP)
	if err != nil {
		t.Fatal(err)
	}
	if got := dataOf(c.ask(t, ptr, dns.TypePTR).Answer, dns.TypePTR); !slices.Equal(got, []string{n.fqdn("web")}) {
		t.Errorf("names of %s are %v, want %s", made.Spec.ClusterIP, got, n.fqdn("web"))
	}
}

// The CNAME comes first, then what the world outside answers, in rotation.
func testExternalName(t *testing.T) {
	n := newNamespace(t, "externalname")
	n.service(t, "db", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "db.example.org"})
	c := dial(t, "udp")
	eventually(t, "the service is known", func() bool { return len(c.ask(t, n.fqdn("db"), dns.TypeA).Answer) > 0 })
	for range 30 {
		reply := c.ask(t, n.fqdn("db"), dns.TypeA)
		if alias, ok := reply.Answer[0].(*dns.CNAME); !ok || alias.Target != "db.example.org." || len(reply.Answer) != 4 {
			t.Fatalf("answer is %v, want the CNAME and three addresses", reply.Answer)
		}
	}
	rotates(t, n.fqdn("db"), outerNames, 300)
}

// kubeadm's own Corefile, from its source, with the one word replaced that our README says to
// replace.
func TestKubeadm(t *testing.T) {
	theCluster.apply(t)
	corefile := kubeadmCorefile(t)
	if strings.Count(corefile, "loadbalance") != 1 {
		t.Fatalf("no loadbalance in\n%s", corefile)
	}
	configure(t, "coredns", map[string]string{"Corefile": strings.Replace(corefile, "loadbalance", "balance", 1)})
	p := runPod(t, raced)
	n := newNamespace(t, "kubeadm")
	cycle := severalSlices(t, n, "web")
	rotates(t, n.fqdn("web"), cycle, 20*len(cycle))
	rotates(t, "www.example.org.", outerNames, 60)
	if log := p.output(); strings.Contains(log, "plugin/balance") {
		t.Errorf("balance has something to say:\n%s", log)
	}
}

// kubeadmCorefile returns what kubeadm writes for the domain cluster.local.
func kubeadmCorefile(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes").Output()
	if err != nil {
		t.Fatal(err)
	}
	return corefileIn(t, strings.TrimSpace(string(out))+"/cmd/kubeadm/app/phases/addons/dns/manifests.go")
}

// The premise of all this: the kubernetes plugin alone gives the same endpoints in ever another
// order. And the health check that our ConfigMap has as a comment: a pod that is ready for
// Kubernetes, but that nobody reaches, is not answered.
func TestHealthCheck(t *testing.T) {
	theCluster.apply(t)
	configure(t, "coredns", map[string]string{"Corefile": uncommented(t, manifestCorefile(t)) +
		"cluster.local:1053 {\n kubernetes\n}\n"})
	p := runPod(t, raced)
	t.Run("shuffled upstream", testShuffledUpstream)

	backends := map[string]net.Listener{}
	listenAt := func(addr string) { backends[addr] = listen(t, addr+":5432") }
	listenAt("10.244.5.1")
	listenAt("10.244.5.2")
	listenAt("10.244.5.3")
	swallow(t, [4]byte{10, 244, 5, 5}, 5432)
	const gone, silent = "10.244.5.4", "10.244.5.5"
	n := namespace("default")
	// Those that are to leave come first: an answer without them is one after they were judged
	// then, not one before they were known.
	n.headless(t, "db", ready(gone, silent), ready(slices.Sorted(maps.Keys(backends))...))
	becomes := func(want ...string) {
		t.Helper()
		c := dial(t, "udp")
		var got []string
		eventually(t, fmt.Sprintf("%s is %v\n%s", n.fqdn("db"), want, p.tail()), func() bool {
			got = sorted(addresses(c.ask(t, n.fqdn("db"), dns.TypeA)))
			return slices.Equal(got, want)
		})
		rotates(t, n.fqdn("db"), want, 10*len(want))
	}
	becomes("10.244.5.1", "10.244.5.2", "10.244.5.3")
	backends["10.244.5.2"].Close()
	becomes("10.244.5.1", "10.244.5.3")
	listenAt(gone)
	becomes("10.244.5.1", "10.244.5.3", gone)
}

// manifestCorefile returns the Corefile of our ConfigMap.
func manifestCorefile(t testing.TB) string {
	t.Helper()
	for _, object := range manifests(t, nil) {
		if object.GetKind() == "ConfigMap" && object.GetName() == "coredns" {
			return object.Object["data"].(map[string]any)["Corefile"].(string)
		}
	}
	t.Fatal("no ConfigMap coredns")
	return ""
}

// uncommented returns a Corefile with the lines that a hash without a space takes out.
func uncommented(t *testing.T, corefile string) string {
	t.Helper()
	lines := strings.Split(corefile, "\n")
	changed := 0
	for i, line := range lines {
		text := strings.TrimLeft(line, " ")
		if rule, ok := strings.CutPrefix(text, "#"); ok && (strings.HasPrefix(rule, "balance") || changed > 0) {
			lines[i] = rule
			changed++
		}
	}
	if changed != 5 {
		t.Fatalf("%d lines of a rule with a health check are commented out, want 5:\n%s", changed, corefile)
	}
	return strings.Join(lines, "\n")
}

func testShuffledUpstream(t *testing.T) {
	n := newNamespace(t, "shuffled")
	cycle := severalSlices(t, n, "web")
	conn, err := dns.Dial("udp", dnsAddress+":1053")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.UDPSize = dns.MaxMsgSize
	c := &client{conn}
	orders := map[string]bool{}
	eventually(t, "another order", func() bool {
		got := addresses(c.ask(t, n.fqdn("web"), dns.TypeA))
		if !slices.Equal(sorted(got), cycle) {
			t.Fatalf("answer is %v, want %v in any order", got, cycle)
		}
		orders[strings.Join(got, " ")] = true
		return len(orders) > 1
	})
}

// listen takes connections until the test ends.
func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	return l
}

// swallow makes an address at which connections neither open nor are refused, as behind a firewall:
// a listener that accepts nothing, and whose queue is full.
func swallow(t *testing.T, addr [4]byte, port int) {
	t.Helper()
	at := &syscall.SockaddrInet4{Addr: addr, Port: port}
	listener := tcpSocket(t)
	if err := syscall.Bind(listener, at); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(listener, 0); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := syscall.Connect(tcpSocket(t), at); err != nil && err != syscall.EINPROGRESS {
			t.Fatal(err)
		}
	}
}

func tcpSocket(t *testing.T) int {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	return fd
}

// ConfigMaps with weights and overrides, which the kubelet replaces while all of it runs.
func TestFilesInConfigMaps(t *testing.T) {
	theCluster.apply(t, "files")
	t.Cleanup(func() { theCluster.apply(t) })
	n := newNamespace(t, "weighted")
	cycle := []string{"10.244.6.1", "10.244.6.2", "10.244.6.3"}
	n.headless(t, "web", ready(cycle[0]), ready(cycle[1:]...))
	weights := func(w ...int) map[string]string {
		return map[string]string{"weights": fmt.Sprintf("%s\n%s %d\n%s %d\n%s %d\n", n.fqdn("web"), cycle[0], w[0], cycle[1], w[1], cycle[2], w[2])}
	}
	configure(t, "coredns-weights", weights(5, 1, 1))
	p := runPod(t, raced)
	c := dial(t, "udp")
	leads := func() string { // of seven answers, which is a whole cycle
		count := map[string]int{}
		for range 7 {
			if got := addresses(c.ask(t, n.fqdn("web"), dns.TypeA)); len(got) > 0 {
				count[got[0]]++
			}
		}
		return fmt.Sprint(count[cycle[0]], count[cycle[1]], count[cycle[2]])
	}
	becomes := func(want string) {
		t.Helper()
		eventually(t, want, func() bool { return leads() == want })
		for range 10 {
			if got := leads(); got != want {
				t.Fatalf("leads are %s, want %s", got, want)
			}
		}
	}
	becomes("5 1 1")
	configure(t, "coredns-weights", weights(1, 1, 5))
	p.mountConfigMaps(t)
	becomes("1 1 5")
	configure(t, "coredns-overrides", map[string]string{"overrides": cycle[2] + " drain # moves\n"})
	p.mountConfigMaps(t)
	eventually(t, "the third is drained", func() bool { return !strings.HasSuffix(leads(), " 5") && strings.HasSuffix(leads(), " 0") })
}
