// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"
)

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second:                          "0s",
		59*time.Second + 999*time.Millisecond: "59s",
		time.Minute:                           "1m",
		3*time.Minute + 10*time.Second:        "3m10s",
		30 * time.Minute:                      "30m",
		time.Hour:                             "1h0m",
		10*time.Hour + 20*time.Minute + time.Second: "10h20m",
		48 * time.Hour: "2d",
	} {
		if got := short(d); got != want {
			t.Errorf("%v is shown as %q, want %q", d, got, want)
		}
	}
}
