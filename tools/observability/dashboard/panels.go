// SPDX-License-Identifier: Apache-2.0

package main

import "strings"

// chosen selects the series of a metric that the user chose, with more matchers.
func chosen(metric string, more ...string) string {
	matchers := append([]string{`job=~"$job"`, `instance=~"$instance"`, `zone=~"$zone"`}, more...)
	return "coredns_balance_" + metric + "{" + strings.Join(matchers, ", ") + "}"
}

// rate is the rate of a counter a second.
func rate(metric string, more ...string) string {
	return "rate(" + chosen(metric, more...) + "[$__rate_interval])"
}

func sum(by, expr string) string { return "sum by (" + by + ") (" + expr + ")" }

// goodIsGreen draws green for 1, which is good, and red for 0.
var goodIsGreen = []object{{"type": "value", "options": object{
	"0": object{"text": "down", "color": "red", "index": 0},
	"1": object{"text": "up", "color": "green", "index": 1},
}}}

// newDashboard returns all of it: what is wrong now, then answers, endpoints, probes, the fleet and
// files.
func newDashboard() dashboard {
	l := &layout{}
	l.row("Now")
	now(l)
	l.row("Answers")
	answers(l)
	l.row("Endpoints")
	endpoints(l)
	l.row("Probes")
	probes(l)
	l.row("Fleet")
	replicas(l)
	l.row("Rules, files and overrides")
	files(l)
	return dashboard{
		UID: "coredns-balance", Title: "CoreDNS balance", Tags: []string{"coredns", "dns", "balance"},
		Description: "What the CoreDNS plugin balance answers, what it leaves out, and why.",
		Timezone:    "browser", Editable: true, GraphTooltip: 1, Refresh: "30s", SchemaVersion: 39,
		Time: object{"from": "now-3h", "to": "now"},
		Annotations: object{"list": []object{{
			"name": "New down verdicts", "datasource": prometheus, "enable": false, "iconColor": "red",
			"expr": sum("zone", "increase("+chosen("transitions_total", `to="down"`)+"[$__rate_interval])") + " > 0", "titleFormat": "{{zone}}",
		}}},
		Templating: object{"list": []object{
			{
				"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1, "regex": "", "hide": 0,
				"current": object{"text": "default", "value": "default"}, "options": []object{}, "multi": false, "includeAll": false, "skipUrlSync": false,
			},
			variable("job", "Job", "coredns_balance_responses_total"),
			variable("instance", "Instance", `coredns_balance_responses_total{job=~"$job"}`),
			variable("zone", "Zone", `coredns_balance_responses_total{job=~"$job", instance=~"$instance"}`),
		}},
		Links:  []object{},
		Panels: l.panels,
	}
}

func now(l *layout) {
	l.add(4, 4, stat("Answers a second", "Answers that went through a rule.", "reqps", "", nil,
		instant("sum("+rate("responses_total")+")")))
	l.add(4, 4, stat("Failing open", "Rules that answer with dead members now because all are down.", "none", "red", 1,
		instant("count("+sum("instance, zone", rate("responses_total", `result="fail_open"`))+" > 0)")))
	l.add(4, 4, stat("Endpoints down", "Endpoints that are down, by instance and zone.", "none", "orange", 1,
		instant("sum("+chosen("endpoints", `state="down"`)+")")))
	l.add(4, 4, stat("All endpoints fail", "Rules whose last probe failed for every endpoint: the fault may be local.", "none", "red", 1,
		instant("sum("+chosen("all_endpoints_failing")+")")))
	l.add(4, 4, stat("Bad files", "Files that do not load. What they held before is in force.", "none", "orange", 1,
		instant("count("+chosen("file_good")+" == 0)")))
	l.add(4, 4, stat("Late probes", "Share of the probes that began more than a tenth of the interval late.", "percentunit", "orange", 0.1,
		instant("sum("+rate("probes_late_total")+") / sum("+rate("probes_total")+")")))
}

func answers(l *layout) {
	l.add(12, 8, series("Answers by result", "passed: unchanged. ordered: in another order. filtered: records removed or replaced. sealed: records stay because of a signature. failed_over: another tier than the first answers. fail_open: all members are down.", "reqps", true,
		query(sum("result", rate("responses_total")), "{{result}}")).
		coloured([2]string{"fail_open", "red"}, [2]string{"failed_over", "orange"}, [2]string{"sealed", "purple"}, [2]string{"filtered", "yellow"}, [2]string{"ordered", "green"}, [2]string{"passed", "gray"}))
	l.add(12, 8, series("Records removed by reason", "down: the verdict. drained: standby. tier: another tier answers. limit: the option answers.", "cps", true,
		query(sum("reason", rate("removed_records_total")), "{{reason}}")).
		coloured([2]string{"down", "red"}, [2]string{"drained", "yellow"}, [2]string{"tier", "blue"}, [2]string{"limit", "gray"}))
	l.add(12, 8, series("Answers by zone", "The zone is the rule's.", "reqps", false,
		query(sum("zone", rate("responses_total")), "{{zone}}")))
	l.add(12, 8, series("Share that fails open, by zone", "Of the answers that went through the rule.", "percentunit", false,
		query(sum("zone", rate("responses_total", `result="fail_open"`))+" / "+sum("zone", rate("responses_total")), "{{zone}}")))
}

func endpoints(l *layout) {
	timeline := &panel{
		Type: "state-timeline", Title: "Verdicts", Description: "By endpoint; the worst if instances disagree. Only endpoints that were down in the range, at most 50.", Datasource: prometheus,
		Targets: targets([]target{query("min by (zone, endpoint) ("+chosen("endpoint_up")+") and on (zone, endpoint) topk(50, min by (zone, endpoint) (min_over_time("+
			chosen("endpoint_up")+"[$__range] @ end())) == 0)", "{{zone}} {{endpoint}}")}),
		FieldConfig: object{"defaults": object{
			"mappings": goodIsGreen, "color": object{"mode": "thresholds"},
			"thresholds": object{"mode": "absolute", "steps": []object{{"color": "red", "value": nil}, {"color": "green", "value": 1}}},
			"custom":     object{"lineWidth": 0, "fillOpacity": 80},
		}, "overrides": []object{}},
		Options: object{
			"showValue": "never", "mergeValues": true, "alignValue": "left", "rowHeight": 0.9,
			"legend": object{"displayMode": "list", "placement": "bottom", "showLegend": false, "calcs": []string{}}, "tooltip": object{"mode": "single", "sort": "none"},
		},
	}
	l.add(24, 10, timeline)
	l.add(8, 8, series("Endpoints by verdict", "By instance and zone.", "none", true,
		query(sum("state", chosen("endpoints")), "{{state}}")).
		coloured([2]string{"up", "green"}, [2]string{"down", "red"}, [2]string{"unknown", "gray"}))
	l.add(8, 8, series("New verdicts", "A minute.", "none", false,
		query("60 * "+sum("zone, to", rate("transitions_total")), "{{zone}} {{to}}")))
	flapping := &panel{
		Type: "table", Title: "Most unsteady endpoints", Description: "Changes of verdict in the range that scrapes saw.", Datasource: prometheus,
		Targets:     targets([]target{table("topk(20, max by (zone, endpoint) (changes(" + chosen("endpoint_up") + "[$__range])) > 0)")}),
		FieldConfig: object{"defaults": object{"custom": object{"align": "auto", "filterable": false}}, "overrides": []object{}},
		Options:     object{"showHeader": true, "frameIndex": 0, "cellHeight": "sm", "sortBy": []object{{"displayName": "changes", "desc": true}}},
		Transformations: []object{{"id": "organize", "options": object{
			"excludeByName": object{"Time": true}, "renameByName": object{"Value": "changes"}, "indexByName": object{"zone": 0, "endpoint": 1, "Value": 2},
		}}},
	}
	l.add(8, 8, flapping)
	l.add(8, 8, series("Held back", "ramping: members in a slow start. suppressed: endpoints that damp is to keep out. waiting: RRsets whose earlier tier could serve again.", "none", false,
		query(sum("zone", chosen("ramping")), "{{zone}} ramping"),
		query(sum("zone", chosen("suppressed")), "{{zone}} suppressed"),
		query(sum("zone", chosen("failback_waiting")), "{{zone}} waiting")))
	l.add(8, 8, series("Load reports by result", "Of the checks of rules with load_weights. missing: the check passed without one.", "cps", true,
		query(sum("result", rate("load_reports_total")), "{{result}}")).
		coloured([2]string{"valid", "green"}, [2]string{"invalid", "red"}, [2]string{"missing", "gray"}))
}

func probes(l *layout) {
	l.add(8, 8, series("Probes by result", "error: a local error, no verdict.", "cps", true,
		query(sum("result", rate("probes_total")), "{{result}}")).
		coloured([2]string{"success", "green"}, [2]string{"failure", "red"}, [2]string{"error", "purple"}))
	quantile := func(q string) target {
		return query("histogram_quantile("+q+", "+sum("le", rate("probe_duration_seconds_bucket"))+")", "p"+strings.TrimPrefix(q, "0."))
	}
	l.add(8, 8, series("Time that a probe takes", "Rough: buckets are a factor of four apart.", "s", false, quantile("0.5"), quantile("0.9"), quantile("0.99")))
	l.add(8, 8, series("Share of late probes", "Probes that began more than a tenth of the interval late.", "percentunit", false,
		query(sum("zone, check", rate("probes_late_total"))+" / "+sum("zone, check", rate("probes_total")), "{{zone}} {{check}}")))
	l.add(8, 8, series("Mean time of a probe, by check", "", "s", false,
		query(sum("check", rate("probe_duration_seconds_sum"))+" / "+sum("check", rate("probe_duration_seconds_count")), "{{check}}")))
	l.add(8, 8, series("Held connections", "held: idle connections to endpoints that are up. ended: by the endpoint, a minute; it is then probed at once. not opened: because of a local error, a minute.", "none", false,
		query(sum("zone", chosen("held_connections")), "{{zone}} held"),
		query("60 * "+sum("zone", rate("hints_total")), "{{zone}} ended"),
		query("60 * "+sum("zone", rate("hold_errors_total")), "{{zone}} not opened")))
	l.add(8, 8, series("Addresses that are not probed", "Look-ups a minute. not_allowed: outside allow. table_full: more than max_endpoints.", "none", false,
		query("60 * "+sum("zone, reason", rate("probes_refused_total")), "{{zone}} {{reason}}")))
}

// replicas draws what a fleet knows about itself. Its own metrics have no zone.
func replicas(l *layout) {
	ofFleet := func(metric string) string {
		return "coredns_balance_" + metric + `{job=~"$job", instance=~"$instance"}`
	}
	l.add(8, 7, series("Live replicas", "As each replica sees it: lines that part are a split. Alone: it goes by its own probes.", "none", false,
		query("max by (fleet, instance) ("+ofFleet("fleet_members")+")", "{{fleet}} {{instance}}"),
		query(sum("fleet", ofFleet("fleet_alone")), "{{fleet}} alone")))
	l.add(8, 7, series("Votes", "Valid votes on endpoints, as one replica holds them, and endpoints that they differ on.", "none", false,
		query("max by (zone, verdict) ("+chosen("fleet_votes")+")", "{{zone}} {{verdict}}"),
		query("max by (zone) ("+chosen("fleet_disagreements")+")", "{{zone}} disagree")))
	l.add(8, 7, series("Traffic about votes", "Without that about membership, before encryption.", "Bps", false,
		query(sum("fleet, direction", "rate("+ofFleet("fleet_bytes_total")+"[$__rate_interval])"), "{{fleet}} {{direction}}"),
		query(sum("fleet, direction", "rate("+ofFleet("fleet_messages_total")+"[$__rate_interval])"), "{{fleet}} {{direction}}, messages")))
}

func files(l *layout) {
	l.add(8, 7, series("Age of files", "Time since a file was last read and found good. Files that are read once grow old.", "s", false,
		query("time() - max by (zone, file) ("+chosen("file_last_success_timestamp_seconds")+")", "{{zone}} {{file}}")))
	l.add(8, 7, series("Files that turned bad", "In an hour.", "none", false,
		query(sum("zone, file", "increase("+chosen("file_reload_failures_total")+"[1h])"), "{{zone}} {{file}}")))
	l.add(8, 7, series("Overrides in force", "Lines; the highest of all instances. Lifted: overrides whose file was deleted or emptied, in an hour. Missing: instances without the file.", "none", false,
		query("max by (zone, override) ("+chosen("overrides")+")", "{{zone}} {{override}}"),
		query(sum("zone, file", "increase("+chosen("overrides_lifted_total")+"[1h])")+" > 0", "{{zone}} {{file}} lifted"),
		query(sum("zone, file", chosen("file_missing"))+" > 0", "{{zone}} {{file}} missing")))
	l.add(24, 6, &panel{
		Type: "table", Title: "Rules", Description: "Rules, and how many instances have them. A rule that only observes is counted as if it acted.", Datasource: prometheus,
		Targets:     targets([]target{table("count by (zone, policy, observe) (" + chosen("rule_info") + ")")}),
		FieldConfig: object{"defaults": object{"custom": object{"align": "auto", "filterable": false}}, "overrides": []object{}},
		Options:     object{"showHeader": true, "frameIndex": 0, "cellHeight": "sm"},
		Transformations: []object{{"id": "organize", "options": object{
			"excludeByName": object{"Time": true}, "renameByName": object{"Value": "instances"}, "indexByName": object{"zone": 0, "policy": 1, "observe": 2, "Value": 3},
		}}},
	})
}
