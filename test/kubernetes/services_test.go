// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// namespace is a namespace of the cluster that a test has for itself.
type namespace string

// newNamespace makes a namespace. Nobody deletes what is in a namespace here, so it stays; a run
// has a new cluster.
func newNamespace(t testing.TB, name string) namespace {
	t.Helper()
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := theCluster.client.CoreV1().Namespaces().Create(t.Context(), object, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return namespace(name)
}

// fqdn returns the DNS name of a service, or of what stands in front of its name.
func (n namespace) fqdn(service string) string {
	return service + "." + string(n) + ".svc.cluster.local."
}

// service makes a service with a port "http".
func (n namespace) service(t testing.TB, name string, spec corev1.ServiceSpec) *corev1.Service {
	t.Helper()
	if spec.Type != corev1.ServiceTypeExternalName {
		spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80}}
	}
	object := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
	made, err := theCluster.client.CoreV1().Services(string(n)).Create(t.Context(), object, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// headless makes a headless service whose endpoints are in slices of their own.
func (n namespace) headless(t testing.TB, name string, slices ...[]discoveryv1.Endpoint) {
	t.Helper()
	n.service(t, name, corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone})
	for i, endpoints := range slices {
		n.slice(t, name, sliceName(name, i), endpoints)
	}
}

func sliceName(service string, i int) string { return service + "-" + string(rune('a'+i)) }

// slice makes an EndpointSlice of a service.
func (n namespace) slice(t testing.TB, service, name string, endpoints []discoveryv1.Endpoint) {
	t.Helper()
	object := sliceOf(service, name, endpoints)
	if _, err := theCluster.client.DiscoveryV1().EndpointSlices(string(n)).Create(t.Context(), object, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// sliceOf returns an EndpointSlice of a service as the EndpointSlice controller would make it.
func sliceOf(service, name string, endpoints []discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			discoveryv1.LabelServiceName: service, discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io",
		}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
		Endpoints:   endpoints,
	}
}

// setEndpoints replaces the endpoints of a slice.
func (n namespace) setEndpoints(t testing.TB, name string, endpoints []discoveryv1.Endpoint) {
	t.Helper()
	slices := theCluster.client.DiscoveryV1().EndpointSlices(string(n))
	object, err := slices.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	object.Endpoints = endpoints
	if _, err := slices.Update(t.Context(), object, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// endpoint is a pod at an address.
func endpoint(addr string, ready bool) discoveryv1.Endpoint {
	pod := "pod-" + strings.ReplaceAll(addr, ".", "-")
	return discoveryv1.Endpoint{
		Addresses: []string{addr}, Hostname: &pod, NodeName: new("node"), Zone: new("zone"),
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready, Terminating: new(false)},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Name: pod},
	}
}

// ready are pods at addresses.
func ready(addrs ...string) (endpoints []discoveryv1.Endpoint) {
	for _, addr := range addrs {
		endpoints = append(endpoints, endpoint(addr, true))
	}
	return endpoints
}
