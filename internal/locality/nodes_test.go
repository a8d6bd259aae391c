// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
)

// aNode returns a node of a zone as an API server sends it, with much that localities do not need.
func aNode(name, zone string, podCIDRs []string, addresses ...string) *core.Node {
	n := &core.Node{ObjectMeta: meta.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}}}
	if zone != "" {
		n.Labels[core.LabelTopologyZone] = zone
	}
	n.Spec.PodCIDRs = podCIDRs
	n.Status.Addresses = []core.NodeAddress{{Type: core.NodeHostName, Address: name}}
	for _, address := range addresses {
		n.Status.Addresses = append(n.Status.Addresses, core.NodeAddress{Type: core.NodeInternalIP, Address: address})
	}
	for i := range 50 {
		n.Status.Images = append(n.Status.Images, core.ContainerImage{Names: []string{fmt.Sprintf("registry.test/image-%d@sha256:%064d", i, i)}})
	}
	return n
}

func TestNodeOf(t *testing.T) {
	for _, test := range []struct {
		name string
		node *core.Node
		want string
	}{
		{"dual stack", aNode("n", "a", []string{"10.0.1.0/24", "2001:db8:1::/64"}, "192.0.2.1", "2001:db8::1"),
			"a [10.0.1.0/24 192.0.2.1/32 2001:db8::1/128 2001:db8:1::/64]"},
		{"no pod ranges", aNode("n", "a", nil, "192.0.2.1"), "a [192.0.2.1/32]"},
		{"no zone", aNode("n", "", []string{"10.0.1.0/24"}, "192.0.2.1"), " []"},
		{"nonsense is left out", aNode("n", "a", []string{"10.0.1.0/240", "", "10.0.2.7/24"}, "fe80::1%eth0", "n.example"), "a [10.0.2.0/24]"},
	} {
		if got := nodeOf(test.node); fmt.Sprint(got.zone, " ", got.prefixes) != test.want {
			t.Errorf("%s: %v %v, want %s", test.name, got.zone, got.prefixes, test.want)
		}
	}
}

// changes counts calls of changed, and lets a test wait for a state.
type changes struct{ c chan struct{} }

func newChanges() changes { return changes{make(chan struct{}, 1)} }

func (c changes) changed() {
	select {
	case c.c <- struct{}{}:
	default:
	}
}

// until waits for a change after which ok reports true.
func (c changes) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-c.c:
		case <-deadline:
			t.Fatalf("never happened: %s", what)
		}
	}
}

type logged struct {
	mu    sync.Mutex
	lines []string
	c     changes
}

func (l *logged) Infof(format string, values ...any)    { l.add("INFO "+format, values) }
func (l *logged) Warningf(format string, values ...any) { l.add("WARNING "+format, values) }

func (l *logged) add(format string, values []any) {
	l.mu.Lock()
	l.lines = append(l.lines, fmt.Sprintf(format, values...))
	l.mu.Unlock()
	l.c.changed()
}

func (l *logged) has(text string) func() bool {
	return func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return strings.Contains(strings.Join(l.lines, "\n"), text)
	}
}

func TestNodes(t *testing.T) {
	client := fake.NewClientset(
		aNode("n1", "a", []string{"10.0.1.0/24"}, "192.0.2.1"), aNode("n2", "b", []string{"10.0.2.0/24"}, "192.0.2.2"),
	)
	c := newChanges()
	nodes := &Nodes{start(Cluster{}, client, &logged{c: newChanges()}), c.changed}
	informers.Lock()
	nodes.callers = []*Nodes{nodes}
	informers.Unlock()
	defer nodes.Leave()
	in := func(addr, zone string) func() bool {
		return func() bool { return nodes.Synced() && nodes.Table().Of(netip.MustParseAddr(addr)).String() == zone }
	}
	c.until(t, "pods of n2 are in b", in("10.0.2.9", "b"))
	if got := nodes.Table().Of(netip.MustParseAddr("192.0.2.1")).String(); got != "a" {
		t.Errorf("n1 itself is in %q, want a", got)
	}
	api := client.CoreV1().Nodes()
	ctx := context.Background()
	if _, err := api.Create(ctx, aNode("n3", "c", []string{"10.0.3.0/24"}), meta.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.until(t, "a new node's pods are in its zone", in("10.0.3.9", "c"))
	if _, err := api.Update(ctx, aNode("n3", "a", []string{"10.0.3.0/24"}), meta.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.until(t, "a node that changes its zone takes its pods along", in("10.0.3.9", "a"))
	if err := api.Delete(ctx, "n2", meta.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.until(t, "the pods of a node that left are in no zone", in("10.0.2.9", ""))
}

func TestNodes_LostAPIServer(t *testing.T) {
	client := fake.NewClientset(aNode("n1", "a", []string{"10.0.1.0/24"}))
	var mu sync.Mutex
	broken := true
	client.PrependReactor("list", "nodes", func(clienttesting.Action) (bool, kruntime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		if broken {
			return true, nil, errors.New("connection refused")
		}
		return false, nil, nil
	})
	log := &logged{c: newChanges()}
	i := start(Cluster{}, client, log)
	defer i.stop()
	log.c.until(t, "a warning", log.has("WARNING locality kubernetes (in-cluster): cannot read nodes: connection refused; no locality is known yet"))
	if i.Problem() != "connection refused" || i.Synced() {
		t.Errorf("problem %q, synced %v, want connection refused and false", i.Problem(), i.Synced())
	}
	mu.Lock()
	broken = false
	mu.Unlock()
	log.c.until(t, "all is well again", log.has("INFO locality kubernetes (in-cluster): the API server answers again"))
}

func TestFollow_SharesAnInformer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubeconfig")
	config := `{"apiVersion": "v1", "kind": "Config", "current-context": "c",
		"clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}], "contexts": [{"name": "c", "context": {"cluster": "c"}}]}`
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	log := &logged{c: newChanges()}
	first, err := Follow(Cluster{Kubeconfig: path}, log, func() {})
	if err != nil {
		t.Fatal(err)
	}
	second, err := Follow(Cluster{Kubeconfig: path}, log, func() {})
	if err != nil {
		t.Fatal(err)
	}
	if first.informer != second.informer {
		t.Error("two rules of one cluster list its nodes twice")
	}
	first.Leave()
	second.Leave()
	if len(informers.running) != 0 {
		t.Error("an informer runs that nobody follows")
	}
}

func TestFollow_Errors(t *testing.T) {
	for _, test := range []struct {
		cluster Cluster
		want    string
	}{
		{Cluster{}, `kubernetes: this process runs in no Kubernetes cluster: want "kubernetes KUBECONFIG [CONTEXT]"`},
		{Cluster{Kubeconfig: "/no/such/file"}, "kubernetes: stat /no/such/file: no such file or directory"},
	} {
		if _, err := Follow(test.cluster, nil, nil); err == nil || err.Error() != test.want {
			t.Errorf("%v: error %v, want %s", test.cluster, err, test.want)
		}
	}
}

// BenchmarkMemory reports what 5,000 nodes with two pod ranges and two addresses each cost, without
// what an informer has anyway.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		before := heap()
		store := cache.NewStore(cache.MetaNamespaceKeyFunc, cache.WithTransformer(transform))
		for i := range 5000 {
			full := aNode(fmt.Sprintf("node-%d.example.internal", i), fmt.Sprintf("zone-%d", i%3),
				[]string{fmt.Sprintf("10.%d.%d.0/24", i>>8, i&255), fmt.Sprintf("2001:db8:%x::/64", i)},
				fmt.Sprintf("172.16.%d.%d", i>>8, i&255), fmt.Sprintf("2001:db8:ffff::%x", i))
			if err := store.Add(full); err != nil {
				b.Fatal(err)
			}
		}
		table := tableOf(nodesIn(store))
		b.ReportMetric(float64(heap()-before), "B-kept")
		runtime.KeepAlive(store)
		runtime.KeepAlive(table)
	}
}

func heap() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
