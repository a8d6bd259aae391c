// SPDX-License-Identifier: Apache-2.0

package testserver

import (
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// Metric returns the value that a scrape of this process finds for a metric with some label values,
// 0 for none.
func Metric(t testing.TB, name string, labels ...string) (value float64) {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			has := 0
			for _, label := range m.GetLabel() {
				if slices.Contains(labels, label.GetValue()) {
					has++
				}
			}
			if family.GetName() == name && has == len(labels) {
				value += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return value
}
