// SPDX-License-Identifier: Apache-2.0

// Command dashboard writes the Grafana dashboard for balance, dashboard.json, to standard output:
//
//	make dashboard
//
// panels.go has what it shows, grafana.go the part of Grafana's schema that it uses.
package main

import (
	"encoding/json"
	"log"
	"os"
)

func main() {
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(newDashboard()); err != nil {
		log.Fatal(err)
	}
}
