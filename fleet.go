// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/coredns/caddy"
	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/cidr"
	"github.com/seed-f1518d44/balance/internal/filewatch"
	"github.com/seed-f1518d44/balance/internal/fleet"
	"github.com/seed-f1518d44/balance/internal/fleet/gossip"
	"github.com/seed-f1518d44/balance/internal/health"
	"github.com/seed-f1518d44/balance/internal/text"
)

// The fleet option: "fleet NAME { ... }" defines the fleet of the process, "fleet NAME" refers to
// it.

// What a fleet has unless its block says otherwise.
const (
	defaultProbers = 3
	maxProbers     = 100
)

// fleetBlock is a block that defines a fleet. Immutable once it is read.
type fleetBlock struct {
	name      string
	join      []gossip.Peer
	listen    netip.AddrPort // an address that is not specified, or none: every one
	advertise netip.AddrPort // zero: the address that reaches the others
	keys      *keyFile       // nil: messages are not encrypted
	locality  string         // empty: that of the replica's address
	probers   int
	quorum    int // 0: more than half of those assigned

	root    string              // the directory that the names of files are relative to
	keyPath string              // of keys
	heading position            // the first line of the block
	at      map[string]position // the first line of each option
}

// fleetOptions are the words in the block of a fleet. A new option is a parse function, a line here
// and golden files in testdata/corefile.
var fleetOptions = []option[fleetBlock]{
	{name: "join", usage: "HOST[:PORT]...", repeats: true, read: add(parsePeers, (*fleetBlock).addPeers)},
	{name: "listen", usage: "ADDRESS[:PORT]", read: set(parseListen, func(b *fleetBlock, at netip.AddrPort) { b.listen = at })},
	{name: "advertise", usage: "ADDRESS[:PORT]", read: set(parseAdvertise, func(b *fleetBlock, at netip.AddrPort) { b.advertise = at })},
	{name: "key", usage: "FILE", read: set(parseKeyFile, func(b *fleetBlock, path string) { b.keyPath = path })},
	{name: "locality", usage: "LABEL", read: set(parseLabel, func(b *fleetBlock, label string) { b.locality = label })},
	{name: "probers", usage: "N", read: set(parseCount(maxProbers), func(b *fleetBlock, n int) { b.probers = n })},
	{name: "quorum", usage: "N", read: set(parseCount(maxProbers), func(b *fleetBlock, n int) { b.quorum = n })},
}

// fleetOfCorefile is what a Corefile says about the fleet of the process. Its rules share it.
type fleetOfCorefile struct {
	name  string
	first position    // where it is named first
	block *fleetBlock // nil until the block is read

	checks map[fleet.CheckID]placedCheck // of all rules, the first one of each
}

// placedCheck is a check and its first line.
type placedCheck struct {
	*health.Check
	at position
}

// fleetKey is where a server keeps its fleetOfCorefile while it is set up.
type fleetKey struct{}

// fleetIn returns the fleet of the Corefile that is set up.
func fleetIn(c *caddy.Controller) *fleetOfCorefile {
	f, ok := c.Get(fleetKey{}).(*fleetOfCorefile)
	if !ok {
		f = &fleetOfCorefile{checks: make(map[fleet.CheckID]placedCheck)}
		c.Set(fleetKey{}, f)
	}
	return f
}

// read reads "fleet NAME [{ ... }]". root is the directory that the names of files are relative to,
// and words are the options of a stanza.
func (f *fleetOfCorefile) read(l *line, root string, words []string) error {
	name, err := parseFleetName(l.args)
	if err != nil {
		return err
	}
	if err := f.refer(name, l.at); err != nil {
		return err
	}
	if l.block == nil {
		return nil
	}
	if f.block != nil {
		return fmt.Errorf("a block defines it here, and one at %s: want one block, and %q in the other rules", f.block.heading, "fleet "+name)
	}
	f.block, err = readFleetBlock(name, l, root, words)
	return err
}

// refer notes that a rule takes part in a fleet.
func (f *fleetOfCorefile) refer(name string, at position) error {
	if f.name == "" {
		f.name, f.first = name, at
	}
	if f.name != name {
		return fmt.Errorf("%q here, and %q at %s: want one name, because a process is in one fleet", name, f.name, f.first)
	}
	return nil
}

// agree returns an error if the fleet takes a check for an earlier one that differs from it in an
// option that the fleet ignores.
func (f *fleetOfCorefile) agree(c *health.Check, at position) error {
	earlier, known := f.checks[c.FleetID()]
	if !known {
		f.checks[c.FleetID()] = placedCheck{c, at}
		return nil
	}
	if option := c.DiffersInFleet(earlier.Check); option != "" {
		return &lineError{at, fmt.Errorf("health_check: fleet %s takes this for the check at %s, which has another %s: want the same in both", f.name, earlier.at, option)}
	}
	return nil
}

// problem returns an error if rules take part in the fleet and no block defines it.
func (f *fleetOfCorefile) problem() error {
	if f.name == "" || f.block != nil {
		return nil
	}
	return &lineError{f.first, fmt.Errorf("fleet: no block defines %q: want \"fleet %s { ... }\" in one of its rules", f.name, f.name)}
}

// parseFleetName reads a fleet's name, which stands in labels and in every message.
func parseFleetName(args []string) (string, error) {
	if len(args) != 1 {
		return "", wrongCount(args)
	}
	name := args[0]
	outside := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r)
	}
	if name == "" || len(name) > 63 || strings.ContainsFunc(name, outside) {
		return "", fmt.Errorf("bad name %q: want at most 63 letters, digits, dots, - and _", name)
	}
	return name, nil
}

// readFleetBlock reads the block of a fleet.
func readFleetBlock(name string, l *line, root string, words []string) (*fleetBlock, error) {
	b := &fleetBlock{name: name, root: root, heading: l.at, probers: defaultProbers}
	unknown := func(word string) error { return unknownFleetOption(word, words) }
	var err error
	if b.at, err = readOptions(b, l.block, fleetOptions, unknown); err != nil {
		return nil, err
	}
	if err := b.validate(); err != nil {
		return nil, err
	}
	return b, nil
}

// unknownFleetOption says which options a fleet has, or which stanzas have what was found.
func unknownFleetOption(word string, ofStanza []string) error {
	if slices.Contains(ofStanza, word) {
		return fmt.Errorf("%s: found in the block of fleet: is the \"}\" of that missing before it?", word)
	}
	return text.Unknown("option", word, optionNames(fleetOptions))
}

// validate fills in what depends on several options, and returns an error if they do not go
// together.
func (b *fleetBlock) validate() error {
	if b.listen.Port() == 0 {
		b.listen = netip.AddrPortFrom(b.listen.Addr(), gossip.DefaultPort)
	}
	if b.advertise.IsValid() && b.advertise.Port() == 0 {
		b.advertise = netip.AddrPortFrom(b.advertise.Addr(), b.listen.Port())
	}
	if b.quorum > b.probers {
		return &lineError{b.at["quorum"], fmt.Errorf("quorum: %d is more than %s: want at most %d", b.quorum, text.Count(b.probers, "prober"), b.probers)}
	}
	if listens := b.listen.Addr(); b.advertise.IsValid() && isOne(listens) && listens.Is4() != b.advertise.Addr().Is4() {
		return &lineError{b.at["advertise"], fmt.Errorf("advertise: %s is of another family than %s, where it listens: want both IPv4 or both IPv6", b.advertise.Addr(), listens)}
	}
	if b.keyPath == "" && !b.isLocal() {
		return errors.New(`no key: want "key FILE" in the block, because messages that are not encrypted can be forged; a fleet goes without if listen and join are loopback addresses`)
	}
	return nil
}

// isOne reports whether an address stands for itself and not for every one.
func isOne(addr netip.Addr) bool { return addr.IsValid() && !addr.IsUnspecified() }

// isLocal reports whether nothing leaves this host.
func (b *fleetBlock) isLocal() bool {
	away := func(p gossip.Peer) bool {
		addr, err := netip.ParseAddr(p.Host)
		return err == nil && !addr.IsLoopback()
	}
	return b.listen.Addr().IsLoopback() && (!b.advertise.IsValid() || b.advertise.Addr().IsLoopback()) && !slices.ContainsFunc(b.join, away)
}

// openKeys reads the key file, if that is not done yet.
func (b *fleetBlock) openKeys() error {
	if b == nil || b.keyPath == "" || b.keys != nil {
		return nil
	}
	b.keys = newKeyFile(pathIn(b.root, b.keyPath), b.name)
	err := b.keys.Read()
	if inside := filewatch.ContentError(""); err == nil || errors.As(err, &inside) {
		return err
	}
	return &lineError{b.at["key"], fmt.Errorf("key: %w", err)}
}

// keyFile holds the keys of a fleet. Safe for concurrent use.
type keyFile struct {
	*filewatch.File
	keys    atomic.Pointer[[][]byte]
	changed atomic.Pointer[func(keys [][]byte)] // called when other keys are in force
}

func newKeyFile(path, fleet string) *keyFile {
	k := &keyFile{File: &filewatch.File{Path: path, Every: credentialsInterval}}
	k.Use = func(content []byte) error {
		keys, err := gossip.ParseKeys(content)
		if err != nil {
			return err
		}
		k.keys.Store(&keys)
		if changed := k.changed.Load(); changed != nil {
			(*changed)(keys)
		}
		return nil
	}
	k.Report = func(problem error) {
		if problem != nil {
			log.Errorf("fleet %s: key: %v; the keys that were read before stay in force", fleet, problem)
			return
		}
		log.Infof("fleet %s: key: %s is good again and in force", fleet, k.Name())
	}
	return k
}

// parsePeers reads where to look for other replicas.
func parsePeers(args []string) (peers []gossip.Peer, err error) {
	if len(args) == 0 {
		return nil, wrongCount(args)
	}
	for _, arg := range args {
		p, err := parsePeer(arg)
		if err != nil {
			return nil, err
		}
		peers = append(peers, p)
	}
	return peers, nil
}

// parsePeer reads an address or a name, perhaps with a port.
func parsePeer(arg string) (p gossip.Peer, err error) {
	if at, err := parsePlace(arg); err == nil {
		if port := at.Port(); !at.Addr().IsValid() || at.Addr().IsUnspecified() || at.Addr().IsMulticast() {
			return p, fmt.Errorf("bad host %q: want a name, or the address of a host", arg)
		} else if port == 0 {
			return gossip.Peer{Host: at.Addr().String(), Port: gossip.DefaultPort}, nil
		}
		return gossip.Peer{Host: at.Addr().String(), Port: at.Port()}, nil
	}
	host, port, found := strings.Cut(arg, ":")
	if _, ok := dns.IsDomainName(host); !ok || host == "" || strings.ContainsAny(arg, "/,*\"[]") {
		return p, fmt.Errorf("bad host %q: want a name or an address, perhaps with a port, such as 192.0.2.1:%d", arg, gossip.DefaultPort)
	}
	p = gossip.Peer{Host: strings.ToLower(host), Port: gossip.DefaultPort}
	if found {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return p, fmt.Errorf("bad port in %q: want a whole number from 1 to 65535, as in %s", arg, net.JoinHostPort(host, strconv.Itoa(gossip.DefaultPort)))
		}
		p.Port = uint16(n)
	}
	return p, nil
}

// addPeers adds places to look for other replicas.
func (b *fleetBlock) addPeers(more []gossip.Peer) error {
	for _, p := range more {
		if slices.Contains(b.join, p) {
			return fmt.Errorf("%q is named twice: want it once", p)
		}
		b.join = append(b.join, p)
	}
	return nil
}

var errPlace = errors.New("no address")

// parsePlace reads an address, perhaps with a port, or a port behind a colon. What is not given is
// zero.
func parsePlace(arg string) (at netip.AddrPort, err error) {
	if port, ok := strings.CutPrefix(arg, ":"); ok && !strings.Contains(port, ":") {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return at, errPlace
		}
		return netip.AddrPortFrom(netip.Addr{}, uint16(n)), nil
	}
	if addr, err := netip.ParseAddr(cidr.WithoutBrackets(arg)); err == nil && addr.Zone() == "" {
		return netip.AddrPortFrom(addr.Unmap(), 0), nil
	}
	at, err = netip.ParseAddrPort(arg)
	if err != nil || at.Port() == 0 || at.Addr().Zone() != "" {
		return netip.AddrPort{}, errPlace
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
}

// parseListen reads where to listen.
func parseListen(args []string) (at netip.AddrPort, err error) {
	if len(args) != 1 {
		return at, wrongCount(args)
	}
	if at, err = parsePlace(args[0]); err != nil || at.Addr().IsMulticast() {
		return at, fmt.Errorf("bad address %q: want an address of this host, perhaps with a port, such as 192.0.2.1, 192.0.2.1:%d or :%d",
			args[0], gossip.DefaultPort, gossip.DefaultPort)
	}
	return at, nil
}

// parseAdvertise reads where others reach this replica.
func parseAdvertise(args []string) (at netip.AddrPort, err error) {
	if len(args) != 1 {
		return at, wrongCount(args)
	}
	if at, err = parsePlace(args[0]); err != nil || !isOne(at.Addr()) || at.Addr().IsMulticast() {
		return at, fmt.Errorf("bad address %q: want the one that others reach this replica at, perhaps with a port, such as 192.0.2.1 or 192.0.2.1:%d",
			args[0], gossip.DefaultPort)
	}
	return at, nil
}

// parseKeyFile reads "key FILE". A relative path stays so.
func parseKeyFile(args []string) (string, error) {
	if len(args) != 1 {
		return "", wrongCount(args)
	}
	if args[0] == "" {
		return "", errors.New(`found "": want a file`)
	}
	return args[0], nil
}

// maxLabel bounds a locality, which every replica tells the others.
const maxLabel = 128

// parseLabel reads a locality.
func parseLabel(args []string) (string, error) {
	label, err := parseText(args)
	if err != nil {
		return "", err
	}
	if len(label) > maxLabel || text.OneLine(label) != label {
		return "", fmt.Errorf("bad label %q: want at most %d printable characters, such as zone-a", label, maxLabel)
	}
	return label, nil
}
