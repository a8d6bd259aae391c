// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-f1518d44/balance/internal/cidr"
	"github.com/seed-f1518d44/balance/internal/statuspage"
)

// defaultStatus is where the page of the option status is.
var defaultStatus = netip.MustParseAddrPort("127.0.0.1:9154")

// parseStatus reads "status [ADDRESS]".
func parseStatus(args []string) (netip.AddrPort, error) {
	switch len(args) {
	case 0:
		return defaultStatus, nil
	case 1:
		return parseStatusAddress(args[0])
	}
	return netip.AddrPort{}, wrongCount(args)
}

// parseStatusAddress reads an IP address, perhaps with a port. All addresses have to be written as
// 0.0.0.0 or ::, because a page there is open to the network.
func parseStatusAddress(arg string) (netip.AddrPort, error) {
	if addr, port, ok := hidesPort(arg); ok {
		return netip.AddrPort{}, fmt.Errorf("%q may be an address and a port, or an address alone: want \"[%s]:%s\" or \"[%s]\"", arg, addr, port, arg)
	}
	if addr, err := netip.ParseAddr(cidr.WithoutBrackets(arg)); err == nil {
		return netip.AddrPortFrom(addr.Unmap(), defaultStatus.Port()), nil
	}
	at, err := netip.ParseAddrPort(arg)
	if err == nil && at.Port() > 0 {
		return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
	}
	problem := fmt.Errorf("bad address %q: want an IP address and a port such as %s", arg, defaultStatus)
	if port, ok := strings.CutPrefix(arg, ":"); ok && err != nil {
		return at, fmt.Errorf("%w; 127.0.0.1:%s is for this host only, 0.0.0.0:%s for everybody who gets there", problem, port, port)
	}
	return at, problem
}

// hidesPort reports whether an IPv6 address ends in what looks like a port, as in ::1:9154, and
// what it would be without it.
func hidesPort(arg string) (addr netip.Addr, port string, ok bool) {
	if _, err := netip.ParseAddr(arg); err != nil || !strings.Contains(arg, ":") {
		return addr, "", false
	}
	at := strings.LastIndexByte(arg, ':')
	_, notDecimal := strconv.ParseUint(arg[at+1:], 10, 16)
	addr, err := netip.ParseAddr(arg[:at])
	const shortest = 3 // digits: fewer are the end of an address
	return addr, arg[at+1:], err == nil && notDecimal == nil && len(arg)-at > shortest
}

// statusPages are the pages of the process. A new server joins a page before the old one leaves it,
// so a reload keeps the listener. Safe for concurrent use.
type statusPages struct {
	sync.Mutex
	open map[netip.AddrPort]*statusPage
}

var pages = &statusPages{open: make(map[netip.AddrPort]*statusPage)}

// statusPage shows the rules of some lives.
type statusPage struct {
	server *statuspage.Server
	lives  atomic.Pointer[[]*life] // in the order that they began
	cancel context.CancelFunc
	marks  sync.WaitGroup
}

// statusAddress returns the address of the page that shows the life's rules, the zero value if
// there is none.
func (l *life) statusAddress() netip.AddrPort {
	for _, r := range l.rules {
		if r.shown() {
			return r.status
		}
	}
	return netip.AddrPort{}
}

// join adds a life to the page that shows its rules, if there is one. It returns an error if the
// page cannot be served.
func (p *statusPages) join(l *life) error {
	at := l.statusAddress()
	if !at.IsValid() {
		return nil
	}
	p.Lock()
	defer p.Unlock()
	page := p.open[at]
	if page == nil {
		page = new(statusPage)
		page.lives.Store(new([]*life))
		if err := page.start(at); err != nil {
			return fmt.Errorf("status: cannot listen on %s: %w", at, reasonOfListen(err))
		}
		p.open[at] = page
	}
	lives := append(slices.Clone(*page.lives.Load()), l)
	page.lives.Store(&lives)
	return nil
}

// leave ends what join began. The last life closes the page.
func (p *statusPages) leave(l *life) {
	p.Lock()
	defer p.Unlock()
	at := l.statusAddress()
	page := p.open[at]
	if page == nil {
		return
	}
	lives := slices.DeleteFunc(slices.Clone(*page.lives.Load()), func(one *life) bool { return one == l })
	page.lives.Store(&lives)
	if len(lives) > 0 {
		return
	}
	delete(p.open, at)
	page.stop()
	if len(p.open) == 0 {
		inUse.forget()
	}
}

func (p *statusPage) start(at netip.AddrPort) error {
	server, err := statuspage.Listen(at, p.document, p.why)
	if err != nil {
		return err
	}
	log.Infof("status: http://%s/", at)
	p.server = server
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.marks.Go(func() { keepMarks(ctx) })
	return nil
}

// document returns what there is to show. A life that leaves meanwhile takes its endpoints with it,
// so the document is made again if the lives have changed.
func (p *statusPage) document() *statuspage.Document {
	for {
		lives := p.lives.Load()
		if document := newOverview(*lives).document(); p.lives.Load() == lives {
			return document
		}
	}
}

// why returns the answer that a client would get.
func (p *statusPage) why(ctx context.Context, q statuspage.Question) *statuspage.Why {
	return explain(ctx, *p.lives.Load(), q)
}

func (p *statusPage) stop() {
	p.server.Close()
	p.cancel()
	p.marks.Wait()
}

// keepMarks reads the lead counts every markInterval until ctx is done.
func keepMarks(ctx context.Context) {
	tick := time.NewTicker(markInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			inUse.update(now)
		}
	}
}
