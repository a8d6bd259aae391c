// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What is sent from many forged addresses causes few lines, and leaves room for other warnings.
func TestManyStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplica("a")
		log := newLimitedLog(r, testFleet)
		for range 2 {
			for i := range 1000 {
				_, _ = fmt.Fprintf(listLog{log}, "[ERR] memberlist: Decrypt packet failed: no installed keys could decrypt the message from=192.0.2.%d:%d\n", i, i+1)
			}
		}
		lines := r.said("none of the keys")
		if len(lines) != maxAbout || !strings.HasSuffix(lines[maxAbout-1], "; more such lines are left out for 10 minutes") {
			t.Errorf("%q, want %d lines, and that there are more", lines, maxAbout)
		}
		log.warn("outbox", "", "messages are lost")
		if len(r.said("messages are lost")) != 1 {
			t.Error("another warning was left out")
		}
		time.Sleep(sayAgain)
		log.warn("key", "192.0.2.1", "another key")
		if len(r.said("another key")) != 1 {
			t.Error("nothing is said about keys ten minutes later")
		}
	})
}
