// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// What an operator gets who adds the component locality and two lines to the rule: pods of the
// client's zone lead. The nodes are node-1 to node-6, two in each of three zones.
func TestLocality(t *testing.T) {
	theCluster.apply(t)
	makeNodes(t)
	configure(t, "coredns", map[string]string{"Corefile": localityCorefile(t)})
	n := newNamespace(t, "locality")
	n.dualStack(t, "web", map[string][]discoveryv1.Endpoint{"web-a": onNodes(1, 3, 5), "web-b": onNodes(2, 4, 6)})
	p := startPod(t, raced)
	testNotSynced(t, p, n)
	if err := p.awaitReady(); err != nil {
		t.Fatal(err)
	}
	t.Run("zones", func(t *testing.T) { testZones(t, n) })
	t.Run("pods come and go", func(t *testing.T) { testPodsComeAndGo(t, n) })
	t.Run("a node changes its zone", func(t *testing.T) { testNodeChangesZone(t, n) })
	t.Run("reload", func(t *testing.T) { testReloadKeepsNodes(t, p, n) })
	t.Run("contexts of a kubeconfig", func(t *testing.T) { testContexts(t, p, n) })
	t.Run("API server is lost", func(t *testing.T) { testLostAPIServer(t, p, n) })
	t.Run("5,000 nodes", func(t *testing.T) { testManyNodes(t, p, n) })
}

// localityCorefile returns the Corefile of our ConfigMap with near pods first. It reloads soon.
func localityCorefile(t testing.TB) string {
	t.Helper()
	corefile := manifestCorefile(t)
	for line, now := range map[string]string{
		"    balance\n": "    balance {\n        locality kubernetes\n        prefer locality\n        status\n    }\n    pprof 127.0.0.1:6053\n",
		"    reload\n":  "    reload 2s 1s\n",
	} {
		if strings.Count(corefile, line) != 1 {
			t.Fatalf("%q is not once in\n%s", line, corefile)
		}
		corefile = strings.Replace(corefile, line, now, 1)
	}
	return corefile
}

// nodes is how many nodes makeNodes makes.
const nodes = 6

func nodeName(i int) string { return fmt.Sprintf("node-%d", i) }

// zoneOf returns the zone of a node of makeNodes: two nodes share one.
func zoneOf(i int) string { return "zone-" + string(rune('a'+(i-1)/2)) }

// podOn returns the address of a pod of a node, the same number in both families.
func podOn(node, pod int) string   { return fmt.Sprintf("10.244.%d.%d", node, pod) }
func podOnV6(node, pod int) string { return fmt.Sprintf("fd00:10:244:%x::%x", node, pod) }

// makeNodes makes nodes as they are in a cluster with --node-cidr-mask-size 24 and two families.
// They are gone at the end of the test.
func makeNodes(t testing.TB) {
	t.Helper()
	for i := 1; i <= nodes; i++ {
		makeNode(t, aNode(i, zoneOf(i)))
	}
	t.Cleanup(func() {
		if err := theCluster.client.CoreV1().Nodes().DeleteCollection(context.Background(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
			t.Error(err)
		}
	})
}

func aNode(i int, zone string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName(i), Labels: map[string]string{corev1.LabelTopologyZone: zone}}}
	n.Spec.PodCIDRs = []string{podOn(i, 0) + "/24", fmt.Sprintf("fd00:10:244:%x::/64", i)}
	n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("172.18.0.%d", 100+i)}}
	return n
}

func makeNode(t testing.TB, n *corev1.Node) {
	t.Helper()
	if _, err := theCluster.client.CoreV1().Nodes().Create(t.Context(), n, metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
}

func setZone(t testing.TB, node int, zone string) {
	t.Helper()
	patch := fmt.Sprintf(`{"metadata": {"labels": {%q: %q}}}`, corev1.LabelTopologyZone, zone)
	if _, err := theCluster.client.CoreV1().Nodes().Patch(t.Context(), nodeName(node), types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// onNodes returns a pod on each of some nodes.
func onNodes(which ...int) (endpoints []discoveryv1.Endpoint) {
	for _, node := range which {
		endpoints = append(endpoints, endpoint(podOn(node, 1), true))
	}
	return endpoints
}

// dualStack makes a headless service with both addresses of its pods.
func (n namespace) dualStack(t testing.TB, service string, content map[string][]discoveryv1.Endpoint) {
	t.Helper()
	n.headless(t, service)
	for name, endpoints := range content {
		n.slice(t, service, name, endpoints)
		n.sliceV6(t, service, name+"-v6", endpoints)
	}
}

// sliceV6 makes an EndpointSlice of the IPv6 addresses of pods.
func (n namespace) sliceV6(t testing.TB, service, name string, pods []discoveryv1.Endpoint) {
	t.Helper()
	object := sliceOf(service, name, nil)
	object.AddressType = discoveryv1.AddressTypeIPv6
	for _, pod := range pods {
		v4 := netip.MustParseAddr(pod.Addresses[0]).As4()
		pod.Addresses = []string{podOnV6(int(v4[2]), int(v4[3]))}
		object.Endpoints = append(object.Endpoints, pod)
	}
	if _, err := theCluster.client.DiscoveryV1().EndpointSlices(string(n)).Create(t.Context(), object, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// dialFrom connects to the cluster's DNS from an address, such as a pod's.
func dialFrom(t testing.TB, addr string) *client {
	t.Helper()
	return dialPod(t, addr, dnsAddress)
}

// dialPod connects to a DNS pod from an address.
func dialPod(t testing.TB, addr, pod string) *client {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(addr)}}
	conn, err := dialer.DialContext(t.Context(), "udp", net.JoinHostPort(pod, "53"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &client{&dns.Conn{Conn: conn, UDPSize: dns.MaxMsgSize}}
}

// leading returns the first n addresses of an answer, sorted.
func (c *client) leading(t testing.TB, name string, qtype uint16, n int) string {
	t.Helper()
	got := dataOf(c.ask(t, name, qtype).Answer, qtype)
	return strings.Join(sorted(got[:min(n, len(got))]), " ")
}

// becomes waits until the near members come first, in as many answers as there can be leads.
func (c *client) becomes(t testing.TB, name string, near ...string) {
	t.Helper()
	want := strings.Join(sorted(near), " ")
	eventually(t, fmt.Sprintf("%s of %s first", want, name), func() bool {
		for range nodes + 1 {
			if c.leading(t, name, dns.TypeA, len(near)) != want {
				return false
			}
		}
		return true
	})
}

// nearFirst fails the test unless the near members lead answers equally often, and come before all
// others.
func (c *client) nearFirst(t testing.TB, name string, qtype uint16, members int, near ...string) {
	t.Helper()
	leads := map[string]int{}
	for range 10 * len(near) {
		got := dataOf(c.ask(t, name, qtype).Answer, qtype)
		if len(got) != members || !slices.Equal(sorted(got[:len(near)]), sorted(near)) {
			t.Fatalf("a client at %s gets %v, want %v first of %d", c.conn.LocalAddr(), got, near, members)
		}
		leads[got[0]]++
	}
	for _, member := range near {
		if leads[member] != 10 {
			t.Errorf("leads for a client at %s are %v, want 10 for each of %v", c.conn.LocalAddr(), leads, near)
		}
	}
}

// Without the right to read nodes, answers have the policy's order, the pod is not ready, and the
// log says why. With the right that is over.
func testNotSynced(t *testing.T, p *pod, n namespace) {
	t.Helper()
	const log = `locality kubernetes (in-cluster): cannot read nodes: nodes is forbidden: User "system:serviceaccount:kube-system:coredns" cannot`
	eventually(t, log, func() bool { return strings.Contains(p.output(), log) })
	if !strings.Contains(p.output(), "; no locality is known yet") {
		t.Errorf("the log does not say that no locality is known:\n%s", p.tail())
	}
	if err := p.await(p.isServing); err != nil {
		t.Fatal(err)
	}
	if err := p.isReady(t.Context()); err == nil || err.Error() != "503 Service Unavailable" {
		t.Errorf("without nodes the pod's readiness is %v, want 503", err)
	}
	c := dialFrom(t, podOn(1, 77))
	leads := map[string]int{}
	eventually(t, "all pods are in the answer", func() bool { return len(addresses(c.ask(t, n.fqdn("web"), dns.TypeA))) == nodes })
	for range 10 * nodes {
		leads[addresses(c.ask(t, n.fqdn("web"), dns.TypeA))[0]]++
	}
	if len(leads) != nodes || leads[podOn(6, 1)] != 10 {
		t.Errorf("without localities leads are %v, want 10 for each pod", leads)
	}
	theCluster.apply(t, "locality")
}

// In every zone its own pods lead, A and AAAA alike, for pods and nodes; the zone of a node's own
// address is the node's. A client of no zone gets the policy's order.
func testZones(t *testing.T, n namespace) {
	web := n.fqdn("web")
	for first := 1; first <= nodes; first += 2 {
		for _, from := range []string{podOn(first, 77), podOn(first+1, 200), fmt.Sprintf("172.18.0.%d", 100+first)} {
			c := dialFrom(t, from)
			c.nearFirst(t, web, dns.TypeA, nodes, podOn(first, 1), podOn(first+1, 1))
			c.nearFirst(t, web, dns.TypeAAAA, nodes, podOnV6(first, 1), podOnV6(first+1, 1))
		}
	}
	var all []string
	for i := range nodes {
		all = append(all, podOn(i+1, 1))
	}
	dialFrom(t, "172.18.0.99").nearFirst(t, web, dns.TypeA, nodes, all...)
	text, err := get(t.Context(), "http://127.0.0.1:9154/v1/status")
	if err != nil || strings.Count(text, `"locality":"zone-b"`) == 0 {
		t.Errorf("%v: the page does not say which members are in zone-b", err)
	}
}

// A zone whose pods all leave is led elsewhere; a pod that comes leads at once.
func testPodsComeAndGo(t *testing.T, n namespace) {
	web, c := n.fqdn("web"), dialFrom(t, podOn(1, 77))
	n.setEndpoints(t, "web-a", append(onNodes(1, 3, 5), ready(podOn(1, 2))...))
	c.becomes(t, web, podOn(1, 1), podOn(1, 2), podOn(2, 1))
	c.nearFirst(t, web, dns.TypeA, 7, podOn(1, 1), podOn(1, 2), podOn(2, 1))
	n.setEndpoints(t, "web-a", onNodes(3, 5))
	n.setEndpoints(t, "web-b", onNodes(4, 6))
	far := []string{podOn(3, 1), podOn(4, 1), podOn(5, 1), podOn(6, 1)}
	c.becomes(t, web, far...)
	c.nearFirst(t, web, dns.TypeA, len(far), far...)
	n.setEndpoints(t, "web-b", onNodes(2, 4, 6))
	c.becomes(t, web, podOn(2, 1))
	n.setEndpoints(t, "web-a", onNodes(1, 3, 5))
	c.becomes(t, web, podOn(1, 1), podOn(2, 1))
	c.nearFirst(t, web, dns.TypeA, nodes, podOn(1, 1), podOn(2, 1))
}

// A node that changes its zone takes its pods along within a second. A slow machine may take longer
// now and then, but not every time.
func testNodeChangesZone(t *testing.T, n namespace) {
	web, c := n.fqdn("web"), dialFrom(t, podOn(1, 77))
	var took []time.Duration
	moves := func(zone string, near ...string) {
		t.Helper()
		setZone(t, 3, zone)
		began := time.Now()
		c.becomes(t, web, near...)
		took = append(took, time.Since(began).Round(time.Millisecond))
	}
	for range 5 {
		moves("zone-a", podOn(1, 1), podOn(2, 1), podOn(3, 1))
		moves("zone-b", podOn(1, 1), podOn(2, 1))
	}
	slices.Sort(took)
	t.Logf("answers followed after %v", took)
	if took[0] > time.Second {
		t.Errorf("answers follow a node after %v, want a second at most", took)
	}
}

// A reload of the Corefile lists no nodes, and leaves nothing behind.
func testReloadKeepsNodes(t *testing.T, p *pod, n namespace) {
	before, goroutines := nodeRequests(t), p.metric(t, "go_goroutines")
	for i := range 3 {
		corefile := strings.Replace(localityCorefile(t), "ttl 30", fmt.Sprintf("ttl %d", 29-i), 1)
		configure(t, "coredns", map[string]string{"Corefile": corefile})
		p.mountConfigMaps(t)
		eventually(t, "a reload", func() bool { return strings.Count(p.output(), "Reloading complete") > i })
		dialFrom(t, podOn(1, 77)).nearFirst(t, n.fqdn("web"), dns.TypeA, nodes, podOn(1, 1), podOn(2, 1))
	}
	if after := nodeRequests(t); after != before {
		t.Errorf("three reloads asked for nodes %d times, want 0", after-before)
	}
	eventually(t, "as many goroutines as before", func() bool { return p.metric(t, "go_goroutines") <= goroutines })
	setZone(t, 3, "zone-a")
	c := dialFrom(t, podOn(1, 77))
	c.becomes(t, n.fqdn("web"), podOn(1, 1), podOn(2, 1), podOn(3, 1))
	setZone(t, 3, "zone-b")
	c.becomes(t, n.fqdn("web"), podOn(1, 1), podOn(2, 1))
}

// kubeconfig has a context whose server is the API server, and one at whose server nothing listens.
const kubeconfig = `apiVersion: v1
kind: Config
clusters:
- {name: here, cluster: {server: "https://%[1]s", certificate-authority: /%[2]s/ca.crt}}
- {name: nobody, cluster: {server: "https://%[1]s:1", certificate-authority: /%[2]s/ca.crt}}
users:
- {name: pod, user: {tokenFile: /%[2]s/token}}
contexts:
- {name: right, context: {cluster: here, user: pod}}
- {name: wrong, context: {cluster: nobody, user: pod}}
current-context: wrong
`

// A context of a kubeconfig is followed from a reload on: one whose server is wrong leaves answers
// in the policy's order, one that is missing fails the reload.
func testContexts(t *testing.T, p *pod, n namespace) {
	p.file(t, "etc/kubeconfig", fmt.Sprintf(kubeconfig, apiAddress, tokenDir))
	web, c := n.fqdn("web"), dialFrom(t, podOn(1, 77))
	reload := func(context, said string) {
		t.Helper()
		before := strings.Count(p.output(), said)
		corefile := strings.Replace(localityCorefile(t), "locality kubernetes\n", "locality kubernetes "+context+"\n", 1)
		configure(t, "coredns", map[string]string{"Corefile": corefile})
		p.mountConfigMaps(t)
		eventually(t, said, func() bool { return strings.Count(p.output(), said) > before })
	}
	reload("/etc/kubeconfig right", "Reloading complete")
	eventually(t, "six nodes by the context right", func() bool {
		return shownNodes(t) == shown{Cluster: "/etc/kubeconfig right", Synced: true, Count: nodes}
	})
	c.nearFirst(t, web, dns.TypeA, nodes, podOn(1, 1), podOn(2, 1))
	reload("/etc/kubeconfig nowhere", `locality kubernetes: context "nowhere" does not exist`)
	c.nearFirst(t, web, dns.TypeA, nodes, podOn(1, 1), podOn(2, 1))
	reload("/etc/kubeconfig", "locality kubernetes (/etc/kubeconfig): cannot read nodes: ")
	if now := shownNodes(t); now.Synced || now.Problem == "" {
		t.Errorf("the page has %+v, want no nodes and a problem", now)
	}
	if first := c.leading(t, web, dns.TypeA, nodes); len(strings.Fields(first)) != nodes {
		t.Errorf("%s answer, want all", first)
	}
	reload("", "Reloading complete")
	c.becomes(t, web, podOn(1, 1), podOn(2, 1))
}

// nodeRequests returns how often CoreDNS has begun to list or watch nodes since the API server
// started.
func nodeRequests(t *testing.T) (n int) {
	t.Helper()
	for _, r := range requestsIn(t, theCluster.boots[len(theCluster.boots)-1].audit) {
		if r.ObjectRef.Resource == "nodes" && r.Stage != "ResponseComplete" {
			n++
		}
	}
	return n
}

// While the API server is gone, the last localities stay in force; the log, the page and a metric
// say so. What changes after it is back is seen.
func testLostAPIServer(t *testing.T, p *pod, n namespace) {
	const reached = `coredns_balance_locality_api_server_reached{zone="."}`
	web, c := n.fqdn("web"), dialFrom(t, podOn(5, 77))
	if p.metric(t, reached) != 1 || p.metric(t, `coredns_balance_locality_nodes{zone="."}`) != nodes {
		t.Error("the metrics do not say that six nodes are known and the API server is reached")
	}
	if err := theCluster.apiserver.end(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	const lost = "locality kubernetes (in-cluster): cannot read nodes: "
	eventually(t, "the log says that the API server is lost", func() bool {
		return strings.Contains(p.output(), lost) && strings.Contains(p.output(), "; the last known localities stay in force")
	})
	if p.metric(t, reached) != 0 {
		t.Error("the metric says that the API server is reached")
	}
	if shown := shownNodes(t); !shown.Synced || shown.Count != nodes || shown.Problem == "" {
		t.Errorf("the page has %+v, want six nodes and a problem", shown)
	}
	c.nearFirst(t, web, dns.TypeA, nodes, podOn(5, 1), podOn(6, 1))
	if err := theCluster.startAPIServer(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the API server answers again", func() bool {
		return strings.Contains(p.output(), "locality kubernetes (in-cluster): the API server answers again") && p.metric(t, reached) == 1
	})
	c.nearFirst(t, web, dns.TypeA, nodes, podOn(5, 1), podOn(6, 1))
	setZone(t, 1, "zone-c")
	c.becomes(t, web, podOn(1, 1), podOn(5, 1), podOn(6, 1))
	setZone(t, 1, "zone-a")
	c.becomes(t, web, podOn(5, 1), podOn(6, 1))
}

// shown is what the page says of nodes.
type shown struct {
	Cluster string
	Synced  bool
	Count   int
	Problem string
}

func shownNodes(t *testing.T) shown {
	t.Helper()
	text, err := get(t.Context(), "http://127.0.0.1:9154/v1/status")
	if err != nil {
		t.Fatal(err)
	}
	var page struct{ Rules []struct{ Nodes shown } }
	if err := json.Unmarshal([]byte(text), &page); err != nil || len(page.Rules) != 1 {
		t.Fatalf("%v: want one rule in\n%s", err, text)
	}
	return page.Rules[0].Nodes
}

// A large cluster takes 10 MB at most.
func testManyNodes(t *testing.T, p *pod, n namespace) {
	const many = 5_000
	before := p.heap(t)
	began := time.Now()
	inParallel(many-nodes, func(i int) {
		node := aNode(0, zoneOf(1+i%nodes))
		node.Name = fmt.Sprintf("ip-10-128-%d-%d.internal", i>>8, i&255)
		node.Spec.PodCIDR = fmt.Sprintf("10.%d.%d.0/24", 128+i>>8, i&255)
		node.Spec.PodCIDRs = []string{node.Spec.PodCIDR, fmt.Sprintf("fd00:10:128:%x::/64", 1+i)}
		node.Status.Addresses = []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("172.20.%d.%d", i>>8, i&255)},
			{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("fd00:172:20::%x", i)},
			{Type: corev1.NodeHostName, Address: node.Name},
		}
		makeNode(t, node)
	})
	t.Logf("made in %v", time.Since(began).Round(time.Second))
	eventually(t, "all nodes are known", func() bool { return shownNodes(t).Count == many })
	took := (p.heap(t) - before) / 1e6
	t.Logf("%d nodes with two pod ranges and two addresses take %.1f MB", many, took)
	if took > 10 {
		t.Errorf("%d nodes take %.1f MB, want 10 at most", many, took)
	}
	testNodeChangesZone(t, n)
}

// heap returns what is left in the heap after a garbage collection, in bytes.
func (p *pod) heap(t *testing.T) float64 {
	t.Helper()
	if _, err := get(t.Context(), "http://127.0.0.1:6053/debug/pprof/heap?gc=1"); err != nil {
		t.Fatal(err)
	}
	return p.metric(t, "go_memstats_heap_alloc_bytes")
}
