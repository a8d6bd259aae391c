// SPDX-License-Identifier: Apache-2.0

package observability

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/teststorage"
	"go.yaml.in/yaml/v3"

	"github.com/seed-f1518d44/balance/internal/testserver"
)

const (
	rulesFile     = "../../deploy/observability/rules.yaml"
	dashboardFile = "../../deploy/observability/dashboard.json"
	document      = "../../docs/observability.md"
)

// quiet is a log that nobody reads.
var quiet = slog.New(slog.DiscardHandler)

// promql has no experimental features, as in most installations.
var plainParser = parser.NewParser(parser.Options{})

func loadRules(t *testing.T) []rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile(rulesFile, false, model.LegacyValidation, plainParser, quiet)
	for _, err := range errs {
		t.Fatal(err)
	}
	var all []rulefmt.Rule
	for _, g := range groups.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// Every alert says how bad it is, for how long it must hold, what it means and what to do.
func TestRulesAreWhole(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range loadRules(t) {
		if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) || r.For == 0 || !strings.HasPrefix(r.Alert, "Balance") {
			t.Errorf("%s has severity %q and for %v, want critical, warning or info, and some time", r.Alert, r.Labels["severity"], r.For)
		}
		for _, name := range []string{"summary", "description", "runbook"} {
			if r.Annotations[name] == "" {
				t.Errorf("%s has no %s", r.Alert, name)
			}
		}
		if !strings.HasSuffix(r.Annotations["runbook_url"], "/docs/observability.md#"+strings.ToLower(r.Alert)) {
			t.Errorf("%s: runbook_url is %s", r.Alert, r.Annotations["runbook_url"])
		}
		if !strings.Contains(string(text), "\n### "+r.Alert+"\n") {
			t.Errorf("%s has no section in %s", r.Alert, document)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^### (Balance\w+)$`).FindAllStringSubmatch(string(text), -1) {
		if !slices.ContainsFunc(loadRules(t), func(r rulefmt.Rule) bool { return r.Alert == m[1] }) {
			t.Errorf("%s describes %s, which is no alert", document, m[1])
		}
	}
}

// The operator's resource has the same rules.
func TestPrometheusRule(t *testing.T) {
	var resource struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   map[string]any
		Spec       map[string]any
	}
	var plain map[string]any
	for path, to := range map[string]any{"../../deploy/observability/prometheusrule.yaml": &resource, rulesFile: &plain} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, to); err != nil {
			t.Fatal(err)
		}
	}
	if resource.APIVersion != "monitoring.coreos.com/v1" || resource.Kind != "PrometheusRule" || resource.Metadata["name"] == nil {
		t.Errorf("it is a %s of %s named %v", resource.Kind, resource.APIVersion, resource.Metadata["name"])
	}
	if diff := cmp.Diff(plain, resource.Spec); diff != "" {
		t.Errorf("its groups differ: %s", diff)
	}
}

// alerts evaluates the rules once a minute and returns those that fire, by minute: their names and
// the labels that tell them apart.
func alerts(t *testing.T, series storage.Queryable, minutes int) []map[string]bool {
	t.Helper()
	engine := promqltest.NewTestEngineWithOpts(t, promql.EngineOpts{MaxSamples: 1e6, Timeout: testserver.Patience, EnableAtModifier: true})
	state := teststorage.New(t) // what evaluation writes
	manager := rules.NewManager(&rules.ManagerOptions{
		QueryFunc: rules.EngineQueryFunc(engine, series), AppendableV2: state, Queryable: state,
		Context: t.Context(), NotifyFunc: func(context.Context, string, ...*rules.Alert) {}, Logger: quiet,
		Parser: plainParser, NameValidationScheme: model.LegacyValidation,
	})
	groups, errs := manager.LoadGroups(time.Minute, labels.EmptyLabels(), "", nil, false, rulesFile)
	for _, err := range errs {
		t.Fatal(err)
	}
	var firing []map[string]bool
	for m := range minutes {
		now := map[string]bool{}
		for _, g := range groups {
			g.Eval(t.Context(), at(m))
			for _, rule := range g.AlertingRules() {
				if rule.LastError() != nil {
					t.Fatalf("%s: %v", rule.Name(), rule.LastError())
				}
				for _, a := range rule.ActiveAlerts() {
					if a.State == rules.StateFiring {
						now[nameOf(rule.Name(), a.Labels)] = true
					}
				}
			}
		}
		firing = append(firing, now)
	}
	return firing
}

// nameOf tells alerts apart: by their zone or fleet, and what else there is.
func nameOf(alert string, l labels.Labels) string {
	words := []string{alert}
	for _, label := range []string{"zone", "fleet", "endpoint", "override"} {
		if v := l.Get(label); v != "" {
			words = append(words, strings.TrimSuffix(strings.Fields(v)[0], ".example.org."))
		}
	}
	return strings.Join(words, " ")
}

// at returns a minute of the time that is played.
func at(minute int) time.Time { return time.Unix(0, 0).UTC().Add(time.Duration(minute) * time.Minute) }

// play writes a recording into a storage, with the marks that Prometheus leaves at the end of a
// series.
func (r *recording) play() storage.Queryable {
	r.t.Helper()
	s := teststorage.New(r.t)
	before := scrape{}
	for m, now := range r.scrapes {
		a := s.Appender(r.t.Context())
		for _, series := range slices.Sorted(maps.Keys(now)) {
			r.append(a, series, m, now[series])
		}
		for series := range before {
			if _, there := now[series]; !there {
				r.append(a, series, m, staleMark)
			}
		}
		if err := a.Commit(); err != nil {
			r.t.Fatal(err)
		}
		before = now
	}
	return s
}

func (r *recording) append(a storage.Appender, series string, minute int, v float64) {
	r.t.Helper()
	l, err := plainParser.ParseMetric(series)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := a.Append(0, l, at(minute).UnixMilli(), v); err != nil {
		r.t.Fatal(err)
	}
}

// The alerts that fire on a real server's series while its backends die and come back, and no
// others.
func TestAlertsOfARecording(t *testing.T) {
	r, overrides := record(t)
	type moment struct {
		name   string
		minute int
		want   []string
	}
	var moments []moment
	// One zone has backends that never answer, all the time, and cannot keep up with its probes.
	always := []string{"BalanceProbesLate slow", "BalanceFailingOpen slow", "BalanceAllEndpointsDown slow", "BalanceAllEndpointsFailing slow"}
	expect := func(name string, want ...string) {
		moments = append(moments, moment{name, r.minute(), append(want, always...)})
	}

	r.scrape()
	r.until(3, "coredns_balance_endpoints", `state="up"`, `zone="example.org."`)
	r.until(3, "coredns_balance_endpoints", `state="down"`, `zone="slow.example.org."`)
	r.many(40)
	expect("all is well")

	r.kill(up[1])
	r.until(0, "coredns_balance_endpoint_up", up[1], `zone="example.org."`)
	r.many(30)
	expect("one is down for half an hour")
	r.many(32)
	expect("one is down for an hour", "BalanceEndpointDown example.org. 127.3.0.2")

	r.kill(up[0], up[2])
	r.until(3, "coredns_balance_endpoints", `state="down"`, `zone="example.org."`)
	r.many(5)
	expect("all are down", "BalanceEndpointDown example.org. 127.3.0.2", "BalanceFailingOpen example.org.", "BalanceAllEndpointsDown example.org.", "BalanceAllEndpointsFailing example.org.")

	r.revive(up...)
	r.until(3, "coredns_balance_endpoints", `state="up"`, `zone="example.org."`)
	r.many(10)
	expect("all are back")

	testserver.Write(t, overrides, "192.0.2.1 sideways\n")
	r.until(0, "coredns_balance_file_good")
	r.many(7)
	expect("the overrides file is bad", "BalanceFileBad example.org.")
	testserver.Write(t, overrides, "192.0.2.1 drain\n")
	r.until(1, "coredns_balance_overrides", `override="drain"`)
	r.many(2)
	expect("it is mended")

	if err := os.Remove(overrides); err != nil {
		t.Fatal(err)
	}
	r.until(1, "coredns_balance_file_missing")
	r.many(2)
	expect("the overrides file is deleted", "BalanceOverridesLifted example.org.")
	r.many(16)
	expect("it was deleted some time ago")

	for range 4 {
		r.kill(up[2])
		r.until(0, "coredns_balance_endpoint_up", up[2], `zone="example.org."`)
		r.revive(up[2])
		r.until(1, "coredns_balance_endpoint_up", up[2], `zone="example.org."`)
	}
	r.many(2)
	expect("one flaps", "BalanceEndpointFlapping example.org. 127.3.0.3")
	r.many(35)
	expect("it is steady again")

	series := r.play()
	firing := alerts(t, series, len(r.scrapes))
	for _, m := range moments {
		want := map[string]bool{}
		for _, name := range m.want {
			want[name] = true
		}
		got := maps.Clone(firing[m.minute])
		// A table with one place holds either of two endpoints, so alerts about both are accepted.
		// A busy machine may make probes late.
		maps.DeleteFunc(got, func(name string, _ bool) bool {
			return !want[name] && (strings.HasSuffix(name, " full") || strings.Contains(name, " full ") || strings.HasPrefix(name, "BalanceProbes") || strings.HasPrefix(name, "BalanceEndpointDown slow"))
		})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s, minute %d: alerts differ (- want, + got):\n%s", m.name, m.minute, diff)
		}
	}
	r.expressionsExist()
	r.panelsShow(series)
}

// Thresholds, on made-up series.
func TestAlertsAtTheirThresholds(t *testing.T) {
	const in = `{instance="a",job="coredns",zone="z.example.org."`
	line := func(name, labels, values string) string {
		return fmt.Sprintf("  coredns_balance_%s%s%s} %s\n", name, in, labels, values)
	}
	counted := func(result, values string) string {
		return line("responses_total", `,server="dns://:53",view="",result="`+result+`"`, values)
	}
	probes := func(result, values string) string {
		return line("probes_total", `,check="tcp:80",result="`+result+`"`, values)
	}
	states := func(up, down string) string {
		return line("endpoints", `,state="up"`, up) + line("endpoints", `,state="down"`, down) + line("endpoints", `,state="unknown"`, "0x2000")
	}
	verdict := func(instance, values string) string {
		return fmt.Sprintf("  coredns_balance_endpoint_up{instance=%q,job=\"coredns\",zone=\"z.example.org.\",endpoint=\"192.0.2.1 tcp:80\"} %s\n", instance, values)
	}
	members := func(instance, values string) string {
		return fmt.Sprintf("  coredns_balance_fleet_members{instance=%q,job=\"coredns\",fleet=\"f\"} %s\n", instance, values)
	}
	late := func(values string) string { return line("probes_late_total", `,check="tcp:80"`, values) }
	tests := []struct {
		name, load string
		minute     int
		alert      string
		want       bool
	}{
		{"failing open for two minutes", counted("fail_open", "0x9 1+1x10"), 12, "BalanceFailingOpen z", true},
		{"failing open for one", counted("fail_open", "0x9 1+1x10"), 10, "BalanceFailingOpen z", false},
		{"failing open no more for six", counted("fail_open", "0x9 1+1x10 11x20"), 27, "BalanceFailingOpen z", false},
		{"failed over for five minutes", counted("failed_over", "0x9 1+1x10"), 15, "BalanceFailedOver z", true},
		{"failed over for three", counted("failed_over", "0x9 1+1x10"), 13, "BalanceFailedOver z", false},
		{"a failback waits for an hour", line("failback_waiting", "", "1x90"), 60, "BalanceFailbackWaiting z", true},
		{"for 59 minutes", line("failback_waiting", "", "1x90"), 59, "BalanceFailbackWaiting z", false},
		{"other answers", counted("ordered", "0+100x20"), 20, "BalanceFailingOpen z", false},
		{"one endpoint, down", states("0x20", "1x20"), 2, "BalanceAllEndpointsDown z", true},
		{"none", states("0x20", "0x20"), 2, "BalanceAllEndpointsDown z", false},
		{"49 of 100 up", states("49x20", "51x20"), 6, "BalanceFewEndpointsUp z", true},
		{"49 of 100 up, a moment", states("49x20", "51x20"), 4, "BalanceFewEndpointsUp z", false},
		{"half of them up", states("50x20", "50x20"), 6, "BalanceFewEndpointsUp z", false},
		{"none up: another alert says so", states("0x20", "50x20"), 6, "BalanceFewEndpointsUp z", false},
		{"all failing", line("all_endpoints_failing", "", "1x9"), 2, "BalanceAllEndpointsFailing z", true},
		{"not all failing", line("all_endpoints_failing", "", "0x9"), 2, "BalanceAllEndpointsFailing z", false},
		{"down for an hour", verdict("a", "0x90"), 60, "BalanceEndpointDown z 192.0.2.1", true},
		{"down for 59 minutes", verdict("a", "0x90"), 59, "BalanceEndpointDown z 192.0.2.1", false},
		{"down for an hour, but up once", verdict("a", "0x30 1 0x50"), 70, "BalanceEndpointDown z 192.0.2.1", false},
		{"six changes in half an hour", verdict("a", "1x4 0x4 1x4 0x4 1x4 0x4 1x40"), 31, "BalanceEndpointFlapping z 192.0.2.1", true},
		{"five", verdict("a", "1x4 0x4 1x4 0x4 1x4 0x40"), 31, "BalanceEndpointFlapping z 192.0.2.1", false},
		{"seven verdicts a quarter for each endpoint", states("1x60", "0x60") + line("transitions_total", `,to="up"`, "0+0.25x60") + line("transitions_total", `,to="down"`, "0+0.25x60"), 30, "BalanceVerdictsUnsteady z", true},
		{"five for each", states("1x60", "0x60") + line("transitions_total", `,to="up"`, "0+0.16x60") + line("transitions_total", `,to="down"`, "0+0.16x60"), 30, "BalanceVerdictsUnsteady z", false},
		{"disagreement for ten minutes", verdict("a", "0x60") + verdict("b", "1x60"), 10, "BalanceReplicasDisagree z 192.0.2.1", true},
		{"for nine", verdict("a", "0x60") + verdict("b", "1x60"), 9, "BalanceReplicasDisagree z 192.0.2.1", false},
		{"agreement", verdict("a", "0x60") + verdict("b", "0x60"), 10, "BalanceReplicasDisagree z 192.0.2.1", false},
		{"replicas see three and two for five minutes", members("a", "3x60") + members("b", "2x60"), 5, "BalanceFleetSplit f", true},
		{"all see three", members("a", "3x60") + members("b", "3x60"), 20, "BalanceFleetSplit f", false},
		{"one of three is gone for five minutes", members("a", "3x60 2x60"), 66, "BalanceFleetReplicasMissing f", true},
		{"for an hour", members("a", "3x60 2x60"), 119, "BalanceFleetReplicasMissing f", false},
		{"alone for a minute", line("fleet_alone", `,fleet="f"`, "0x9 1 0x50"), 13, "BalanceFleetAlone z f", true},
		{"alone a while ago", line("fleet_alone", `,fleet="f"`, "0x9 1 0x50"), 17, "BalanceFleetAlone z f", false},
		{"not alone", line("fleet_alone", `,fleet="f"`, "0x60"), 20, "BalanceFleetAlone z f", false},
		{"votes differ for five minutes", line("fleet_disagreements", "", "2x60"), 5, "BalanceFleetDisagreement z", true},
		{"for four", line("fleet_disagreements", "", "2x60"), 4, "BalanceFleetDisagreement z", false},
		{"11 % of probes late", probes("success", "0+50x60") + probes("failure", "0+50x60") + late("0+11x60"), 30, "BalanceProbesLate z", true},
		{"9 % of probes late", probes("success", "0+50x60") + probes("failure", "0+50x60") + late("0+9x60"), 30, "BalanceProbesLate z", false},
		{"all late, for a moment", probes("success", "0+50x60") + late("0+50x60"), 9, "BalanceProbesLate z", false},
		{"11 % of probes not made", probes("success", "0+89x60") + probes("error", "0+11x60"), 30, "BalanceProbesNotMade z", true},
		{"9 % not made", probes("success", "0+91x60") + probes("error", "0+9x60"), 30, "BalanceProbesNotMade z", false},
		{"table full", line("probes_refused_total", `,reason="table_full"`, "0x9 1+1x20"), 17, "BalanceTableFull z", true},
		{"table full once", line("probes_refused_total", `,reason="table_full"`, "0x9 1x40"), 30, "BalanceTableFull z", false},
		{"outside allow", line("probes_refused_total", `,reason="not_allowed"`, "0x9 1+1x20"), 27, "BalanceProbesNotAllowed z", true},
		{"a table is not allow", line("probes_refused_total", `,reason="table_full"`, "0x9 1+1x20"), 27, "BalanceProbesNotAllowed z", false},
		{"file bad for five minutes", line("file_good", `,file="w"`, "0x20"), 5, "BalanceFileBad z", true},
		{"for four", line("file_good", `,file="w"`, "0x20"), 4, "BalanceFileBad z", false},
		{"file good", line("file_good", `,file="w"`, "1x20"), 20, "BalanceFileBad z", false},
		{"a certificate that expires in five days", line("tls_not_after_timestamp_seconds", `,file="c"`, "432000x90"), 80, "BalanceCertificateExpires z", true},
		{"in nine", line("tls_not_after_timestamp_seconds", `,file="c"`, "777600x90"), 80, "BalanceCertificateExpires z", false},
		{"overrides lifted", line("overrides_lifted_total", `,file="o"`, "0x9 2x40"), 12, "BalanceOverridesLifted z", true},
		{"half an hour ago", line("overrides_lifted_total", `,file="o"`, "0x9 2x40"), 40, "BalanceOverridesLifted z", false},
		{"never", line("overrides_lifted_total", `,file="o"`, "2x40"), 12, "BalanceOverridesLifted z", false},
		{"sealed for a quarter", counted("sealed", "0+1x60"), 20, "BalanceSealedWithDeadMembers z", true},
		{"sealed for ten minutes", counted("sealed", "0+1x60"), 10, "BalanceSealedWithDeadMembers z", false},
		{"an override for a day", line("overrides", `,override="drain"`, "1x1500"), 1440, "BalanceOverrideLeft z drain", true},
		{"for less", line("overrides", `,override="drain"`, "1x1500"), 1439, "BalanceOverrideLeft z drain", false},
		{"none", line("overrides", `,override="drain"`, "0x1500"), 1440, "BalanceOverrideLeft z drain", false},
	}
	both := map[string][2]bool{}
	for _, tc := range tests {
		firing := alerts(t, promqltest.LoadedStorage(t, "load 1m\n"+tc.load), tc.minute+1)
		if got := firing[tc.minute][tc.alert]; got != tc.want {
			t.Errorf("%s: %s fires %v, want %v; what does is %v", tc.name, tc.alert, got, tc.want, firing[tc.minute])
		}
		seen := both[strings.Fields(tc.alert)[0]]
		both[strings.Fields(tc.alert)[0]] = [2]bool{seen[0] || !tc.want, seen[1] || tc.want}
	}
	for _, r := range loadRules(t) {
		if both[r.Alert] != [2]bool{true, true} {
			t.Errorf("%s is not tried on both sides of its threshold", r.Alert)
		}
	}
}

// staleMark is what Prometheus writes at the end of a series.
var staleMark = float64FromBits(value.StaleNaN)
