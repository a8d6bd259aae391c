// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fleetCorefile has every pod listen at an address of its own, because all are in one network here.
const fleetCorefile = `.:53 {
    errors
    bind {$POD_IP}
    health {$POD_IP}:8080
    ready {$POD_IP}:8181
    prometheus {$POD_IP}:9153
    kubernetes cluster.local
    balance db.fleet.svc.cluster.local {
        locality kubernetes
        prefer locality
        ttl 5 1
        health_check tcp 5432 {
            allow 10.244.0.0/16
            interval 1s
            timeout 500ms
            fall 2
            watch db.fleet.svc.cluster.local
        }
        fleet dns {
            join coredns-fleet.kube-system.svc.cluster.local
            listen {$POD_IP}
            key /etc/balance/fleet/fleet.key
            probers 2
        }
    }
}
`

// Three pods of the component fleet find each other by the headless Service, which they answer for
// themselves, with a key from a Secret. They agree on a backend that dies, and on one that comes
// back.
func TestFleet(t *testing.T) {
	fleetKey(t)
	theCluster.apply(t, "fleet", "locality")
	t.Cleanup(func() { theCluster.apply(t) })
	makeNodes(t)
	configure(t, "coredns", map[string]string{"Corefile": fleetCorefile})
	at := []string{podOn(1, 53), podOn(3, 53), podOn(5, 53)}
	namespace(system).slice(t, "coredns-fleet", "coredns-fleet-a", ready(at...))

	n := newNamespace(t, "fleet")
	backends := map[string]net.Listener{}
	for _, node := range []int{1, 3, 5} {
		backends[podOn(node, 9)] = listen(t, podOn(node, 9)+":5432")
	}
	members := []string{podOn(1, 9), podOn(3, 9), podOn(5, 9)}
	n.headless(t, "db", ready(members...))

	var replicas []*pod
	for _, address := range at {
		replicas = append(replicas, startPodAt(t, raced, address))
	}
	for _, p := range replicas {
		if err := p.awaitReady(); err != nil {
			t.Fatal(err)
		}
		p.sees(t, 3)
	}
	for _, p := range replicas {
		for node := 1; node <= nodes; node += 2 {
			dialPod(t, podOn(node, 77), p.address).becomes(t, n.fqdn("db"), podOn(node, 9))
		}
	}
	backends[members[1]].Close()
	allAnswer(t, replicas, n.fqdn("db"), members[0], members[2])
	listen(t, members[1]+":5432")
	allAnswer(t, replicas, n.fqdn("db"), members...)

	if err := replicas[0].end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	for _, p := range replicas[1:] {
		p.sees(t, 2)
	}
	allAnswer(t, replicas[1:], n.fqdn("db"), members...)
}

// fleetKey makes the Secret of the component fleet until the test ends.
func fleetKey(t *testing.T) {
	t.Helper()
	secrets := theCluster.client.CoreV1().Secrets(system)
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "coredns-fleet"},
		StringData: map[string]string{"fleet.key": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n"},
	}
	if _, err := secrets.Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := secrets.Delete(context.Background(), secret.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
}

// sees waits until a pod sees so many replicas, itself included.
func (p *pod) sees(t *testing.T, want float64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s sees %v replicas\n%s", p.address, want, p.tail()), func() bool {
		return p.metric(t, `coredns_balance_fleet_members{fleet="dns"}`) == want
	})
}

// allAnswer waits until all pods answer with these members, in any order.
func allAnswer(t *testing.T, replicas []*pod, name string, want ...string) {
	t.Helper()
	for _, p := range replicas {
		c := dialPod(t, "172.18.0.99", p.address)
		eventually(t, fmt.Sprintf("%s answers %s\n%s", p.address, strings.Join(want, " "), p.tail()), func() bool {
			return slices.Equal(sorted(addresses(c.ask(t, name, dns.TypeA))), want)
		})
	}
}
