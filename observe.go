// SPDX-License-Identifier: Apache-2.0

package balance

import "strings"

// The option observe: everything is decided and counted, and answers go out as they came up. So an
// operator can see first what would happen. Turns are taken too, and continue when the option is
// removed.

// sayWhatIsObserved logs which rules leave the answers as they are, as a reminder.
func sayWhatIsObserved(rules []*rule) {
	for _, r := range rules {
		if r.observe {
			log.Infof("%s: observe: answers go out as they came; what would become of them is counted and logged", strings.Join(r.zones, ", "))
		}
	}
}
