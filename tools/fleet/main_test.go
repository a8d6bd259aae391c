// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package fleet tests a fleet of replicas end to end: processes, backends and networks fail, and no
// client may notice more than it has to. Package testbed has what it takes.
package fleet

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/seed-f1518d44/balance/tools/internal/netns"
)

// insideVariable is set in the environment of the process that has a network namespace of its own.
const insideVariable = "FLEET_TEST_INSIDE"

func TestMain(m *testing.M) {
	if os.Getenv(peerVariable) != "" {
		fmt.Println(bePeer())
		return
	}
	if os.Getenv(insideVariable) != "" {
		os.Exit(m.Run())
	}
	status, err := netns.Again(context.Background(), insideVariable, 0, os.Args[1:]...)
	if err != nil {
		fmt.Println("no fleet is tested:", err)
	}
	os.Exit(status)
}
