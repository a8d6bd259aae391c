// SPDX-License-Identifier: Apache-2.0

package observability

import (
	"encoding/json"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"

	"github.com/seed-f1518d44/balance/internal/testserver"
)

func float64FromBits(bits uint64) float64 { return math.Float64frombits(bits) }

// targetLabels are those that a scrape adds.
var targetLabels = []string{"instance", "job"}

// openLabels are those whose values depend on the Corefile.
var openLabels = append([]string{"zone", "view", "server", "check", "file", "endpoint", "le", "policy", "observe", "fleet"}, targetLabels...)

// expressionsExist fails the test unless the recording has every metric, label and label value that
// the rules and the dashboard name.
func (r *recording) expressionsExist() {
	r.t.Helper()
	expressions := dashboardExpressions(r)
	for _, rule := range loadRules(r.t) {
		expressions[rule.Alert] = append(expressions[rule.Alert], rule.Expr)
	}
	used := map[string]bool{}
	for where, all := range expressions {
		for _, text := range all {
			expr, err := plainParser.ParseExpr(filled(text))
			if err != nil {
				r.t.Errorf("%s: %v in %s", where, err, text)
				continue
			}
			parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
				switch node := node.(type) {
				case *parser.VectorSelector:
					used[r.selectorExists(where, node)] = true
				case *parser.AggregateExpr:
					r.labelsExist(where, node.Grouping)
				case *parser.BinaryExpr:
					if node.VectorMatching != nil {
						r.labelsExist(where, append(slices.Clone(node.VectorMatching.MatchingLabels), node.VectorMatching.Include...))
					}
				}
				return nil
			})
		}
	}
	for name := range r.families {
		if !used[name] {
			r.t.Errorf("%s is in no rule and no panel", name)
		}
	}
}

// panelsShow fails the test unless every query of the dashboard finds something in the recording.
func (r *recording) panelsShow(series storage.Queryable) {
	r.t.Helper()
	engine := promqltest.NewTestEngineWithOpts(r.t, promql.EngineOpts{MaxSamples: 1e6, Timeout: testserver.Patience, EnableAtModifier: true})
	for where, all := range dashboardExpressions(r) {
		for _, text := range all {
			if slices.ContainsFunc(notRecorded, func(metric string) bool { return strings.Contains(text, metric) }) {
				continue
			}
			query, err := engine.NewRangeQuery(r.t.Context(), series, nil, filled(text), at(0), at(r.minute()), time.Minute)
			if err != nil {
				r.t.Fatalf("%s: %v", where, err)
			}
			found, err := query.Exec(r.t.Context()).Matrix()
			if err != nil || len(found) == 0 {
				r.t.Errorf("%s: %d series and error %v in all the recording for %s", where, len(found), err, text)
			}
			query.Close()
		}
	}
}

// notRecorded are metrics of options that no rule of the recording has. Tests in test/ see them.
var notRecorded = []string{"coredns_balance_load_reports_total", "coredns_balance_tls_not_after_timestamp_seconds"}

// selectorExists checks a selector, and returns the family that it is of.
func (r *recording) selectorExists(where string, s *parser.VectorSelector) string {
	r.t.Helper()
	if s.Name == "ALERTS" || slices.Contains(notRecorded, s.Name) {
		return ""
	}
	family := r.families[s.Name]
	if family == nil {
		base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(s.Name, "")
		if family = r.families[base]; family == nil || family.GetType() != dto.MetricType_HISTOGRAM {
			r.t.Errorf("%s: there is no metric %s", where, s.Name)
			return ""
		}
	}
	for _, m := range s.LabelMatchers {
		if m.Name == model.MetricNameLabel || slices.Contains(targetLabels, m.Name) {
			continue
		}
		values := valuesOf(family, m.Name)
		switch {
		case len(values) == 0:
			r.t.Errorf("%s: %s has no label %s", where, s.Name, m.Name)
		case slices.Contains(openLabels, m.Name):
		case !slices.ContainsFunc(values, m.Matches):
			r.t.Errorf("%s: %s of %s matches none of %q", where, m, s.Name, values)
		case m.Type == labels.MatchRegexp || m.Type == labels.MatchNotRegexp:
			for _, v := range strings.Split(m.Value, "|") {
				if v != ".*" && !slices.Contains(values, v) {
					r.t.Errorf("%s: %s has no %s=%q, only %q", where, s.Name, m.Name, v, values)
				}
			}
		}
	}
	return family.GetName()
}

func valuesOf(family *dto.MetricFamily, label string) (values []string) {
	for _, m := range family.GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == label {
				values = append(values, l.GetValue())
			}
		}
	}
	return values
}

// labelsExist checks the labels of by, without, on, ignoring and group_left.
func (r *recording) labelsExist(where string, names []string) {
	r.t.Helper()
	for _, name := range names {
		known := slices.Contains(openLabels, name) || name == "alertname" || name == "severity"
		for _, family := range r.families {
			known = known || len(valuesOf(family, name)) > 0
		}
		if !known {
			r.t.Errorf("%s: no metric has a label %s", where, name)
		}
	}
}

// filled replaces Grafana's variables by what stands for them.
func filled(expr string) string {
	return strings.NewReplacer("$__rate_interval", "5m", "$__range", "1h", "$zone", ".*", "$instance", ".*", "$job", ".*").Replace(expr)
}

// dashboardExpressions returns what panels and variables ask Prometheus for.
func dashboardExpressions(r *recording) map[string][]string {
	r.t.Helper()
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		r.t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Annotations struct {
			List []struct{ Name, Expr string }
		}
		Templating struct {
			List []struct {
				Name  string
				Query any
			}
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		r.t.Fatal(err)
	}
	found := map[string][]string{}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			found["panel "+p.Title] = append(found["panel "+p.Title], target.Expr)
		}
	}
	for _, a := range d.Annotations.List {
		found["annotation "+a.Name] = []string{a.Expr}
	}
	for _, v := range d.Templating.List {
		query, ok := v.Query.(map[string]any)
		if !ok {
			continue
		}
		m := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`).FindStringSubmatch(query["query"].(string))
		if m == nil {
			r.t.Errorf("variable %s: query is %q, want label_values", v.Name, query)
			continue
		}
		found["variable "+v.Name] = []string{"sum by (" + m[2] + ") (" + m[1] + ")"}
	}
	return found
}
