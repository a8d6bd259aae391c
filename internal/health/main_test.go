// SPDX-License-Identifier: Apache-2.0

package health

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/seed-f1518d44/balance/internal/testserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pools is the registry of the tests. It logs to the test that captures the log.
var pools = NewRegistry(logged{})

func init() { prometheus.MustRegister(pools) }

// logged is a logger whose lines a test may capture.
type logged struct{}

var _ Logger = logged{}

func (logged) Infof(format string, args ...any)    { logTo("INFO", format, args) }
func (logged) Warningf(format string, args ...any) { logTo("WARNING", format, args) }
func (logged) Errorf(format string, args ...any)   { logTo("ERROR", format, args) }

// captured has the lines. Safe for concurrent use.
var captured struct {
	sync.Mutex
	lines *logLines
}

func logTo(level, format string, args []any) {
	captured.Lock()
	defer captured.Unlock()
	if captured.lines != nil {
		fmt.Fprintf(&captured.lines.text, "[%s] %s\n", level, fmt.Sprintf(format, args...))
	}
}

// logLines is what was logged.
type logLines struct{ text bytes.Buffer }

func (l *logLines) String() string {
	captured.Lock()
	defer captured.Unlock()
	return l.text.String()
}

// captureLog returns what is logged from now to the end of the test.
func captureLog(t *testing.T) *logLines {
	t.Helper()
	lines := &logLines{}
	set := func(to *logLines) {
		captured.Lock()
		defer captured.Unlock()
		captured.lines = to
	}
	set(lines)
	t.Cleanup(func() { set(nil) })
	return lines
}

var metric = testserver.Metric

// count returns how many times the log has a text.
func (l *logLines) count(text string) int { return strings.Count(l.String(), text) }
