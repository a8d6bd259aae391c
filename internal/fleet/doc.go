// SPDX-License-Identifier: Apache-2.0

// Package fleet lets replicas agree on verdicts. A few replicas probe each endpoint, tell the others
// what they find, and a majority decides. It knows neither CoreDNS nor how messages travel.
package fleet
