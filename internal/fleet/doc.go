// SPDX-License-Identifier: Apache-2.0

// Package fleet lets replicas agree on verdicts: a few of them probe each endpoint and tell the
// others what they find, and a majority decides. It knows neither CoreDNS, nor how endpoints are
// probed, nor how messages travel. Its Host probes (internal/health), its Carrier brings messages
// (gossip).
//
// A replica that is assigned to an endpoint probes it, and votes. An endpoint that one replica's
// answers hold is wanted, and known to all replicas that have the check. What a replica says about
// an endpoint, its vote and whether it wants it, is its claim. When a claim changes, its replica
// sends it to each of the others once. No replica passes on what another one said, except to one
// that joins.
//
//	f := fleet.New(fleet.Config{Name: "dns", Replica: "dns-1", Probers: 3, Log: log})
//	f.Start(carrier)
//	share := f.Join(check, host) // one for each check
//
// The path of a vote:
//
//	Share.Vote      the host's own verdict is new: it is claimed, and counted here
//	Share.flush     the changed claims go to all other replicas, many in one message
//	Fleet.Hear      a message is put into the inbox of its share
//	Share.hear      the claim is noted, or refused if the endpoint may not be probed here
//	Share.judge     the votes of the assigned replicas are counted, and the host is told the verdict
//
// Messages may be lost. Each heartbeat holds the sum of the digests of all claims of its sender. A
// replica that holds other claims of the sender compares them with the sender, by buckets of
// endpoints, and gets those that it lacks. A replica that joins takes over the state of another
// one.
//
// What a peer sends is believed as far as its own votes and wishes go, and is bounded: it can make
// this replica probe nothing that the host does not admit.
//
// A share belongs to the goroutine of its host. The fleet is shared by all of them, and has a lock;
// it calls a share only through the inbox and Host.Run. Queries see neither: they read what the
// host published.
//
// The files:
//
//	assign.go    which replicas probe an endpoint
//	votes.go     which verdict votes make, and what opinions are
//	members.go   whether so many replicas are gone that this one is alone
//	doubt.go     whether this replica doubts itself
//
//	carrier.go   what a carrier and a fleet call each other
//	fleet.go     the fleet of this process: its shares, its members, its messages
//	share.go     one check in the fleet: endpoints, replicas and their claims
//	judge.go     what follows from the claims on an endpoint: who probes it, which verdict it has
//	exchange.go  what a share says and hears: changes and heartbeats
//	compare.go   which claims of another replica are missing here
//	state.go     what a replica that joins takes over
//	wire.go      how all that looks in a message
//
//	counts.go    what replicas share besides verdicts: counts, and what keepers save
//	snapshot.go  what people and scrapes see
//	logs.go      what the log says of members and of disputes
//	bits.go      sets of small numbers
package fleet
