// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"flag"
	"io"
	stdlog "log"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// The servers that benchmarks compare with take their time to stop.
func TestMain(m *testing.M) {
	flag.Parse()
	stdlog.SetOutput(io.Discard)
	if bench := flag.Lookup("test.bench"); bench != nil && bench.Value.String() != "" {
		os.Exit(m.Run())
	}
	goleak.VerifyTestMain(m)
}
