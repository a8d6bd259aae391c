// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/core/dnsserver"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-f1518d44/balance/internal/cidr"
	"github.com/seed-f1518d44/balance/internal/failback"
	"github.com/seed-f1518d44/balance/internal/fleet/gossip"
	"github.com/seed-f1518d44/balance/internal/golden"
)

// Every file in testdata/corefile holds what stands in a server block, a line of dashes, and what
// becomes of it: the rules or the error. A first line "block KEY..." names the block's keys, which
// are "dns://.:53" otherwise. A new case needs no Go.
func TestCorefile(t *testing.T) { golden.Check(t, "testdata/corefile/*.txt", parsed) }

// An error in an imported file names that file, even if its line has the number of the one where
// the block ends; an error in a snippet names the line of the snippet.
func TestErrorsInImportedFiles(t *testing.T) {
	dir := t.TempDir()
	imported := filepath.Join(dir, "check.conf")
	writeFile(t, imported, "allow 10.0.0.0/8\n\n\n\nbody x\n")
	for _, tc := range []struct{ block, want string }{
		{"\n\nimport check.conf\n}", imported + `:5: body: not for tcp: want it with http or https`},
		{"\nimport check.conf\n}", imported + `:5: body: not for tcp: want it with http or https`},
		{"\nimport wrong\n}", `Corefile:2: body: not for tcp: want it with http or https`},
		{"\nbody x\nimport check.conf\n}", `Corefile:7: body: not for tcp: want it with http or https`},
	} {
		corefile := filepath.Join(dir, "Corefile")
		writeFile(t, corefile, "(wrong) {\nbody x\n}\n.:53 {\nbalance {\nhealth_check tcp 80 {"+tc.block+"\n}\n}\n")
		content, err := os.Open(corefile)
		if err != nil {
			t.Fatal(err)
		}
		blocks, err := caddyfile.Parse(corefile, content, []string{"balance"})
		content.Close()
		if err != nil {
			t.Fatal(err)
		}
		c := caddy.NewTestController("dns", "")
		c.ServerBlockKeys, c.Dispenser = []string{"dns://.:53"}, caddyfile.NewDispenserTokens("Corefile", blocks[0].Tokens["balance"])
		if _, err := parse(c); err == nil || err.Error() != tc.want {
			t.Errorf("%q: got  %v\nwant %s", tc.block, err, tc.want)
		}
	}
}

// parsedRule returns the rule that a stanza becomes.
func parsedRule(t *testing.T, stanza string) *rule {
	t.Helper()
	c := caddy.NewTestController("dns", stanza)
	c.ServerBlockKeys = []string{"dns://.:53"}
	stanzas, err := parse(c)
	if err != nil || len(stanzas) != 1 {
		t.Fatalf("%d stanzas, %v", len(stanzas), err)
	}
	return stanzas[0]
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// parsed returns what becomes of a golden file's input.
func parsed(input string) string {
	keys := []string{"dns://.:53"}
	if line, rest, _ := strings.Cut(input, "\n"); strings.HasPrefix(line, "block ") {
		keys, input = strings.Fields(line)[1:], "\n"+rest
	}
	c := caddy.NewTestController("dns", input)
	c.ServerBlockKeys = keys
	stanzas, err := parse(c)
	if err == nil {
		err = fleetIn(c).problem()
	}
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	return described(stanzas)
}

// described writes rules and the warnings about them.
func described(stanzas []*rule) string {
	var b strings.Builder
	for _, r := range stanzas {
		b.WriteString(describe(r))
		for _, warning := range r.warnings {
			b.WriteString("warning: " + warning + "\n")
		}
	}
	return b.String()
}

// describe writes a rule as the stanza that says all of it.
func describe(r *rule) string {
	var b strings.Builder
	fmt.Fprintf(&b, "balance %s {\n    policy %s%s\n", strings.Join(r.zones, " "), r.policy.name, lengths(r))
	for _, w := range r.weights.Lines() {
		fmt.Fprintf(&b, "    weight %s %d\n", cidr.Word(w.Targets), w.Weight)
	}
	if r.file != nil {
		fmt.Fprintf(&b, "    weights %s %s\n", r.file.Path, r.file.Every)
	}
	if r.loads.given() {
		fmt.Fprintf(&b, "    load_weights %d%%\n", r.loads.floor)
	}
	if len(r.ecs) > 0 {
		fmt.Fprintf(&b, "    ecs %s\n", prefixes(r.ecs))
	}
	if r.overrides != nil {
		fmt.Fprintf(&b, "    overrides %s %s\n", r.overrides.Path, r.overrides.Every)
	}
	if l := r.localities; l != nil {
		for _, place := range l.ranges {
			fmt.Fprintf(&b, "    locality %s %s\n", place.Locality, place.Prefix)
		}
		if l.cluster != nil {
			fmt.Fprintf(&b, "    locality kubernetes (%s)\n", l.cluster)
		}
	}
	for _, p := range r.prefer {
		if p.near != nil {
			fmt.Fprintf(&b, "    prefer locality %+v\n", *p.near)
			continue
		}
		fmt.Fprintf(&b, "    prefer %s", prefixes(p.targets))
		if len(p.from) > 0 {
			fmt.Fprintf(&b, " from %s", prefixes(p.from))
		}
		if p.when != nil {
			fmt.Fprintf(&b, " when %s", p.when.text)
		}
		b.WriteString("\n")
	}
	for _, tier := range r.tiers {
		fmt.Fprintf(&b, "    tier %s\n", prefixes(tier))
	}
	if r.failback != (failback.Policy{}) {
		fmt.Fprintf(&b, "    failback %+v\n", r.failback)
	}
	if r.slowStart > 0 {
		fmt.Fprintf(&b, "    slow_start %s\n", r.slowStart)
	}
	if r.damp > 0 {
		fmt.Fprintf(&b, "    damp %s\n", r.damp)
	}
	if r.minHealthy != (quorum{count: 1}) {
		fmt.Fprintf(&b, "    min_healthy %+v\n", r.minHealthy)
	}
	if r.require != 0 {
		fmt.Fprintf(&b, "    require %d\n", r.require)
	}
	if r.allDown.mode != answerOpen {
		fmt.Fprintf(&b, "    all_down %s %v\n", allDownNames[r.allDown.mode], r.allDown.fallback)
	}
	for _, c := range r.checks {
		fmt.Fprintf(&b, "    health_check %s\n        allow %s\n        watch %s\n        %+v\n        max_endpoints %d max_in_flight %d\n        key %s\n",
			c.Name(), prefixes(c.allow), strings.Join(c.watch, " "), c.Timing, c.MaxEndpoints, c.MaxInFlight, c.Key())
		if c.ports != nil {
			fmt.Fprintf(&b, "        ports %v\n", c.ports)
		}
		if c.Hold != nil {
			b.WriteString("        hold\n")
		}
	}
	if r.fleet != nil {
		b.WriteString(describeFleet(r.fleet.block))
	}
	if r.shown() {
		fmt.Fprintf(&b, "    status %s\n", r.status)
	}
	if r.observe {
		b.WriteString("    observe\n")
	}
	if r.fits {
		fmt.Fprintf(&b, "    answers fit\n")
	}
	if r.answers > 0 {
		fmt.Fprintf(&b, "    answers %d\n", r.answers)
	}
	if r.ttl.limited {
		fmt.Fprintf(&b, "    ttl %d %d\n", r.ttl.max, r.ttl.degraded)
	} else {
		b.WriteString("    ttl keep\n")
	}
	return b.String() + "}\n"
}

// describeFleet writes the block that says all of a fleet, if there is one.
func describeFleet(f *fleetBlock) string {
	if f == nil {
		return "    fleet\n"
	}
	keys := 0
	if f.keys != nil {
		keys = len(*f.keys.keys.Load())
	}
	return fmt.Sprintf("    fleet %s\n        join %v\n        listen %s\n        advertise %s\n        %d keys %q\n        locality %q\n        probers %d\n        quorum %d\n",
		f.name, f.join, gossip.ListenText(f.listen), f.advertise, keys, f.keyPath, f.locality, f.probers, f.quorum)
}

func prefixes(list []netip.Prefix) string {
	var words []string
	for _, p := range list {
		words = append(words, p.String())
	}
	return strings.Join(words, " ")
}

func TestListenersOf(t *testing.T) {
	tests := []struct {
		a, b []string
		same bool
	}{
		{[]string{"dns://example.org.:53"}, []string{"dns://example.net.:53"}, true},
		{[]string{"dns://a.:53", "dns://b.:53"}, []string{"dns://b.:53"}, true},
		{[]string{"dns://a.:53", "tls://a.:853"}, []string{"tls://a.:853", "dns://a.:53"}, true},
		{[]string{"dns://a.:53"}, []string{"dns://a.:1053"}, false},
		{[]string{"dns://a.:853"}, []string{"tls://a.:853"}, false},
	}
	for _, tc := range tests {
		config := &dnsserver.Config{ListenHosts: []string{""}}
		if a, b := listenersOf(config, tc.a), listenersOf(config, tc.b); (a == b) != tc.same {
			t.Errorf("listenersOf(%q) = %s, listenersOf(%q) = %s: same %v, want %v", tc.a, a, tc.b, b, a == b, tc.same)
		}
	}
}

func lengths(r *rule) string {
	if !r.policy.byClient {
		return ""
	}
	return fmt.Sprintf(" %d %d", r.sticky.v4, r.sticky.v6)
}

// README.md shows every option and protocol as the tables have it, every word of a health_check, no
// other, and says something of each.
func TestReadmeHasEveryWord(t *testing.T) {
	content, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(content)
	var usages, protocolUsages []string
	for _, o := range options {
		if o.name != "reload" { // for those who move from loadbalance
			usages = append(usages, strings.TrimSpace(o.name+" "+o.usage))
		}
	}
	for name, p := range protocols {
		protocolUsages = append(protocolUsages, strings.Join(strings.Fields("health_check "+name+" "+p.usage+" { ... }"), " "))
	}
	whole := func(line string) string { return strings.TrimSpace(line) }
	firstWord := func(line string) string { return strings.Fields(line)[0] }
	for name, tc := range map[string]struct {
		begin, end string // of the lines that show the syntax
		part       func(line string) string
		want       []string
	}{
		"options":      {"balance [ZONES...] {\n", "}\n~~~", whole, usages},
		"protocols":    {"### Health checks\n\n~~~ txt\n", "~~~", whole, protocolUsages},
		"health_check": {"Options in the block; `allow` is required:\n\n~~~ txt\n", "~~~", firstWord, optionNames(checkOptions)},
	} {
		_, syntax, _ := strings.Cut(readme, tc.begin)
		syntax, _, _ = strings.Cut(syntax, tc.end)
		var got []string
		for line := range strings.Lines(syntax) {
			got = append(got, tc.part(line))
		}
		slices.Sort(got)
		slices.Sort(tc.want)
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-code +README.md):\n%s", name, diff)
		}
	}
	for _, word := range slices.Concat(optionNames(options), protocolNames(), optionNames(checkOptions), policyNames(false), allDownNames[:]) {
		if !strings.Contains(readme, "`"+word+"`") {
			t.Errorf("README.md says nothing of `%s`", word)
		}
	}
}
