// SPDX-License-Identifier: Apache-2.0

// Package manifests builds what deploy holds, as kubectl does, and checks what an operator relies
// on.
package manifests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	rbac "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/google/go-cmp/cmp"
)

// deploy is the directory under test.
var deploy = filepath.Join("..", "..", "..", "deploy")

// objects are what a kustomization yields, one of each kind and name.
type objects struct {
	t    *testing.T
	docs map[string][]byte // by "Kind name"
}

// build makes the objects of a directory below deploy/kubernetes, with the components in it that
// are named.
func build(t *testing.T, dir string, components ...string) objects {
	t.Helper()
	fs := filesys.MakeFsInMemory()
	root := filepath.Join(deploy, "kubernetes")
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		return fs.WriteFile(filepath.Join("/tree", relative), text)
	})
	if err != nil {
		t.Fatal(err)
	}
	built := map[string]any{"resources": []string{filepath.Join("../tree", dir)}, "components": []string{}}
	for _, name := range components {
		built["components"] = append(built["components"].([]string), "../tree/components/"+name)
	}
	text, err := yaml.Marshal(built)
	if err != nil {
		t.Fatal(err)
	}
	if err := fs.WriteFile("/mine/kustomization.yaml", text); err != nil {
		t.Fatal(err)
	}
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(fs, "/mine")
	if err != nil {
		t.Fatal(err)
	}
	o := objects{t, map[string][]byte{}}
	for _, r := range resources.Resources() {
		doc, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		o.docs[r.GetKind()+" "+r.GetName()] = doc
	}
	return o
}

// kinds are the types that the API server would decode into, by what a manifest says.
var kinds = map[string]func() any{
	"v1 ServiceAccount":  func() any { return new(core.ServiceAccount) },
	"v1 ConfigMap":       func() any { return new(core.ConfigMap) },
	"v1 Service":         func() any { return new(core.Service) },
	"apps/v1 Deployment": func() any { return new(apps.Deployment) },
	"rbac.authorization.k8s.io/v1 ClusterRole":        func() any { return new(rbac.ClusterRole) },
	"rbac.authorization.k8s.io/v1 ClusterRoleBinding": func() any { return new(rbac.ClusterRoleBinding) },
	"policy/v1 PodDisruptionBudget":                   func() any { return new(policy.PodDisruptionBudget) },
	"networking.k8s.io/v1 NetworkPolicy":              func() any { return new(networking.NetworkPolicy) },
	"monitoring.coreos.com/v1 ServiceMonitor":         func() any { return new(monitoring.ServiceMonitor) },
}

// one decodes the object of a kind and name; unknown and duplicate fields are errors.
func one[T any](o objects, kind, name string) T {
	o.t.Helper()
	var object T
	doc, ok := o.docs[kind+" "+name]
	if !ok {
		o.t.Fatalf("no %s %s", kind, name)
	}
	if err := yaml.UnmarshalStrict(doc, &object); err != nil {
		o.t.Fatalf("%s %s: %v", kind, name, err)
	}
	return object
}

// builds are all that a user may apply.
var builds = map[string]func(*testing.T) objects{
	"plain":              func(t *testing.T) objects { return build(t, ".") },
	"files":              func(t *testing.T) objects { return build(t, ".", "files") },
	"fleet":              func(t *testing.T) objects { return build(t, ".", "fleet") },
	"locality":           func(t *testing.T) objects { return build(t, ".", "locality") },
	"networkpolicy":      func(t *testing.T) objects { return build(t, ".", "networkpolicy") },
	"pods-verified":      func(t *testing.T) objects { return build(t, ".", "pods-verified") },
	"servicemonitor":     func(t *testing.T) objects { return build(t, ".", "servicemonitor") },
	"all":                func(t *testing.T) objects { return build(t, ".", components(t)...) },
	"kubeadm":            func(t *testing.T) objects { return build(t, "overlays/kubeadm") },
	"kubeadm with files": func(t *testing.T) objects { return build(t, "overlays/kubeadm", "files") },
}

func components(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(deploy, "kubernetes", "components"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// Every component is among the builds above, and offered where users look.
func TestComponentsAreListed(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(deploy, "kubernetes", "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range components(t) {
		if builds[name] == nil {
			t.Errorf("component %s is not built by a test", name)
		}
		if !strings.Contains(string(text), "\n# - components/"+name+" ") {
			t.Errorf("deploy/kubernetes/kustomization.yaml does not offer component %s", name)
		}
	}
}

// What is built has no field that the API does not know, and all of it is in kube-system or in no
// namespace.
func TestEveryBuildIsValid(t *testing.T) {
	clusterWide := []string{"ClusterRole", "ClusterRoleBinding"}
	for name, built := range builds {
		t.Run(name, func(t *testing.T) {
			for at, doc := range built(t).docs {
				var m meta.PartialObjectMetadata
				if err := yaml.Unmarshal(doc, &m); err != nil {
					t.Fatal(err)
				}
				kind, ok := kinds[m.APIVersion+" "+m.Kind]
				if !ok {
					t.Fatalf("%s: no type for %s %s", at, m.APIVersion, m.Kind)
				}
				if err := yaml.UnmarshalStrict(doc, kind()); err != nil {
					t.Errorf("%s: %v", at, err)
				}
				want := "kube-system"
				if slices.Contains(clusterWide, m.Kind) {
					want = ""
				}
				if m.Namespace != want {
					t.Errorf("%s: namespace %q, want %q", at, m.Namespace, want)
				}
			}
		})
	}
}

// Pods run as the image's user, with one capability, none to gain, and a root that nobody writes
// to.
func TestPodsHaveNoMoreThanTheyNeed(t *testing.T) {
	spec := one[apps.Deployment](build(t, "."), "Deployment", "coredns").Spec.Template.Spec
	wantPod := &core.PodSecurityContext{
		RunAsNonRoot: new(true), RunAsUser: new(int64(65532)), RunAsGroup: new(int64(65532)),
		SeccompProfile: &core.SeccompProfile{Type: core.SeccompProfileTypeRuntimeDefault},
	}
	if diff := cmp.Diff(wantPod, spec.SecurityContext); diff != "" {
		t.Error(diff)
	}
	want := &core.SecurityContext{
		AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
		Capabilities: &core.Capabilities{Add: []core.Capability{"NET_BIND_SERVICE"}, Drop: []core.Capability{"ALL"}},
	}
	if diff := cmp.Diff(want, spec.Containers[0].SecurityContext); diff != "" {
		t.Error(diff)
	}
}

// The cluster's DNS is scheduled first, on any node, its replicas apart, and asks the node's
// resolvers.
func TestPodsAreScheduledAsClusterDNS(t *testing.T) {
	deployment := one[apps.Deployment](build(t, "."), "Deployment", "coredns")
	spec := deployment.Spec.Template.Spec
	if spec.PriorityClassName != "system-cluster-critical" || spec.DNSPolicy != core.DNSDefault || *deployment.Spec.Replicas != 2 {
		t.Errorf("priority %s, dnsPolicy %s, %d replicas", spec.PriorityClassName, spec.DNSPolicy, *deployment.Spec.Replicas)
	}
	mine := deployment.Spec.Selector.MatchLabels
	if diff := cmp.Diff(map[string]string{"k8s-app": "kube-dns"}, mine); diff != "" {
		t.Error(diff) // kubeadm's: a Deployment's selector cannot be changed
	}
	apart := spec.Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution[0].PodAffinityTerm
	spread := spec.TopologySpreadConstraints[0]
	for at, selector := range map[string]*meta.LabelSelector{"affinity": apart.LabelSelector, "spread": spread.LabelSelector} {
		if diff := cmp.Diff(mine, selector.MatchLabels); diff != "" {
			t.Errorf("%s: %s", at, diff)
		}
	}
	if apart.TopologyKey != core.LabelHostname || spread.TopologyKey != core.LabelTopologyZone || spread.WhenUnsatisfiable != core.ScheduleAnyway {
		t.Errorf("apart by %s, spread by %s or %s", apart.TopologyKey, spread.TopologyKey, spread.WhenUnsatisfiable)
	}
	for _, taint := range []core.Taint{
		{Key: "CriticalAddonsOnly", Effect: core.TaintEffectNoSchedule},
		{Key: "node-role.kubernetes.io/control-plane", Effect: core.TaintEffectNoSchedule},
	} {
		if !slices.ContainsFunc(spec.Tolerations, func(to core.Toleration) bool {
			return to.Key == taint.Key && (to.Effect == "" || to.Effect == taint.Effect) && (to.Operator == core.TolerationOpExists || to.Value == taint.Value)
		}) {
			t.Errorf("%v is not tolerated", taint)
		}
	}
}

// Memory is bounded; the processor is not, for a throttled DNS server is a slow one.
func TestPodsHaveLimits(t *testing.T) {
	r := one[apps.Deployment](build(t, "."), "Deployment", "coredns").Spec.Template.Spec.Containers[0].Resources
	limit, ok := r.Limits[core.ResourceMemory]
	if !ok || limit.Cmp(r.Requests[core.ResourceMemory]) < 0 || r.Requests.Memory().Cmp(resource.MustParse("1Mi")) < 0 || r.Requests.Cpu().IsZero() {
		t.Errorf("requests %v, limits %v", r.Requests, r.Limits)
	}
	if _, ok := r.Limits[core.ResourceCPU]; ok {
		t.Error("the processor is limited")
	}
}

// A subPath never sees a new ConfigMap. And each mount is of a volume whose ConfigMap is there.
func TestConfigMapsAreMountedAsDirectories(t *testing.T) {
	for _, name := range []string{"plain", "files", "all", "kubeadm with files"} {
		t.Run(name, func(t *testing.T) {
			o := builds[name](t)
			spec := one[apps.Deployment](o, "Deployment", "coredns").Spec.Template.Spec
			mounted := map[string]string{} // where, by ConfigMap
			for _, mount := range spec.Containers[0].VolumeMounts {
				if mount.SubPath != "" || mount.SubPathExpr != "" || !mount.ReadOnly {
					t.Errorf("%s: not a directory to read from", mount.MountPath)
				}
				at := slices.IndexFunc(spec.Volumes, func(v core.Volume) bool { return v.Name == mount.Name })
				if at < 0 {
					t.Fatalf("%s: no volume %s", mount.MountPath, mount.Name)
				}
				if v := spec.Volumes[at]; v.ConfigMap != nil {
					mounted[v.ConfigMap.Name] = mount.MountPath
				}
			}
			want := map[string]string{"coredns": "/etc/coredns"}
			if name == "kubeadm with files" {
				want = map[string]string{} // kubeadm's own
			}
			if name != "plain" {
				want["coredns-weights"], want["coredns-overrides"] = "/etc/balance/weights", "/etc/balance/overrides"
			}
			if diff := cmp.Diff(want, mounted); diff != "" {
				t.Error(diff)
			}
			for configMap := range mounted {
				one[core.ConfigMap](o, "ConfigMap", configMap)
			}
		})
	}
}

// The Corefile reads the files where the volumes put them.
func TestCorefileReadsTheMountedFiles(t *testing.T) {
	o := build(t, ".", "files")
	corefile := one[core.ConfigMap](o, "ConfigMap", "coredns").Data["Corefile"]
	for _, option := range []string{"weights", "overrides"} {
		if _, ok := one[core.ConfigMap](o, "ConfigMap", "coredns-"+option).Data[option]; !ok {
			t.Errorf("ConfigMap coredns-%s has no key %s", option, option)
		}
		if line := option + " /etc/balance/" + option + "/" + option + "\n"; !strings.Contains(corefile, line) {
			t.Errorf("the Corefile does not say %q", line)
		}
	}
}

// The probes of the kubelet go to the ports that the Corefile opens, under the names of the
// container's ports.
func TestKubeletProbes(t *testing.T) {
	o := build(t, ".")
	container := one[apps.Deployment](o, "Deployment", "coredns").Spec.Template.Spec.Containers[0]
	ports := map[string]int32{}
	for _, port := range container.Ports {
		ports[port.Name] = port.ContainerPort
	}
	if got := container.LivenessProbe.HTTPGet; got.Path != "/health" || ports[got.Port.StrVal] != 8080 {
		t.Errorf("liveness %v at %d", got, ports[got.Port.StrVal])
	}
	if got := container.ReadinessProbe.HTTPGet; got.Path != "/ready" || ports[got.Port.StrVal] != 8181 {
		t.Errorf("readiness %v at %d", got, ports[got.Port.StrVal])
	}
	corefile := one[core.ConfigMap](o, "ConfigMap", "coredns").Data["Corefile"]
	for _, line := range []string{"\n    health {\n", "\n    ready\n", "\n    prometheus :9153\n"} {
		if !strings.Contains(corefile, line) {
			t.Errorf("the Corefile does not say %q", line)
		}
	}
}

func TestServiceIsKubeadms(t *testing.T) {
	o := build(t, ".", "servicemonitor")
	service := one[core.Service](o, "Service", "kube-dns")
	want := []core.ServicePort{
		{Name: "dns", Port: 53, Protocol: core.ProtocolUDP, TargetPort: intstr.FromInt32(53)},
		{Name: "dns-tcp", Port: 53, Protocol: core.ProtocolTCP, TargetPort: intstr.FromInt32(53)},
		{Name: "metrics", Port: 9153, Protocol: core.ProtocolTCP, TargetPort: intstr.FromInt32(9153)},
	}
	if diff := cmp.Diff(want, service.Spec.Ports); diff != "" || service.Spec.ClusterIP != "10.96.0.10" {
		t.Errorf("cluster IP %s: %s", service.Spec.ClusterIP, diff)
	}
	pods := one[apps.Deployment](o, "Deployment", "coredns").Spec.Template.Labels
	if diff := cmp.Diff(pods, service.Spec.Selector); diff != "" {
		t.Error(diff)
	}
	monitor := one[monitoring.ServiceMonitor](o, "ServiceMonitor", "coredns").Spec
	for key, value := range monitor.Selector.MatchLabels {
		if service.Labels[key] != value {
			t.Errorf("the ServiceMonitor wants %s=%s of the Service", key, value)
		}
	}
	if monitor.Endpoints[0].Port != "metrics" {
		t.Errorf("the ServiceMonitor scrapes %q", monitor.Endpoints[0].Port)
	}
	if !monitor.Endpoints[0].HonorLabels {
		t.Error("the ServiceMonitor renames the label endpoint of the metrics, by which alerts and dashboard go")
	}
}

// A drain takes one replica at a time, and is not blocked by the last one.
func TestDisruptionBudget(t *testing.T) {
	o := build(t, ".")
	budget := one[policy.PodDisruptionBudget](o, "PodDisruptionBudget", "coredns").Spec
	pods := one[apps.Deployment](o, "Deployment", "coredns").Spec.Template.Labels
	if budget.MinAvailable != nil || budget.MaxUnavailable.IntValue() != 1 || !cmp.Equal(budget.Selector.MatchLabels, pods) {
		t.Errorf("%+v", budget)
	}
}

// What may be listed and watched; that it is what CoreDNS asks for, test/kubernetes_test.go shows.
func TestRoleIsLeast(t *testing.T) {
	listed := func(names ...string) []string {
		var got []string
		role := one[rbac.ClusterRole](build(t, ".", names...), "ClusterRole", "system:coredns")
		for _, rule := range role.Rules {
			if diff := cmp.Diff([]string{"list", "watch"}, rule.Verbs); diff != "" {
				t.Error(diff)
			}
			for _, r := range rule.Resources {
				got = append(got, strings.TrimPrefix(rule.APIGroups[0]+"/"+r, "/"))
			}
		}
		slices.Sort(got)
		return got
	}
	want := []string{"discovery.k8s.io/endpointslices", "namespaces", "services"}
	if diff := cmp.Diff(want, listed()); diff != "" {
		t.Error(diff)
	}
	want = []string{"discovery.k8s.io/endpointslices", "namespaces", "pods", "services"}
	if diff := cmp.Diff(want, listed("pods-verified")); diff != "" {
		t.Error(diff)
	}
	want = []string{"discovery.k8s.io/endpointslices", "namespaces", "nodes", "services"}
	if diff := cmp.Diff(want, listed("locality")); diff != "" {
		t.Error(diff)
	}
	binding := one[rbac.ClusterRoleBinding](build(t, "."), "ClusterRoleBinding", "system:coredns")
	account := one[apps.Deployment](build(t, "."), "Deployment", "coredns").Spec.Template.Spec.ServiceAccountName
	if subject := binding.Subjects[0]; len(binding.Subjects) != 1 || subject.Name != account || subject.Namespace != "kube-system" || binding.RoleRef.Name != "system:coredns" {
		t.Errorf("%+v, for pods of %q", binding, account)
	}
}

var healthCheck = regexp.MustCompile(`health_check tcp (\d+) \{\n[\s#]*allow (\S+)\n`)

// The policy lets the probes through that the Corefile shows, and what DNS and the API need.
func TestNetworkPolicyLetsTheProbesThrough(t *testing.T) {
	o := build(t, ".", "networkpolicy")
	spec := one[networking.NetworkPolicy](o, "NetworkPolicy", "coredns").Spec
	if !cmp.Equal(spec.PolicyTypes, []networking.PolicyType{networking.PolicyTypeEgress}) ||
		!cmp.Equal(spec.PodSelector.MatchLabels, one[apps.Deployment](o, "Deployment", "coredns").Spec.Template.Labels) {
		t.Errorf("%v of %v", spec.PolicyTypes, spec.PodSelector)
	}
	let := map[string][]networking.NetworkPolicyPeer{} // to whom, by protocol and port
	for _, rule := range spec.Egress {
		for _, port := range rule.Ports {
			let[string(*port.Protocol)+" "+port.Port.String()] = rule.To
		}
	}
	for _, anywhere := range []string{"UDP 53", "TCP 53", "TCP 443", "TCP 6443"} {
		if to, ok := let[anywhere]; !ok || len(to) > 0 {
			t.Errorf("%s: to %v", anywhere, to)
		}
	}
	probed := healthCheck.FindStringSubmatch(one[core.ConfigMap](o, "ConfigMap", "coredns").Data["Corefile"])
	if probed == nil {
		t.Fatal("the Corefile shows no health check")
	}
	want := []networking.NetworkPolicyPeer{{IPBlock: &networking.IPBlock{CIDR: probed[2]}}, {NamespaceSelector: &meta.LabelSelector{}}}
	if diff := cmp.Diff(want, let["TCP "+probed[1]]); diff != "" {
		t.Error(diff)
	}
}

// A fleet's replicas have a name that leads to all of them, one key, and a port that is open to
// them alone. The port is that of an option that is not given.
func TestFleet(t *testing.T) {
	o := build(t, ".", "fleet", "networkpolicy")
	deployment := one[apps.Deployment](o, "Deployment", "coredns")
	pods := deployment.Spec.Template.Labels
	service := one[core.Service](o, "Service", "coredns-fleet").Spec
	if service.ClusterIP != core.ClusterIPNone || !service.PublishNotReadyAddresses || !cmp.Equal(service.Selector, pods) {
		t.Errorf("%+v", service)
	}
	fleet, others := []string{"UDP 7946", "TCP 7946"}, []string(nil)
	var opened []string
	for _, port := range deployment.Spec.Template.Spec.Containers[0].Ports {
		if name := fmt.Sprintf("%s %d", port.Protocol, port.ContainerPort); port.ContainerPort == 7946 {
			opened = append(opened, name)
		} else {
			others = append(others, name)
		}
	}
	if !slices.Equal(opened, fleet) {
		t.Errorf("the pods open %v", opened)
	}
	ingress := one[networking.NetworkPolicy](o, "NetworkPolicy", "coredns-fleet").Spec.Ingress
	replicas := []networking.NetworkPolicyPeer{{PodSelector: &meta.LabelSelector{MatchLabels: pods}}}
	if !cmp.Equal(ingress[0].From, replicas) || !slices.Equal(portsOf(ingress[0].Ports), fleet) {
		t.Errorf("the fleet's port is open to %+v", ingress[0])
	}
	if len(ingress[1].From) > 0 || !slices.Equal(portsOf(ingress[1].Ports), others) {
		t.Errorf("the other ports are %v, open to %v; want %v, to all", portsOf(ingress[1].Ports), ingress[1].From, others)
	}
	if !slices.ContainsFunc(one[networking.NetworkPolicy](o, "NetworkPolicy", "coredns").Spec.Egress, func(rule networking.NetworkPolicyEgressRule) bool {
		return cmp.Equal(rule.To, replicas) && slices.Equal(portsOf(rule.Ports), fleet)
	}) {
		t.Error("the pods may not connect to each other")
	}
	volumes := deployment.Spec.Template.Spec.Volumes
	if !slices.ContainsFunc(volumes, func(v core.Volume) bool { return v.Secret != nil && v.Secret.SecretName == "coredns-fleet" }) {
		t.Errorf("no key in %+v", volumes)
	}
}

func portsOf(ports []networking.NetworkPolicyPort) (names []string) {
	for _, port := range ports {
		names = append(names, string(*port.Protocol)+" "+port.Port.String())
	}
	return names
}

// On top of kubeadm's: the image and the Corefile, and not a field more, for the rest is kubeadm's
// to change.
func TestKubeadmOverlayChangesNoMore(t *testing.T) {
	o := build(t, "overlays/kubeadm")
	if len(o.docs) != 2 {
		t.Errorf("%d objects", len(o.docs))
	}
	image := one[apps.Deployment](build(t, "."), "Deployment", "coredns").Spec.Template.Spec.Containers[0].Image
	var got any
	if err := yaml.Unmarshal(o.docs["Deployment coredns"], &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment",
		"metadata": map[string]any{"name": "coredns", "namespace": "kube-system"},
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
			"containers": []any{map[string]any{"name": "coredns", "image": image}},
		}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// kubeadms is the Corefile that kubeadm 1.35 and later install.
const kubeadms = `.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
       disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
`

var comment = regexp.MustCompile(`(?m)^\s*#.*\n`)

func TestCorefileIsKubeadmsButForOneWord(t *testing.T) {
	want := strings.Replace(kubeadms, "loadbalance", "balance", 1)
	for _, name := range []string{"plain", "kubeadm"} {
		corefile := one[core.ConfigMap](builds[name](t), "ConfigMap", "coredns").Data["Corefile"]
		if diff := cmp.Diff(want, comment.ReplaceAllString(corefile, "")); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

var documentedSed = regexp.MustCompile(`(?m)^sed '([^']+)' Corefile\.before > Corefile$`)

// What docs/kubernetes.md has users run changes one word of kubeadm's Corefile, and none of one
// that is changed already.
func TestDocumentedSedChangesOneWord(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "kubernetes.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := documentedSed.FindSubmatch(page)
	if found == nil {
		t.Fatal("docs/kubernetes.md has no sed")
	}
	want := strings.Replace(kubeadms, "loadbalance", "balance", 1)
	for _, before := range []string{kubeadms, want} {
		sed := exec.Command("sed", string(found[1]))
		sed.Stdin = strings.NewReader(before)
		got, err := sed.Output()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Error(diff)
		}
	}
}

// The image has to be named before anything is applied; the name is that of no registry.
func TestImageIsToBeNamed(t *testing.T) {
	for name, built := range builds {
		if image := one[apps.Deployment](built(t), "Deployment", "coredns").Spec.Template.Spec.Containers[0].Image; !strings.HasPrefix(image, "registry.example.org/coredns:") {
			t.Errorf("%s: %s", name, image)
		}
	}
}
