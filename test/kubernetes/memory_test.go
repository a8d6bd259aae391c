// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The size of a large cluster, and of a flood: more names than balance keeps turns for, twice.
const (
	manyServices  = 5_000 // every other one headless
	manyEndpoints = 20_000
	floodNames    = 200_000
	floodClients  = 32
)

// BenchmarkMemory measures the memory of the manifests' pod, with loadbalance in the place of
// balance beside it: after the start in an empty cluster and in one with many services, after every
// service was asked for, and after floods of random names inside and outside the cluster. It fails
// where the pod ever had more than the Deployment's limit. Run it with -benchtime 1x.
func BenchmarkMemory(b *testing.B) {
	theCluster.apply(b)
	plugins := []string{"loadbalance", "balance"}
	for _, plugin := range plugins {
		b.Run(plugin+"/idle", func(b *testing.B) { runWith(b, plugin).report(b) })
	}
	n := newNamespace(b, "many")
	n.fill(b)
	for _, plugin := range plugins {
		b.Run(plugin, func(b *testing.B) {
			p := runWith(b, plugin)
			b.Run("services", func(b *testing.B) { p.report(b) })
			for _, flood := range []struct {
				name  string
				asked int
				query func(i int) *dns.Msg
			}{
				{"all-asked", 4 * manyServices, n.askAll},
				{"flood-cluster", floodNames, n.askRandomly},
				{"flood-outside", floodNames, askOutside},
				{"flood-outside-twice", 2 * floodNames, askTwice()},
			} {
				b.Run(flood.name, func(b *testing.B) {
					sendAll(b, flood.asked, flood.query)
					p.report(b)
				})
			}
		})
	}
}

// runWith runs the pod with a plugin in the place of balance.
func runWith(b *testing.B, plugin string) *pod {
	b.Helper()
	theCluster.apply(b)
	corefile := manifestCorefile(b)
	const line = "    balance\n"
	if strings.Count(corefile, line) != 1 {
		b.Fatalf("no line balance in\n%s", corefile)
	}
	configure(b, "coredns", map[string]string{"Corefile": strings.Replace(corefile, line, "    "+plugin+"\n", 1)})
	return runPod(b, "coredns")
}

// report reports what the pod takes now: resident memory, the most of it so far, and the Go heap in
// use.
func (p *pod) report(b *testing.B) {
	b.Helper()
	const mib = 1 << 20
	resident, peak := p.status(b, "VmRSS:"), p.status(b, "VmHWM:")
	b.ReportMetric(float64(resident)/mib, "MiB-RSS")
	b.ReportMetric(float64(peak)/mib, "MiB-peak")
	b.ReportMetric(p.metric(b, "go_memstats_heap_inuse_bytes")/mib, "MiB-heap")
	b.ReportMetric(0, "ns/op")
	if limit := p.container.Resources.Limits.Memory().Value(); limit == 0 || peak > limit {
		b.Errorf("the pod had %d bytes, more than the limit of the Deployment, %d", peak, limit)
	}
}

// status returns a size from what the kernel says of the process, in bytes.
func (p *pod) status(b *testing.B, key string) int64 {
	b.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) == 3 && fields[0] == key && fields[2] == "kB" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib << 10
		}
	}
	b.Fatalf("no %s", key)
	return 0
}

// metric returns a metric, whose name has its labels.
func (p *pod) metric(b testing.TB, name string) float64 {
	b.Helper()
	text, err := get(b.Context(), "http://"+p.address+":9153/metrics")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			number, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				b.Fatal(err)
			}
			return number
		}
	}
	b.Fatalf("no metric %s", name)
	return 0
}

// fill makes many services and their endpoints.
func (n namespace) fill(b *testing.B) {
	b.Helper()
	const each = manyEndpoints / manyServices
	inParallel(manyServices, func(i int) {
		var addrs []string
		for k := range each {
			host := i*each + k
			addrs = append(addrs, fmt.Sprintf("10.244.%d.%d", host>>8, host&255))
		}
		spec := corev1.ServiceSpec{}
		if i%2 == 0 {
			spec.ClusterIP = corev1.ClusterIPNone
		}
		spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80}}
		object := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: serviceName(i)}, Spec: spec}
		if _, err := theCluster.client.CoreV1().Services(string(n)).Create(context.Background(), object, metav1.CreateOptions{}); err != nil {
			b.Error(err)
			return
		}
		slice := sliceOf(serviceName(i), sliceName(serviceName(i), 0), ready(addrs...))
		if _, err := theCluster.client.DiscoveryV1().EndpointSlices(string(n)).Create(context.Background(), slice, metav1.CreateOptions{}); err != nil {
			b.Error(err)
		}
	})
	if b.Failed() {
		b.FailNow()
	}
}

func serviceName(i int) string { return fmt.Sprintf("service-%d", i) }

// askAll asks for A, AAAA and SRV records of every service, and for a pod of it.
func (n namespace) askAll(i int) *dns.Msg {
	service := serviceName(i / 4)
	switch i % 4 {
	case 0:
		return new(dns.Msg).SetQuestion(n.fqdn(service), dns.TypeA)
	case 1:
		return new(dns.Msg).SetQuestion(n.fqdn(service), dns.TypeAAAA)
	case 2:
		return new(dns.Msg).SetQuestion(n.fqdn("_http._tcp."+service), dns.TypeSRV)
	}
	host := i / 4 * (manyEndpoints / manyServices)
	return new(dns.Msg).SetQuestion(fmt.Sprintf("10-244-%d-%d.%s.pod.cluster.local.", host>>8, host&255, n), dns.TypeA)
}

// askRandomly asks for names in the cluster, half of which do not exist; the others are of pods
// that may not exist.
func (n namespace) askRandomly(i int) *dns.Msg {
	a := rand.Uint32()
	if i%2 == 0 {
		return new(dns.Msg).SetQuestion(n.fqdn(fmt.Sprintf("%08x", a)), dns.TypeA)
	}
	return new(dns.Msg).SetQuestion(fmt.Sprintf("10-%d-%d-%d.%s.pod.cluster.local.", a>>16&255, a>>8&255, a&255, n), dns.TypeA)
}

// askOutside asks for random names that have three addresses of their own each.
func askOutside(int) *dns.Msg { return askFor(rand.Uint64()) }

// askTwice returns what asks for such names twice each, which is what balance keeps most for.
func askTwice() func(i int) *dns.Msg {
	secret := rand.Uint64()
	return func(i int) *dns.Msg { return askFor(secret + uint64(i/2)) }
}

func askFor(random uint64) *dns.Msg {
	return new(dns.Msg).SetQuestion(fmt.Sprintf("%016x.example.net.", random), dns.TypeA)
}

// sendAll sends queries, as fast as they are answered.
func sendAll(b *testing.B, queries int, query func(i int) *dns.Msg) {
	b.Helper()
	clients := make(chan *client, floodClients)
	for range floodClients {
		clients <- dial(b, "udp")
	}
	inParallel(queries, func(i int) {
		c := <-clients
		defer func() { clients <- c }()
		q := query(i)
		if _, err := c.exchange(q); err != nil {
			b.Errorf("%s: %v", q.Question[0].Name, err)
		}
	})
}

// inParallel calls call with 0 to n-1, some at the same time.
func inParallel(n int, call func(i int)) {
	var next atomic.Int64
	var running sync.WaitGroup
	for range floodClients {
		running.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				call(i)
			}
		})
	}
	running.Wait()
}
