// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	stdlog "log"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/core/dnsserver"

	"github.com/seed-f1518d44/balance/internal/filewatch"
	"github.com/seed-f1518d44/balance/internal/findings"
)

// dryRunFlag is a flag that every CoreDNS with this plugin has. The words behind it are those of
// Check, and "balancectl check" is its user. It needs CoreDNS because only the plugins themselves
// know what they make of a Corefile.
const dryRunFlag = "balance.check"

func init() {
	const usage = "Check a Corefile, say what has no effect, and exit; last of the flags, before \"COREFILE [weights FILE] [overrides FILE] [strict]\""
	flag.BoolFunc(dryRunFlag, usage, func(string) error {
		at := slices.IndexFunc(os.Args, func(arg string) bool { return strings.TrimLeft(arg, "-") == dryRunFlag })
		os.Exit(Check(os.Args[at+1:], os.Stdout, os.Stderr))
		return nil
	})
}

// dryRun reads a Corefile as a server that starts does, up to where listeners would open. An error
// of balance does not end it, so that it finds those of other server blocks and plugins too.
type dryRun struct {
	corefile caddy.CaddyfileInput
	strict   bool
	standIns map[string]string // files by the option whose files they stand in for
	replaced map[string]string // which file that was, by option
	without  []string          // directives that are not set up

	found  findings.List
	blocks []*dryBlock
}

// dryBlock is a server block with balance.
type dryBlock struct {
	controller caddy.Controller
	config     *dnsserver.Config
	rules      []*rule
	byZone     map[string]*zoneRule
}

// dryRunning is the dry run that there is, nil in a server.
var dryRunning *dryRun

// Check reads "COREFILE [weights FILE] [overrides FILE] [strict]": it writes to out what is wrong
// with the Corefile and the files that it names, as a server that starts would say it, and which
// lines have no effect. A FILE stands in for the one that the Corefile names. It opens no listener
// and sends nothing. It returns the exit status. It changes CoreDNS' list of directives while it
// runs, so no server may run.
func Check(args []string, out, errs io.Writer) (status int) {
	d, err := readDryRun(args)
	if err != nil {
		_, _ = fmt.Fprintln(errs, err)
		return findings.Failed
	}
	d.run()
	status, err = d.found.Write(out, d.strict)
	if err != nil {
		_, _ = fmt.Fprintln(errs, err)
	}
	return status
}

// readDryRun reads the words of Check, and the Corefile.
func readDryRun(args []string) (*dryRun, error) {
	d := &dryRun{standIns: map[string]string{}, replaced: map[string]string{}, without: slices.Clone(asking)}
	file := ""
	for i := 0; i < len(args); i++ {
		switch word := args[i]; {
		case file == "":
			file = word
		case (word == "weights" || word == "overrides") && i+1 < len(args):
			i++
			d.standIns[word] = args[i]
		case word == "strict":
			d.strict = true
		default:
			return nil, fmt.Errorf("-%s: found %q: want COREFILE [weights FILE] [overrides FILE] [strict]", dryRunFlag, word)
		}
	}
	if file == "" {
		return nil, fmt.Errorf("-%s: found nothing: want COREFILE [weights FILE] [overrides FILE] [strict]", dryRunFlag)
	}
	content, err := readCorefile(file)
	d.corefile = caddy.CaddyfileInput{Filepath: file, Contents: content, ServerTypeName: "dns"}
	return d, err
}

// mostCorefile bounds what is read of a Corefile, in bytes.
const mostCorefile = 64 << 20

// readCorefile reads a file, or the standard input by its name. Other pipes may have no writer.
func readCorefile(file string) ([]byte, error) {
	if file == "/dev/stdin" {
		return io.ReadAll(io.LimitReader(os.Stdin, mostCorefile))
	}
	content, err := filewatch.ReadRegular(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return content, nil
}

// asking are the directives whose set-up asks other hosts, etcd only if it has credentials. A dry
// run leaves them out.
var asking = []string{"route53", "azure", "clouddns", "etcd"}

// Directives that a dry run adds at both ends of CoreDNS' list, so that it is called there. No
// Corefile has them.
const (
	firstDirective = "balance.check first"
	lastDirective  = "balance.check last"
)

// errNotStarted ends the start of a server that a dry run wants no more of.
var errNotStarted = errors.New("read as a whole, and not started")

// registerDryRun has Caddy call a dry run where the set-up of the plugins begins and ends.
var registerDryRun = sync.OnceFunc(func() {
	caddy.RegisterParsingCallback("dns", firstDirective, func(caddy.Context) error {
		for i, name := range dnsserver.Directives {
			if slices.Contains(dryRunning.without, name) {
				dnsserver.Directives[i] = "" // Caddy goes through this very list
			}
		}
		return nil
	})
	caddy.RegisterParsingCallback("dns", lastDirective, func(c caddy.Context) error {
		if _, err := c.MakeServers(); err != nil {
			return err
		}
		return errNotStarted
	})
})

// run reads the Corefile and compares what it says with the zones that it loads.
func (d *dryRun) run() {
	logged := new(bytes.Buffer)
	writer, flags := stdlog.Writer(), stdlog.Flags()
	stdlog.SetOutput(logged)
	stdlog.SetFlags(0)
	err := d.start()
	if d.needsCluster(err) {
		d.found.Warnf(d.corefile.Filepath, "%v: not checked, because there is no cluster around", err)
		d.without = append(d.without, "kubernetes")
		d.blocks, d.replaced = nil, map[string]string{}
		err = d.start()
	}
	d.judge(err)
	stdlog.SetOutput(writer)
	stdlog.SetFlags(flags)
	d.takeLog(logged.String())
}

// judge adds what is found of a start that ended with an error, as all do.
func (d *dryRun) judge(err error) {
	file := d.corefile.Filepath
	for _, b := range d.blocks {
		d.warnOfRules(b.rules)
		if err := fleetIn(&b.controller).problem(); err != nil {
			d.found.Errorf(file, "%v", err)
		}
	}
	if !errors.Is(err, errNotStarted) {
		d.found.Errorf(file, "%v", err)
		return
	}
	blocks, err := caddyfile.Parse(file, bytes.NewReader(d.corefile.Contents), dnsserver.Directives)
	if err != nil { // it was read a moment ago
		d.found.Errorf(file, "%v", err)
		return
	}
	if !hasDirective(blocks, pluginName) {
		d.found.Warnf(file, "no server block has balance")
	}
	for _, name := range asking {
		if hasDirective(blocks, name) {
			d.found.Warnf(file, "%s: not checked, because its set-up may ask other hosts", name)
		}
	}
	if wrong, _ := d.found.Count(); wrong == 0 {
		d.findUnread()
	}
	for _, b := range d.blocks {
		if len(b.rules) > 0 {
			for _, warning := range warningsOfChain(b.config, b.rules) {
				d.found.Warnf(b.rules[0].heading.String(), "%s", warning)
			}
		}
	}
	d.compare(blocks)
}

// findUnread adds the files that stand in for none.
func (d *dryRun) findUnread() {
	for option, file := range d.standIns {
		if d.replaced[option] == "" {
			d.found.Errorf(file, "not read, because no rule of %s has the option %s", d.corefile.Filepath, option)
		}
	}
}

// start has Caddy start a server, which fails at the end of the set-up at the latest.
func (d *dryRun) start() error {
	registerDryRun()
	all := slices.Clone(dnsserver.Directives)
	dryRunning = d
	defer func() { dryRunning, dnsserver.Directives = nil, all }()
	if err := dnsserver.SetDirectives(slices.Concat([]string{firstDirective}, all, []string{lastDirective})); err != nil {
		return err
	}
	_, err := caddy.Start(d.corefile)
	return err
}

// needsCluster reports whether kubernetes cannot be set up because there is no cluster around.
func (d *dryRun) needsCluster(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "plugin/kubernetes: ") && !strings.Contains(err.Error(), " - Error during parsing: ") &&
		!slices.Contains(d.without, "kubernetes")
}

// takeLog keeps the warnings and errors that other plugins logged. Those of balance come with their
// lines.
func (d *dryRun) takeLog(logged string) {
	for line := range strings.Lines(logged) {
		line = strings.TrimSuffix(line, "\n")
		if message, ok := strings.CutPrefix(line, "[WARNING] "); ok && !strings.HasPrefix(message, "plugin/"+pluginName+": ") {
			d.found.Warnf(d.corefile.Filepath, "%s", message)
		}
		if message, ok := strings.CutPrefix(line, "[ERROR] "); ok && !strings.HasPrefix(message, "plugin/"+pluginName+": ") {
			d.found.Errorf(d.corefile.Filepath, "%s", message)
		}
	}
}

func hasDirective(blocks []caddyfile.ServerBlock, name string) bool {
	return slices.ContainsFunc(blocks, func(b caddyfile.ServerBlock) bool { return b.Tokens[name] != nil })
}

// warnOfRules adds what a server that starts warns of in rules and their files.
func (d *dryRun) warnOfRules(rules []*rule) {
	for _, r := range rules {
		for _, warning := range r.warnings {
			d.found.Warnf(d.corefile.Filepath, "%s", warning)
		}
		if r.file != nil {
			for _, warning := range r.file.weights.Load().Warnings {
				d.found.Warnf(r.file.Name(), "%s:%s", r.file.Name(), warning)
			}
		}
		if r.overrides != nil && r.overrides.State().Missing {
			d.found.Warnf(r.options["overrides"].String(), "overrides: %s is missing: no overrides until it is there", r.overrides.Name())
		}
		d.checkCluster(r)
	}
}

// checkCluster adds why the cluster that localities come from cannot be followed, which a server
// says when it starts. Outside a cluster, as in a CI, that need not be wrong.
func (d *dryRun) checkCluster(r *rule) {
	if r.localities == nil || r.localities.cluster == nil {
		return
	}
	err := r.localities.cluster.Check()
	switch at := r.options["locality"].String(); {
	case err == nil:
	case r.localities.cluster.Kubeconfig == "":
		d.found.Warnf(at, "locality %v; not checked", err)
	default:
		d.found.Errorf(at, "locality %v", err)
	}
}

// noteError notes the error of a server block, if there is one, so that the dry run goes on. In a
// server it returns the error. The receiver may be nil.
func (d *dryRun) noteError(err error) error {
	if d == nil || err == nil {
		return err
	}
	d.found.Errorf(d.corefile.Filepath, "%s", strings.TrimPrefix(err.Error(), "plugin/"+pluginName+": "))
	return nil
}

// note keeps a block for what is found of it later. The receiver may be nil.
func (d *dryRun) note(c *caddy.Controller, rules []*rule, byZone map[string]*zoneRule) {
	if d != nil {
		d.blocks = append(d.blocks, &dryBlock{*c, dnsserver.GetConfig(c), rules, byZone})
	}
}

// standInFor returns the file that is read in place of one that an option names, which is mostly
// that one itself. The receiver may be nil.
func (d *dryRun) standInFor(option, path string) (string, error) {
	if d == nil || d.standIns[option] == "" {
		return path, nil
	}
	if earlier := d.replaced[option]; earlier != "" && earlier != path {
		return "", fmt.Errorf("%q cannot stand in for both %q and %q: check it alone", d.standIns[option], earlier, path)
	}
	d.replaced[option] = path
	return d.standIns[option], nil
}
