// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
	"text/template"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// corefileIn returns the Corefile of the ConfigMap that kubeadm's source has as a template. To link
// all of kubeadm for a constant would take minutes.
func corefileIn(t *testing.T, source string) string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), source, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	text, err := strconv.Unquote(constant(parsed, "CoreDNSConfigMap"))
	if err != nil {
		t.Fatalf("%s: CoreDNSConfigMap: %v", source, err)
	}
	var manifest strings.Builder
	if err := template.Must(template.New("").Parse(text)).Execute(&manifest, map[string]string{"DNSDomain": "cluster.local"}); err != nil {
		t.Fatal(err)
	}
	var configMap corev1.ConfigMap
	if err := yaml.Unmarshal([]byte(manifest.String()), &configMap); err != nil {
		t.Fatal(err)
	}
	return configMap.Data["Corefile"]
}

// constant returns the literal of a constant of a file, or nothing.
func constant(file *ast.File, name string) (literal string) {
	ast.Inspect(file, func(node ast.Node) bool {
		if spec, ok := node.(*ast.ValueSpec); ok && spec.Names[0].Name == name && len(spec.Values) == 1 {
			if value, ok := spec.Values[0].(*ast.BasicLit); ok {
				literal = value.Value
			}
		}
		return true
	})
	return literal
}
