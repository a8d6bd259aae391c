// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coredns/coredns/plugin/pkg/expression"
	"github.com/coredns/coredns/request"
	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"

	"github.com/seed-f1518d44/balance/internal/text"
)

// condition is the expression after "when" in a prefer line, in the language of the plugin view.
// Safe for concurrent use.
type condition struct {
	text    string
	program *vm.Program
	logged  atomic.Int64 // Unix time of the last line about a failure, in nanoseconds
}

// conditionLogInterval is the time between two lines about failures of an expression.
const conditionLogInterval = time.Minute

// parseCondition compiles an expression.
func parseCondition(words []string) (*condition, error) {
	c := &condition{text: strings.Join(words, " ")}
	var err error
	c.program, err = expr.Compile(c.text, expr.Env(expression.DefaultEnv(context.Background(), nil)), expr.DisableBuiltin("type"), expr.AsBool())
	if err == nil {
		return c, nil
	}
	if inside := new(file.Error); errors.As(err, &inside) {
		return nil, fmt.Errorf("bad expression %q: %s, at character %d", c.text, inside.Message, inside.Column+1)
	}
	return nil, fmt.Errorf("bad expression %q: %s", c.text, text.OneLine(err.Error()))
}

// usesMetadata reports whether the expression reads metadata, which the plugin metadata has to
// collect.
func (c *condition) usesMetadata() bool { return strings.Contains(c.text, "metadata(") }

// holds evaluates the expression for a query. One that fails is false.
func (c *condition) holds(ctx context.Context, state *request.Request) (bool, error) {
	result, err := expr.Run(c.program, expression.DefaultEnv(ctx, state))
	if err != nil {
		return false, err
	}
	held, _ := result.(bool)
	return held, nil
}

// conditionSet says which prefer lines have a condition that holds, by their number.
type conditionSet [2]uint64

func (s *conditionSet) add(line int)      { s[line/64] |= 1 << (line % 64) }
func (s *conditionSet) has(line int) bool { return s[line/64]&(1<<(line%64)) != 0 }
