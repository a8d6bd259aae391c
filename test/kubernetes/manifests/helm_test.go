// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/google/go-cmp/cmp"
)

// chartValues are those keys of the coredns chart that the values file sets.
type chartValues struct {
	Image               struct{ Repository, Tag string }
	ReplicaCount        int32
	Resources           core.ResourceRequirements
	K8sAppLabelOverride string
	Service             struct {
		Name, ClusterIP string
		Selector        map[string]string
	}
	Deployment     struct{ Selector *meta.LabelSelector }
	ReadinessProbe map[string]any
	ServiceAccount struct {
		Create bool
		Name   string
	}
	ClusterRole               struct{ NameOverride string }
	PriorityClassName         string
	PodSecurityContext        *core.PodSecurityContext
	SecurityContext           *core.SecurityContext
	NodeSelector              map[string]string
	Tolerations               []core.Toleration
	Affinity                  *core.Affinity
	TopologySpreadConstraints []core.TopologySpreadConstraint
	PodDisruptionBudget       policy.PodDisruptionBudgetSpec
	Prometheus                struct{ Service struct{ Enabled bool } }
	Servers                   []chartServer
}

type chartServer struct {
	Zones []struct {
		Zone   string
		UseTCP bool `json:"use_tcp"`
	}
	Port    int
	Plugins []struct {
		Name        string
		Parameters  any
		ConfigBlock string
	}
}

// corefile is what the chart's template makes of a server.
func (s chartServer) corefile() string {
	var b strings.Builder
	for i, zone := range s.Zones {
		b.WriteString(strings.Repeat(" ", min(i, 1)) + zone.Zone)
	}
	fmt.Fprintf(&b, ":%d {\n", s.Port)
	for _, p := range s.Plugins {
		b.WriteString(p.Name)
		if p.Parameters != nil {
			fmt.Fprintf(&b, " %v", p.Parameters)
		}
		if p.ConfigBlock != "" {
			fmt.Fprintf(&b, " {\n%s\n}", p.ConfigBlock)
		}
		b.WriteString("\n")
	}
	return b.String() + "}\n"
}

func readValues(t *testing.T) chartValues {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deploy, "helm", "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var values chartValues
	if err := yaml.UnmarshalStrict(text, &values); err != nil {
		t.Fatal(err)
	}
	return values
}

// words are what a Corefile says, however it is indented.
func words(corefile string) []string {
	return strings.Fields(strings.ReplaceAll(comment.ReplaceAllString(corefile, ""), "\n", " ; "))
}

// The chart's Corefile says what that of deploy/kubernetes says.
func TestChartRendersTheCorefile(t *testing.T) {
	values := readValues(t)
	if len(values.Servers) != 1 || !values.Servers[0].Zones[0].UseTCP {
		t.Fatalf("%+v", values.Servers)
	}
	want := one[core.ConfigMap](build(t, "."), "ConfigMap", "coredns").Data["Corefile"]
	if diff := cmp.Diff(words(want), words(values.Servers[0].corefile())); diff != "" {
		t.Error(diff)
	}
}

// The chart's pods are those of deploy/kubernetes.
func TestChartsPodsAreTheSame(t *testing.T) {
	values := readValues(t)
	o := build(t, ".")
	deployment := one[apps.Deployment](o, "Deployment", "coredns")
	service := one[core.Service](o, "Service", "kube-dns")
	spec := deployment.Spec.Template.Spec
	for name, pair := range map[string][2]any{
		"image":               {spec.Containers[0].Image, values.Image.Repository + ":" + values.Image.Tag},
		"replicas":            {*deployment.Spec.Replicas, values.ReplicaCount},
		"requests":            {spec.Containers[0].Resources.Requests, values.Resources.Requests},
		"memory":              {spec.Containers[0].Resources.Limits[core.ResourceMemory], values.Resources.Limits[core.ResourceMemory]},
		"pod security":        {spec.SecurityContext, values.PodSecurityContext},
		"security":            {spec.Containers[0].SecurityContext, values.SecurityContext},
		"priority":            {spec.PriorityClassName, values.PriorityClassName},
		"node selector":       {spec.NodeSelector, values.NodeSelector},
		"tolerations":         {spec.Tolerations, values.Tolerations},
		"affinity":            {spec.Affinity, values.Affinity},
		"spread":              {spec.TopologySpreadConstraints, values.TopologySpreadConstraints},
		"service account":     {spec.ServiceAccountName, values.ServiceAccount.Name},
		"label":               {deployment.Labels["k8s-app"], values.K8sAppLabelOverride},
		"service":             {service.Name + " " + service.Spec.ClusterIP, values.Service.Name + " " + values.Service.ClusterIP},
		"pods of the service": {service.Spec.Selector, values.Service.Selector},
		"pods":                {deployment.Spec.Selector, values.Deployment.Selector},
		"disruptions allowed": {1, values.PodDisruptionBudget.MaxUnavailable.IntValue()},
	} {
		if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
