// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"bufio"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The ClusterRole grants what CoreDNS asks for, and no more, with the component locality too: no
// request was ever forbidden, in all tests before this one too, and each verb on each resource is
// used. API servers without the feature WatchList, older ones, are asked for a list before a watch.
func TestRoleGrantsWhatIsUsed(t *testing.T) {
	theCluster.apply(t, "locality")
	configure(t, "coredns", map[string]string{"Corefile": localityCorefile(t)})
	for _, args := range [][]string{nil, {"--feature-gates=WatchList=false"}} {
		if err := theCluster.apiserver.end(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := theCluster.startAPIServer(args...); err != nil {
			t.Fatal(err)
		}
		t.Run("", func(t *testing.T) { runPod(t, raced) })
	}
	used := map[string]bool{}
	for _, b := range theCluster.boots {
		for _, r := range requestsIn(t, b.audit) {
			used[r.what()] = true
			// Before it is ready the API server may not know its roles. TestLocality begins without
			// the right to nodes.
			if r.ResponseStatus.Code == 403 && r.Time.After(b.ready) && r.ObjectRef.Resource != "nodes" {
				t.Errorf("forbidden: %+v", r)
			}
		}
	}
	want := granted(t)
	if got := slices.Sorted(maps.Keys(used)); !slices.Equal(got, want) {
		t.Errorf("CoreDNS asked for\n%q, want what its role grants:\n%q", got, want)
	}
}

// request is what the audit log says of a request of CoreDNS.
type request struct {
	User  struct{ Username string }
	Verb  string
	Stage string
	Time  time.Time `json:"requestReceivedTimestamp"`

	RequestURI     string
	ObjectRef      struct{ APIGroup, Resource string }
	ResponseStatus struct{ Code int }
}

func (r request) what() string {
	if r.ObjectRef.Resource == "" {
		return r.Verb + " " + r.RequestURI
	}
	return r.Verb + " " + r.ObjectRef.Resource + "." + r.ObjectRef.APIGroup
}

// requestsIn returns the requests in an audit log that came from CoreDNS.
func requestsIn(t *testing.T, path string) (requests []request) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			continue // the last line of a server that was killed
		}
		if r.User.Username == "system:serviceaccount:kube-system:coredns" {
			requests = append(requests, r)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return requests
}

// granted returns what the ClusterRole allows, sorted.
func granted(t *testing.T) (all []string) {
	t.Helper()
	role, err := theCluster.client.RbacV1().ClusterRoles().Get(t.Context(), "system:coredns", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range role.Rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					all = append(all, verb+" "+resource+"."+group)
				}
			}
		}
	}
	slices.Sort(all)
	return all
}
