// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
	"sigs.k8s.io/yaml"

	"github.com/seed-f1518d44/balance/internal/testserver"
)

// cluster is an API server of a cluster in which default/db is a headless service with three pods,
// and default/external is www.example.org by another name. It knows what the kubernetes plugin asks
// for: to list, and to watch from the start. Safe for concurrent use.
type cluster struct {
	*httptest.Server
	objects map[string][]string // in the place of those served, by resource
	mu      sync.Mutex
	asked   map[string]bool // resources, as group/resource
}

// served are the objects, and their kind, by resource.
var served = map[string]struct {
	group, kind string
	objects     []string
}{
	"namespaces": {"", "Namespace", []string{`"metadata":{"name":"default","resourceVersion":"1"}`}},
	"pods":       {"", "Pod", nil},
	"nodes": {"", "Node", []string{`"metadata":{"name":"n1","resourceVersion":"1","labels":{"topology.kubernetes.io/zone":"zone-a"}},
		"spec":{"podCIDRs":["192.0.2.1/32"]}`}},
	"services": {"", "Service", []string{
		`"metadata":{"name":"db","namespace":"default","resourceVersion":"1"},
			"spec":{"clusterIP":"None","clusterIPs":["None"],"ports":[{"port":5432,"protocol":"TCP"}]}`,
		`"metadata":{"name":"external","namespace":"default","resourceVersion":"1"},"spec":{"type":"ExternalName","externalName":"www.example.org"}`,
	}},
	"endpointslices": {"discovery.k8s.io", "EndpointSlice", []string{`"metadata":{"name":"db-1","namespace":"default","resourceVersion":"1",
			"labels":{"kubernetes.io/service-name":"db"}},"addressType":"IPv4","ports":[{"port":5432,"protocol":"TCP"}],
		"endpoints":[{"addresses":["192.0.2.1"]},{"addresses":["192.0.2.2"]},{"addresses":["192.0.2.3"]}]`}},
}

// newCluster starts one that ends with the test.
func newCluster(t *testing.T) *cluster { return newClusterOf(t, nil) }

// newClusterOf starts one with other objects of some resources.
func newClusterOf(t *testing.T, objects map[string][]string) *cluster {
	c := &cluster{objects: objects, asked: map[string]bool{}}
	c.Server = httptest.NewServer(c)
	t.Cleanup(func() {
		c.CloseClientConnections() // of watches
		c.Close()
	})
	return c
}

// kubeconfig returns the path of a kubeconfig file for the API server.
func (c *cluster) kubeconfig(t *testing.T) string {
	return file(t, "kubeconfig", `{"apiVersion":"v1","kind":"Config","current-context":"c","clusters":[{"name":"c","cluster":{"server":"`+c.URL+`"}}],
		"contexts":[{"name":"c","context":{"cluster":"c"}}]}`)
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resource := path.Base(r.URL.Path)
	what, ok := served[resource]
	if own := c.objects[resource]; own != nil {
		what.objects = own
	}
	c.mu.Lock()
	c.asked[strings.TrimPrefix(what.group+"/"+resource, "/")] = true
	c.mu.Unlock()
	if !ok || r.Method != http.MethodGet {
		http.Error(w, "no such resource", http.StatusNotFound)
		return
	}
	version := path.Join(what.group, "v1")
	typed := fmt.Sprintf(`"apiVersion":%q,"kind":%q,`, version, what.kind)
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Query().Get("watch") == "" {
		items := strings.Join(what.objects, "},{")
		if items != "" {
			items = "{" + items + "}"
		}
		fmt.Fprintf(w, `{"apiVersion":%q,"kind":"%sList","metadata":{"resourceVersion":"1"},"items":[%s]}`, version, what.kind, items)
		return
	}
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		for _, object := range what.objects {
			fmt.Fprintf(w, `{"type":"ADDED","object":{%s%s}}`+"\n", typed, object)
		}
		fmt.Fprintf(w, `{"type":"BOOKMARK","object":{%s"metadata":{"resourceVersion":"1","annotations":{"k8s.io/initial-events-end":"true"}}}}`+"\n", typed)
	}
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

// resources returns what was asked for, sorted.
func (c *cluster) resources() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.asked))
}

var (
	kubernetesStanza = regexp.MustCompile(`(?m)^( *kubernetes [^{\n]*)\{$`)
	serversOfPlugins = regexp.MustCompile(`(?m)^( *)(health|ready|prometheus)( :\d+)?( \{)?$`)
)

// serverEnv names the variable that makes the test binary a CoreDNS of its own.
const serverEnv = "BALANCE_TEST_COREDNS"

// serveInCluster runs a Corefile as in a pod, with the API server, the node's resolver and the
// ports of this test. The files that deploy mounts are those in the tree. It is a process of its
// own, for the kubernetes plugin sets what all its instances in a process share, without a lock.
func serveInCluster(t *testing.T, corefile string, api *cluster, resolver string) *testserver.Server {
	t.Helper()
	files, err := filepath.Abs(filepath.Join("..", "deploy", "kubernetes", "components", "files"))
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	corefile = strings.ReplaceAll(corefile, "locality kubernetes", "locality kubernetes "+api.kubeconfig(t))
	corefile = kubernetesStanza.ReplaceAllString(corefile, "${1}{\n    endpoint "+api.URL)
	corefile = serversOfPlugins.ReplaceAllStringFunc(corefile, func(line string) string {
		m := serversOfPlugins.FindStringSubmatch(line)
		return m[1] + m[2] + " 127.0.0.1:" + freePort(t) + m[4]
	})
	corefile = strings.NewReplacer(
		"forward . /etc/resolv.conf", "forward . "+resolver, "lameduck 5s", "lameduck 0s",
		"/etc/balance/weights/", files+"/", "/etc/balance/overrides/", files+"/",
	).Replace(corefile)
	t.Setenv(serverEnv, "1")
	return testserver.Serve(t, self, func(port string) string {
		return strings.Replace(onLoopback(corefile, resolver), ".:0 {", ".:"+port+" {", 1)
	})
}

// resolverOfTheNode answers that no name exists.
func resolverOfTheNode(t *testing.T) string {
	return upstream(t, func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeNameError)) })
}

// deployed returns the Corefiles that deploy holds, with their commented parts and without, by
// path.
func deployed(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(filepath.Join("..", "deploy"), func(at string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Name() != "Corefile" {
			return err
		}
		text, err := os.ReadFile(at)
		found[at] = string(text)
		if whole := commented.ReplaceAllString(string(text), "$1$2"); whole != string(text) {
			found[at+" with what is commented"] = whole
		}
		return err
	})
	if err != nil || len(found) < 3 {
		t.Fatalf("%d Corefiles, %v", len(found), err)
	}
	return found
}

// commented is a line of a Corefile that a user may bring to life: no blank follows the hash where
// a directive starts.
var commented = regexp.MustCompile(`(?m)^( *)#([^ ].*|   .*)$`)

// The three pods of a headless service take turns in a cluster, whichever Corefile of ours it has.
func TestDeployedCorefilesRotateAHeadlessService(t *testing.T) {
	for at, corefile := range deployed(t) {
		t.Run(at, func(t *testing.T) {
			c := serveInCluster(t, corefile, newCluster(t), resolverOfTheNode(t)).Client
			eventually(t, "CoreDNS knows the service", func() bool {
				return len(members(c.Ask(query("db.default.svc.cluster.local.", dns.TypeA)), dns.TypeA)) == 3
			})
			lead, order := leads{}, []string(nil)
			for range 30 {
				reply := c.Ask(query("db.default.svc.cluster.local.", dns.TypeA))
				lead.add(reply, dns.TypeA)
				order = append(order, members(reply, dns.TypeA)[0])
			}
			lead.exactly(t, 3, 10)
			follows(t, threeSorted, order)
		})
	}
}

// A service that is a name elsewhere rotates as that name's addresses do, under the rule of the
// service.
func TestExternalNameRotates(t *testing.T) {
	corefile := ".:53 {\n    kubernetes cluster.local {\n    }\n    balance external.default.svc.cluster.local\n    forward . /etc/resolv.conf\n}\n"
	c := serveInCluster(t, corefile, newCluster(t), upstream(t, shuffledAddresses)).Client
	eventually(t, "CoreDNS knows the service", func() bool {
		return len(members(c.Ask(query("external.default.svc.cluster.local.", dns.TypeA)), dns.TypeA)) == 3
	})
	lead, order := leads{}, []string(nil)
	for range 30 {
		reply := c.Ask(query("external.default.svc.cluster.local.", dns.TypeA))
		if got := members(reply, dns.TypeCNAME); !slices.Equal(got, []string{"www.example.org."}) {
			t.Fatalf("CNAMEs %v", got)
		}
		lead.add(reply, dns.TypeA)
		order = append(order, members(reply, dns.TypeA)[0])
	}
	lead.exactly(t, 3, 10)
	follows(t, threeSorted, order)
}

// shuffledAddresses answers with the three addresses in any order.
func shuffledAddresses(w dns.ResponseWriter, q *dns.Msg) {
	reply := new(dns.Msg).SetReply(q)
	for _, i := range rand.Perm(3) {
		reply.Answer = append(reply.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 30},
			A:   net.ParseIP(threeSorted[i]),
		})
	}
	_ = w.WriteMsg(reply)
}

// granted returns the resources that a manifest's ClusterRole, or a patch of one, lets CoreDNS list
// and watch.
func granted(t *testing.T, manifest string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "deploy", "kubernetes", manifest))
	if err != nil {
		t.Fatal(err)
	}
	type rule struct{ APIGroups, Resources []string }
	var resources []string
	for _, doc := range strings.Split(string(text), "\n---\n") {
		var role struct {
			Rules   []rule
			Patches []struct{ Patch string }
		}
		if err := yaml.Unmarshal([]byte(doc), &role); err != nil {
			t.Fatal(err)
		}
		for _, p := range role.Patches {
			var added []struct{ Value rule }
			if err := yaml.Unmarshal([]byte(p.Patch), &added); err != nil {
				t.Fatal(err)
			}
			role.Rules = append(role.Rules, added[0].Value)
		}
		for _, r := range role.Rules {
			for _, name := range r.Resources {
				resources = append(resources, strings.TrimPrefix(r.APIGroups[0]+"/"+name, "/"))
			}
		}
	}
	return resources
}

// withLocality returns a Corefile whose first bare stanza goes by the zones of nodes.
func withLocality(t *testing.T, corefile string) string {
	t.Helper()
	with := regexp.MustCompile(`(?m)^(\s+)balance$`).ReplaceAllString(corefile, "${1}balance {\n        locality kubernetes\n        prefer locality\n    }")
	if with == corefile {
		t.Fatalf("no bare stanza in\n%s", corefile)
	}
	return with
}

// The role grants what CoreDNS asks the API server for, and nothing that it does not.
func TestRoleIsWhatCoreDNSAsksFor(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "deploy", "kubernetes", "config", "Corefile"))
	if err != nil {
		t.Fatal(err)
	}
	base := granted(t, "base/rbac.yaml")
	verified := append(granted(t, "components/pods-verified/kustomization.yaml"), base...)
	for _, test := range []struct {
		name, corefile string
		want           []string
	}{
		{"default", string(text), base},
		{"pods verified", strings.Replace(string(text), "pods insecure", "pods verified", 1), verified},
		{"locality", withLocality(t, string(text)), append(granted(t, "components/locality/kustomization.yaml"), base...)},
	} {
		t.Run(test.name, func(t *testing.T) {
			slices.Sort(test.want)
			api := newCluster(t)
			serveInCluster(t, test.corefile, api, resolverOfTheNode(t))
			eventually(t, fmt.Sprintf("asked for %v", test.want), func() bool { return slices.Equal(api.resources(), test.want) })
		})
	}
}
