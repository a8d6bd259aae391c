// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"net/http"
	"strings"
	"testing"

	"github.com/seed-f1518d44/balance/internal/load"
)

func TestLoadHeader(t *testing.T) {
	const want = ": want one from 0 to 10, where 1 is fully busy"
	for _, tc := range []struct {
		header string
		value  float64
		bad    string
	}{
		{"TEXT cpu_utilization=0.3", 0.3, ""},
		{"TEXT cpu_utilization=0.3,mem_utilization=0.8,application_utilization=0.5,rps_fractional=10,named_metrics.queue=7", 0.5, ""},
		{"TEXT cpu_utilization:0.3, application_utilization: 1.5", 1.5, ""},
		{"TEXT application_utilization=0,cpu_utilization=0.3", 0.3, ""},
		{"TEXT application_utilization=0", 0, ""},
		{"TEXT cpu_utilization=1e-3", 0.001, ""},
		{`JSON {"cpu_utilization": 0.3}`, 0.3, ""},
		{`JSON {"cpu_utilization": 0.3, "application_utilization": 0.5, "named_metrics": {"queue": 7}, "eps": 1}`, 0.5, ""},
		{`JSON {"cpuUtilization": 0.3, "applicationUtilization": 0.5}`, 0.5, ""},
		{`  JSON {"cpu_utilization": 1}  `, 1, ""},

		{"", 0, `format "": want TEXT or JSON`},
		{"TEXT", 0, "neither application_utilization nor cpu_utilization"},
		{"TEXT mem_utilization=0.3", 0, "neither application_utilization nor cpu_utilization"},
		{"JSON {}", 0, "neither application_utilization nor cpu_utilization"},
		{"cpu_utilization=0.3", 0, `format "cpu_utilization=0.3": want TEXT or JSON`},
		{"BIN CQAAAAAAAOA/", 0, `format "BIN": want TEXT or JSON`},
		{"text cpu_utilization=0.3", 0, `format "text": want TEXT or JSON`},
		{"TEXT cpu_utilization", 0, "cpu_utilization: not a number"},
		{"TEXT cpu_utilization=30%", 0, "cpu_utilization: not a number"},
		{"TEXT cpu_utilization=0.3,cpu_utilization=0.4", 0, "cpu_utilization: given twice"},
		{"TEXT cpu_utilization=57", 0, "a utilisation of 57" + want},
		{"TEXT cpu_utilization=-0.1", 0, "a utilisation of -0.1" + want},
		{"TEXT cpu_utilization=NaN", 0, "a utilisation of NaN" + want},
		{"TEXT cpu_utilization=Inf", 0, "a utilisation of +Inf" + want},
		{"TEXT application_utilization=0.5,cpu_utilization=NaN", 0, "a utilisation of NaN" + want},
		{`JSON {"cpu_utilization": "0.3"}`, 0, "not the JSON of a report"},
		{`JSON {"cpu_utilization": 0.3`, 0, "not the JSON of a report"},
		{`JSON [0.3]`, 0, "not the JSON of a report"},
		{"TEXT named_metrics.x=1" + strings.Repeat(" ", maxLoadHeader), 0, "longer than 4096 bytes"},
	} {
		got, problem := loadOf(http.Header{loadHeader: {tc.header}})
		want := load.Report{Kind: load.Utilisation, Value: tc.value}
		if tc.bad != "" {
			want = load.Report{}
		}
		if got != want || (problem == "") != (tc.bad == "") || !strings.HasSuffix(problem, tc.bad) {
			t.Errorf("%.60s: got %v, %q, want %v, %q", tc.header, got, problem, want, tc.bad)
		}
	}
	if got, problem := loadOf(http.Header{}); got != (load.Report{}) || problem != "" {
		t.Errorf("no header: got %v, %q", got, problem)
	}
	if _, problem := loadOf(http.Header{loadHeader: {"TEXT cpu_utilization=0.3", "TEXT eps=1"}}); !strings.HasSuffix(problem, "2 headers: want one") {
		t.Errorf("two headers: got %q", problem)
	}
}

// A check returns the report of an endpoint that is up, over both versions of HTTP.
func TestLoadOfReply(t *testing.T) {
	const header = "endpoint-load-metrics: TEXT cpu_utilization=0.25\r\n\r\n"
	busy := Report{Load: load.Report{Kind: load.Utilisation, Value: 0.25}}
	c := must(t)(NewHTTP(HTTP{Port: serve(t, repliesWith("HTTP/1.1 200 OK\r\n"+header))}))
	if got, err := c.Report(t.Context(), local); got != busy || err != nil {
		t.Errorf("got %+v, %v, want %+v", got, err, busy)
	}
	c = must(t)(NewHTTP(HTTP{HTTP2: true, Port: h2cServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("endpoint-load-metrics", `JSON {"cpu_utilization": 0.25}`)
	})}))
	if got, err := c.Report(t.Context(), local); got != busy || err != nil {
		t.Errorf("HTTP/2: got %+v, %v, want %+v", got, err, busy)
	}
	c = must(t)(NewHTTP(HTTP{Port: serve(t, repliesWith("HTTP/1.1 500 Oops\r\n"+header))}))
	if got, err := c.Report(t.Context(), local); got != (Report{}) || err == nil {
		t.Errorf("got %+v, %v, want nothing and an error", got, err)
	}
}

// checkLoad fails the test if a header has a load that makes no sense.
func checkLoad(t *testing.T, header http.Header) {
	t.Helper()
	r, problem := loadOf(header)
	if !(r.Value >= 0 && r.Value <= maxUtilisation) || r.Kind != load.Nothing && problem != "" || len(problem) > maxReason {
		t.Errorf("%q: %+v, %q", header[loadHeader], r, problem)
	}
	if problem != printable(problem) {
		t.Errorf("not printable: %q", problem)
	}
}

func FuzzLoadHeader(f *testing.F) {
	for _, value := range []string{
		"TEXT cpu_utilization=0.3,mem_utilization:0.8", `JSON {"cpu_utilization": 0.3, "applicationUtilization": 1e400}`, "BIN x", "TEXT cpu_utilization=0x1p-2",
	} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) { checkLoad(t, http.Header{loadHeader: {value}}) })
}
