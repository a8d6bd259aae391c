// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"time"

	"github.com/seed-f1518d44/balance/internal/text"
)

// What loadbalance takes and no other stanza: "loadbalance POLICY [FILE]" and the option "reload
// DURATION".

// movedLines returns the lines that stand for the arguments "POLICY [FILE]" of a stanza. Other
// arguments are returned as they are. A zone with the name of a policy can be written with a dot at
// its end.
func (s *stanza) movedLines(heading *line) (lines []line, args []string, err error) {
	args = heading.args
	if len(args) == 0 || policyNamed(args[0]) == nil {
		return nil, args, nil
	}
	if len(args) > 2 {
		return nil, nil, heading.errorf(`%s behind the policy: want lines in the block, such as "prefer CIDR"`, text.Found(args[1:]))
	}
	s.moved = true
	lines = []line{{at: heading.at, name: "policy", args: args[:1]}}
	if len(args) > 1 {
		lines = append(lines, line{at: heading.at, name: "weights", args: args[1:]})
	}
	return lines, nil, nil
}

// parseReload reads "reload DURATION": how often the weight file is read, as loadbalance spells it.
func parseReload(args []string) (time.Duration, error) {
	if len(args) != 1 {
		return 0, wrongCount(args)
	}
	every, err := time.ParseDuration(args[0])
	if err != nil || every < 0 {
		return 0, badDuration(args[0], "one such as 30s, or 0 to read the file once")
	}
	return every, nil
}

// setReload sets how often the weight file is read. loadbalance takes shorter durations.
func (s *stanza) setReload(every time.Duration, at position) error {
	if s.reload = every; every != 0 && every < minPollInterval {
		s.warn(at, "reload: %v is taken as %v, the shortest: write that", every, minPollInterval)
		s.reload = minPollInterval
	}
	return nil
}
