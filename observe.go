// SPDX-License-Identifier: Apache-2.0

package balance

import "strings"

// The option observe: everything is decided and counted, and answers go out as they came up. So an
// operator sees for a while what would happen before it does. Turns are taken too: without the
// option they go on where they are.

// parseObserve reads "observe".
func parseObserve(s *stanza, args []string) error {
	if len(args) > 0 {
		return wrongCount(args, "nothing behind it")
	}
	s.observe = true
	return nil
}

// sayWhatIsObserved logs which rules leave the answers as they are, lest it be forgotten.
func sayWhatIsObserved(rules []*rule) {
	for _, r := range rules {
		if r.observe {
			log.Infof("%s: observe: answers go out as they came; what would become of them is counted and logged", strings.Join(r.zones, ", "))
		}
	}
}

// observeNote is put behind what is logged of a rule, where it observes.
func (r *rule) observeNote() string {
	if r.observe {
		return "; observe: answers stay as they are"
	}
	return ""
}

// wouldNote says, for the log, what a verdict would mean to the answers of those rules that only
// observe; zones are the bits of those concerned. Empty where there are none, and where an endpoint
// was in the answers before and stays there.
func (s *subscribers) wouldNote(zones uint64, before, now verdict) string {
	var names []string
	s.eachScope(zones, func(one *subscriber) {
		if one.rule.observe {
			names = append(names, one.zone)
		}
	})
	switch {
	case len(names) == 0:
		return ""
	case now == down:
		return "; observe: would leave the answers of " + strings.Join(names, ", ")
	case before == down:
		return "; observe: would be back in the answers of " + strings.Join(names, ", ")
	}
	return ""
}
