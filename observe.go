// SPDX-License-Identifier: Apache-2.0

package balance

import "strings"

// The option observe: everything is decided and counted, and answers go out as they came up. So an
// operator sees for a while what would happen before it does. Turns are taken too: without the
// option they go on where they are.

// sayWhatIsObserved logs which rules leave the answers as they are, lest it be forgotten.
func sayWhatIsObserved(rules []*rule) {
	for _, r := range rules {
		if r.observe {
			log.Infof("%s: observe: answers go out as they came; what would become of them is counted and logged", strings.Join(r.zones, ", "))
		}
	}
}
