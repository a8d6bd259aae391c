// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// deployment is where the manifests are.
const deployment = "../../deploy/kubernetes"

// apply does what kubectl apply --server-side --force-conflicts -k does with our manifests and some
// of their components. It takes back what an earlier test changed in them.
func (c *cluster) apply(t testing.TB, components ...string) {
	t.Helper()
	dyn, err := dynamic.NewForConfigAndClient(c.config, c.http)
	if err != nil {
		t.Fatal(err)
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(c.client.Discovery()))
	for _, object := range manifests(t, components) {
		kind := object.GroupVersionKind()
		mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if err != nil {
			t.Fatal(err)
		}
		resource := dyn.Resource(mapping.Resource).Namespace(object.GetNamespace())
		if _, err := resource.Apply(context.Background(), object.GetName(), &object, metav1.ApplyOptions{FieldManager: "kubectl", Force: true}); err != nil {
			t.Fatalf("%s %s: %v", kind.Kind, object.GetName(), err)
		}
	}
}

// manifests builds our manifests, with some of their components, as an operator does who lists them
// in the kustomization.
func manifests(t testing.TB, components []string) (objects []unstructured.Unstructured) {
	t.Helper()
	tree, err := filepath.Abs(deployment)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	rel, err := filepath.Rel(dir, tree)
	if err != nil {
		t.Fatal(err)
	}
	k := types.Kustomization{Resources: []string{rel}}
	for _, component := range components {
		k.Components = append(k.Components, filepath.Join(rel, "components", component))
	}
	text, err := yaml.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, resource := range built.Resources() {
		object, err := resource.Map()
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, unstructured.Unstructured{Object: object})
	}
	slices.SortStableFunc(objects, func(a, b unstructured.Unstructured) int { return cmp.Compare(a.GetKind(), b.GetKind()) })
	return objects
}
