// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"slices"

	"github.com/coredns/coredns/core/dnsserver"
)

// above and below are the directives between which balance works as documented: below those that
// sign what it wrote, above those that change the question, drop queries or keep answers.
var (
	above = []string{"dnstap", "dns64", "loadbalance", "tsig"}
	below = []string{"rewrite", "autopath", "acl", "cache", "dnssec", "file", "forward"}
)

// chainWarnings returns what is wrong with the chain that balance is in: its place in the list of
// directives, which plugin.cfg decides when CoreDNS is built, and an active loadbalance, which
// shuffles what balance put in order.
func chainWarnings(directives []string, loadbalance bool) (warnings []string) {
	at := slices.Index(directives, pluginName)
	misplaced := func(other, side string) {
		warnings = append(warnings, fmt.Sprintf("%q stands %s %q in this CoreDNS' plugin.cfg, so %s: "+
			"put the line %q right after %q and build again", pluginName, side, other, consequence(other),
			"balance:github.com/seed-f1518d44/balance", "tsig:tsig"))
	}
	for _, other := range above {
		if i := slices.Index(directives, other); other != "loadbalance" && i > at {
			misplaced(other, "above")
			break
		}
	}
	for _, other := range below {
		if i := slices.Index(directives, other); i >= 0 && i < at {
			misplaced(other, "below")
			break
		}
	}
	if loadbalance {
		warnings = append(warnings, `"loadbalance" is active in the same server block and shuffles what "balance" put in order: remove its line`)
	}
	return warnings
}

// consequence says what goes wrong if other is on the wrong side of balance.
func consequence(other string) string {
	switch other {
	case "tsig":
		return "answers are changed after they were signed"
	case "dnstap", "dns64":
		return "it does not see what balance decided"
	case "rewrite", "autopath":
		return "names are matched after they were rewritten"
	case "acl":
		return "what acl answers does not reach it"
	case "dnssec":
		return "answers are signed after balance and anew whenever their members change"
	case "cache":
		return "clients share cached answers and get no turns of their own"
	}
	return "most answers never reach it"
}

// cacheWarning is logged if a rule has the option ecs, and a cache stands between balance and a
// plugin that forwards queries.
const cacheWarning = `"ecs" is used above "cache" and "forward": the cache keeps one answer for all clients, so the server that is ` +
	`forwarded to must not make its answers depend on the client subnet`

// warnOfChain logs what warningsOfChain finds.
func warnOfChain(config *dnsserver.Config, rules []*rule) {
	for _, warning := range warningsOfChain(config, rules) {
		log.Warning(warning)
	}
}

// warningsOfChain returns what is wrong with the chain of a server block.
func warningsOfChain(config *dnsserver.Config, rules []*rule) []string {
	warnings := chainWarnings(dnsserver.Directives, config.Handler("loadbalance") != nil)
	if config.Handler("metadata") == nil {
		warnings = append(warnings, metadataWarnings(rules)...)
	}
	trusts := slices.ContainsFunc(rules, func(r *rule) bool { return len(r.ecs) > 0 })
	if trusts && config.Handler("cache") != nil && config.Handler("forward") != nil {
		warnings = append(warnings, cacheWarning)
	}
	return warnings
}

// metadataWarnings says which prefer lines read metadata that no plugin collects.
func metadataWarnings(rules []*rule) (warnings []string) {
	for _, r := range rules {
		for _, p := range r.prefer {
			if p.when != nil && p.when.usesMetadata() {
				warnings = append(warnings, fmt.Sprintf(`%s: prefer: no effect, because its metadata is not collected: add the line "metadata" to the server block`, p.at))
			}
		}
	}
	return warnings
}
