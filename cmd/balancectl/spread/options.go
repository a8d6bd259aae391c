// SPDX-License-Identifier: Apache-2.0

package spread

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// options is a command line.
type options struct {
	name    string // fully qualified
	qtype   uint16
	server  string // host and port
	port    int
	count   int
	workers int
	over    string // udp, tcp or both
	rate    float64
	timeout time.Duration
	sources series // none: the system chooses
	subnets series // none: no client subnet option
	wanted  *wanted
	json    bool
	svg     string
	watch   bool
	every   time.Duration
}

// question returns what is asked.
func (o *options) question() dns.Question {
	return dns.Question{Name: o.name, Qtype: o.qtype, Qclass: dns.ClassINET}
}

const usage = `balancectl spread asks for a name many times and shows which member led how often, against what was wanted.

  balancectl spread [flags] NAME [TYPE] [@SERVER[:PORT]]

TYPE is A (the default), AAAA, MX, SRV, HTTPS or SVCB. Without @SERVER the first of /etc/resolv.conf is asked.

`

const usageEnd = `
Exit status: 0 as wanted or exact, 1 not as wanted, 2 no verdict.

  balancectl spread www.example.org @127.0.0.1:1053                      strict round robin?
  balancectl spread -weights 192.0.2.1=5,192.0.2.2=1 api.example.org     one in six?
  balancectl spread -ecs 10.0.0.0/8/24 -n 10000 cdn.example.org @::1     by client network
  balancectl spread -watch app.example.org                               who comes and goes
`

// readOptions reads a command line. Help and what is wrong with flags goes to out.
func readOptions(args []string, out io.Writer) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet("balancectl spread", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.IntVar(&o.count, "n", 0, "questions to ask; with -watch in each round (default 1000, 10)")
	flags.IntVar(&o.workers, "c", 1, "questions in flight at a time")
	flags.IntVar(&o.port, "p", 0, "port of the server (default 53)")
	flags.StringVar(&o.over, "over", "udp", "udp, tcp or both, in turn; each question has a socket of its own")
	flags.Float64Var(&o.rate, "rate", 0, "questions a second, at most; 0: as fast as the answers come")
	flags.DurationVar(&o.timeout, "timeout", 2*time.Second, "after which a question without an answer is lost; it is not asked again")
	flags.Var(&seriesFlag{&o.sources, false}, "source", "local `ADDRESS|CIDR,...` to ask from, in turn; of a CIDR every address")
	flags.Var(&seriesFlag{&o.subnets, true}, "ecs", "client `CIDR|CIDR/LENGTH,...` to ask for (RFC 7871), in turn; 10.0.0.0/8/24 is every /24 in 10.0.0.0/8")
	weights := flags.String("weights", "", "what is wanted: `MEMBER=WEIGHT,...`, where members that are not named weigh 1, or a weight file as loadbalance has it")
	flags.BoolVar(&o.json, "json", false, "write JSON; with -watch a line for each event")
	flags.StringVar(&o.svg, "svg", "", "draw the result into this `FILE` too")
	flags.BoolVar(&o.watch, "watch", false, "show members that come and go, until interrupted")
	flags.DurationVar(&o.every, "every", time.Second, "time between the rounds of -watch")
	words, err := readWords(flags, args)
	if errors.Is(err, flag.ErrHelp) {
		printUsage(flags, out)
	}
	if err != nil {
		return nil, err
	}
	if err := o.readWords(words); err != nil {
		return nil, err
	}
	if err := o.validate(); err != nil {
		return nil, err
	}
	o.wanted, err = readWanted(*weights, o.question())
	return o, err
}

func printUsage(flags *flag.FlagSet, out io.Writer) {
	_, _ = io.WriteString(out, usage)
	flags.SetOutput(out)
	flags.PrintDefaults()
	_, _ = io.WriteString(out, usageEnd)
}

// readWords reads flags, which may stand anywhere, and returns the words between them.
func readWords(flags *flag.FlagSet, args []string) (words []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		if flags.NArg() == 0 {
			return words, nil
		}
		words, args = append(words, flags.Arg(0)), flags.Args()[1:]
	}
}

// types are those whose RRsets have members to lead.
var types = []string{"A", "AAAA", "MX", "SRV", "HTTPS", "SVCB"}

// readWords reads NAME, TYPE and @SERVER.
func (o *options) readWords(words []string) error {
	at, plain := "", []string(nil)
	for _, w := range words {
		switch server, isServer := strings.CutPrefix(w, "@"); {
		case isServer && at != "":
			return fmt.Errorf("found %q and %q: want one server", "@"+at, w)
		case isServer:
			at = server
		default:
			plain = append(plain, w)
		}
	}
	if len(plain) < 1 || len(plain) > 2 {
		return fmt.Errorf("found %q: want a name and perhaps a type; -h has more", plain)
	}
	if err := o.readName(plain[0]); err != nil {
		return err
	}
	if err := o.readType(append(plain, "A")[1]); err != nil {
		return err
	}
	return o.readServer(at)
}

func (o *options) readName(word string) error {
	if _, ok := dns.IsDomainName(word); !ok || strings.HasPrefix(word, "+") {
		return fmt.Errorf("bad name %q: want a domain name such as www.example.org", word)
	}
	o.name = dns.Fqdn(word)
	return nil
}

func (o *options) readType(word string) error {
	word = strings.ToUpper(word)
	if !slices.Contains(types, word) {
		return fmt.Errorf("unknown type %q: want one of %s", word, strings.Join(types, ", "))
	}
	o.qtype = dns.StringToType[word]
	return nil
}

// resolvConf names the servers that are asked by default.
const resolvConf = "/etc/resolv.conf"

// readServer reads what stands behind the @, empty for the system's first server.
func (o *options) readServer(word string) error {
	port := "53"
	if o.port < 0 || o.port > 65535 {
		return fmt.Errorf("bad port %d: want one from 1 to 65535", o.port)
	}
	if word == "" {
		config, err := dns.ClientConfigFromFile(resolvConf)
		if err != nil || len(config.Servers) == 0 {
			return fmt.Errorf("no server in %s: want one as @SERVER", resolvConf)
		}
		word, port = config.Servers[0], config.Port
	}
	host, given, err := splitServer(word)
	if err != nil {
		return err
	}
	switch {
	case given != "" && o.port != 0 && given != strconv.Itoa(o.port):
		return fmt.Errorf("found the ports %s and %d: want one", given, o.port)
	case given != "":
		port = given
	case o.port != 0:
		port = strconv.Itoa(o.port)
	}
	o.server = net.JoinHostPort(host, port)
	return nil
}

// splitServer splits HOST, HOST:PORT, ADDRESS or [ADDRESS]:PORT.
func splitServer(word string) (host, port string, err error) {
	if addr, err := netip.ParseAddr(strings.Trim(word, "[]")); err == nil {
		return addr.String(), "", nil
	}
	if !strings.Contains(word, ":") {
		return word, "", nil
	}
	host, port, err = net.SplitHostPort(word)
	n, numberErr := strconv.ParseUint(port, 10, 16)
	if err != nil || numberErr != nil || n == 0 || host == "" {
		return "", "", fmt.Errorf("bad server %q: want one such as @192.0.2.53, @192.0.2.53:5353 or @[2001:db8::53]:5353", "@"+word)
	}
	return host, port, nil
}

// leastRate is a question in twelve days. The time between questions that are much rarer is no
// time.Duration any more.
const leastRate = 1e-6

// mostWorkers bounds the sockets that are open at a time.
const mostWorkers = 1000

// validate checks flags, alone and with others, and fills in what depends on others.
func (o *options) validate() error {
	if o.count == 0 {
		o.count = 1000
		if o.watch {
			o.count = 10
		}
	}
	switch {
	case o.count < 1:
		return fmt.Errorf("-n %d: want at least 1", o.count)
	case o.workers < 1 || o.workers > mostWorkers:
		return fmt.Errorf("-c %d: want 1 to %d", o.workers, mostWorkers)
	case !slices.Contains([]string{"udp", "tcp", "both"}, o.over):
		return fmt.Errorf("-over %q: want udp, tcp or both", o.over)
	case o.rate != 0 && !(o.rate >= leastRate): // NaN too
		return fmt.Errorf("-rate %v: want 0, or %v or more", o.rate, leastRate)
	case o.timeout <= 0 || o.every <= 0:
		return fmt.Errorf("-timeout %v and -every %v: want more than 0", o.timeout, o.every)
	case o.watch && o.svg != "":
		return errors.New("-watch and -svg do not go together: want one of them")
	}
	return nil
}
