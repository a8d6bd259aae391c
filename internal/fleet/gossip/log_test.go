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

// A replica that is still there after an exchange over TCP failed is one that TCP does not reach. One
// that has just died is not.
func TestReachedOverUDPOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplica("a")
		log := newLimitedLog(r, testFleet)
		fails := func() {
			_, _ = fmt.Fprintln(listLog{log}, "[ERR] memberlist: Push/Pull with dns-2 failed: dial tcp 192.0.2.2:7946: i/o timeout")
		}
		fails()
		time.Sleep(time.Second)
		if fails(); len(r.said("")) != 0 {
			t.Errorf("%q, want nothing yet", r.said(""))
		}
		time.Sleep(goneWithin)
		fails()
		want := "dns-2 is reached over UDP but not over TCP: want both open"
		if got := r.said(""); len(got) != 1 || got[0] != "WARNING fleet dns: "+want {
			t.Errorf("%q, want %q", got, want)
		}
		if got := log.problems(); len(got) != 1 || got[0] != want {
			t.Errorf("problems %q, want %q", got, want)
		}
		time.Sleep(lasts / 2)
		fails()
		time.Sleep(lasts / 2)
		if len(log.problems()) != 1 {
			t.Error("no problem any more, though it was seen lately")
		}
		time.Sleep(lasts)
		if len(log.problems()) != 0 {
			t.Error("a problem for good")
		}
	})
}

// Whoever is refused again after it has joined is in the log again.
func TestRefusedAgain(t *testing.T) {
	r := newReplica("a")
	log := newLimitedLog(r, testFleet)
	refused := func() {
		_, _ = fmt.Fprintln(listLog{log}, "[ERR] memberlist: Decrypt packet failed: no installed keys could decrypt the message from=192.0.2.1:7946")
	}
	refused()
	log.joined("192.0.2.2")
	if len(log.problems()) != 1 {
		t.Errorf("problems %q, want the one with 192.0.2.1", log.problems())
	}
	log.joined("192.0.2.1")
	if len(log.problems()) != 0 {
		t.Errorf("problems %q, want none", log.problems())
	}
	refused()
	if got := r.said("none of the keys"); len(got) != 2 {
		t.Errorf("%q, want two lines", got)
	}
}
