// SPDX-License-Identifier: Apache-2.0

// Package health probes endpoints and publishes what it finds. It knows neither DNS nor CoreDNS: a
// rule subscribes to a check, names the endpoints that its answers hold, and reads verdicts without
// a lock.
//
//	s := registry.Join(check, health.Subscriber{Zone: "example.org.", Allow: allow, Changed: makePlansAnew})
//	verdict := s.Seen(netip.AddrPortFrom(addr, 0)) // registers the endpoint for probing
//	s.Leave()
//
// The path of a probe, from top to bottom:
//
//	pool.run        waits for whichever comes first: a probe that is due, a result, a new endpoint
//	pool.dispatch   hands what is due to the workers, the longest due first
//	pool.probe      probes the endpoint, in a worker
//	pool.settle     updates what is known with the result, and decides when to probe next
//	pool.publish    tells the rules, the log and the metrics about a new verdict
//
// In a fleet a result is a vote (internal/fleet), and the verdict of all replicas is published.
//
// With the option hold, the end of an idle connection makes a probe due: connections.go.
//
// The files:
//
//	check.go         a check: what to ask of an endpoint, how often, how many at once
//	registry.go      the pools of the process: rules with the same check share one, and reloads keep it
//	subscription.go  a rule's part in a pool: what rules call; scope.go what survives a reload
//	snapshot.go      what is known about an endpoint, for scrapes and the status page
//	metrics.go       the series that are made at scrape time; counters.go the others
//	allow.go         which addresses may be probed; ports.go at which ports of records
//
//	pool.go          the goroutine that probes, and its workers; admit.go takes new endpoints in
//	settle.go        what a pool does with a result
//	table.go         finds endpoints without a lock, pairs.go by address and port; endpoint.go an
//	                 endpoint; bitset.go sets of them
//	queue.go         which endpoint is next: classes and scopes take turns
//	limiter.go       how many probes may be in flight
//	context.go       the context of a worker's probes
//	tracker.go       the state machine: which results change a verdict, and when to probe next
//	awareness.go     whether this host is at fault: local errors, overload, every endpoint failing
//	advice.go        what an endpoint says about itself; load.go its load reports
//	damping.go       which endpoints flap, and how long they stay out
//	verdict.go       a verdict; votes.go the verdicts of several checks on one address
//	transitions.go   new verdicts in the log, few lines for many
//	history.go       the last probes of an endpoint
//	fleet.go         a pool in a fleet: which endpoints it probes, votes, and the verdicts of all replicas;
//	                 guests.go the endpoints that only other replicas have seen
//	hold.go          the state machine of the idle connection to an endpoint; connections.go carries it out
package health
