// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/seed-f1518d44/balance/internal/load"
)

// loadHeader is where a backend says how busy it is, as ORCA has it (Open Request Cost Aggregation,
// https://github.com/envoyproxy/envoy/issues/6614):
//
//	endpoint-load-metrics: TEXT cpu_utilization=0.3,application_utilization=0.8
//	endpoint-load-metrics: JSON {"cpu_utilization": 0.3}
const loadHeader = "Endpoint-Load-Metrics"

const (
	maxLoadHeader  = 4 << 10 // bytes
	maxUtilisation = 10      // more is a percentage that was meant as a part
)

// loadOf returns what the header of a reply says of the load. Without the header there is no
// report. A report that makes no sense is a problem.
func loadOf(header http.Header) (r load.Report, problem string) {
	values := header[loadHeader]
	if len(values) == 0 {
		return r, ""
	}
	utilisation, err := parseLoad(values)
	if err != nil {
		return r, printable("load report " + quote(values[0]) + ": " + err.Error())
	}
	return load.Report{Kind: load.Utilisation, Value: utilisation}, ""
}

// parseLoad reads the values of the header. The application's own utilisation counts, if it says
// more than 0, or else that of the processor, as gRFC A58 has it. All other metrics are ignored.
func parseLoad(values []string) (float64, error) {
	if len(values) > 1 {
		return 0, fmt.Errorf("%d headers: want one", len(values))
	}
	if len(values[0]) > maxLoadHeader {
		return 0, fmt.Errorf("longer than %d bytes", maxLoadHeader)
	}
	format, text, _ := strings.Cut(strings.TrimSpace(values[0]), " ")
	var m metrics
	var err error
	switch format {
	case "TEXT":
		m, err = parseTextMetrics(text)
	case "JSON":
		m, err = parseJSONMetrics(text)
	default:
		return 0, fmt.Errorf("format %s: want TEXT or JSON", quote(format))
	}
	if err != nil {
		return 0, err
	}
	return m.utilisation()
}

// metrics are those that count; nil if they are not given.
type metrics struct{ application, cpu *float64 }

func (m metrics) utilisation() (float64, error) {
	for _, value := range []*float64{m.application, m.cpu} {
		if value != nil && !(*value >= 0 && *value <= maxUtilisation) { // NaN is not
			return 0, fmt.Errorf("a utilisation of %v: want one from 0 to %d, where 1 is fully busy", *value, maxUtilisation)
		}
	}
	switch {
	case m.application != nil && (*m.application > 0 || m.cpu == nil):
		return *m.application, nil
	case m.cpu != nil:
		return *m.cpu, nil
	}
	return 0, errors.New("neither application_utilization nor cpu_utilization")
}

// parseTextMetrics reads "cpu_utilization=0.3,mem_utilization=0.8". Colons stand for equals signs
// too.
func parseTextMetrics(text string) (m metrics, err error) {
	for _, entry := range strings.Split(text, ",") {
		name, value := entry, ""
		if at := strings.IndexAny(entry, "=:"); at >= 0 {
			name, value = entry[:at], entry[at+1:]
		}
		var metric **float64
		switch strings.TrimSpace(name) {
		case "application_utilization":
			metric = &m.application
		case "cpu_utilization":
			metric = &m.cpu
		default:
			continue
		}
		if *metric != nil {
			return m, fmt.Errorf("%s: given twice", strings.TrimSpace(name))
		}
		number, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			return m, fmt.Errorf("%s: not a number", strings.TrimSpace(name))
		}
		*metric = &number
	}
	return m, nil
}

// parseJSONMetrics reads the JSON form of the protobuf message, which has two spellings.
func parseJSONMetrics(text string) (metrics, error) {
	var said struct {
		Application      *float64 `json:"application_utilization"`
		CPU              *float64 `json:"cpu_utilization"`
		ApplicationCamel *float64 `json:"applicationUtilization"`
		CPUCamel         *float64 `json:"cpuUtilization"`
	}
	if err := json.Unmarshal([]byte(text), &said); err != nil {
		return metrics{}, errors.New("not the JSON of a report")
	}
	m := metrics{said.Application, said.CPU}
	if m.application == nil {
		m.application = said.ApplicationCamel
	}
	if m.cpu == nil {
		m.cpu = said.CPUCamel
	}
	return m, nil
}
