// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"
)

// HTTP is up if the status of the reply (RFC 9110) is expected and its body holds what it should.
// Redirects are not followed: their status counts. At most 64 KiB of headers and 64 KiB of body are
// read, the body only if Body or BodyRegex asks for it.
type HTTP struct {
	Port      uint16         // 0: endpoints name theirs
	Path      string         // with a query if need be; default "/"
	Host      string         // Host header and name to verify; default the address
	Header    http.Header    // sent as well; replaces User-Agent and Accept
	Method    string         // GET or HEAD; default GET
	Expect    []StatusRange  // statuses that are up; default 200 to 299
	Body      string         // text that the body must hold; "" for any
	BodyRegex *regexp.Regexp // what the body must match; nil for any
	HTTP2     bool           // over HTTP/2: with prior knowledge, or as agreed by ALPN over TLS
	Proxy     Proxy          // header to begin with
	TLS       *TLS           // nil: http; otherwise https, which needs Host unless insecure
	Source    netip.Addr     // to probe from, for endpoints of its family; zero for any
}

// StatusRange is a range of HTTP status codes, ends included, each 100 to 599.
type StatusRange struct{ First, Last int }

func (r StatusRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(r.First)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// httpProbe has its request ready except for the host, and reads the reply with the parser of
// net/http. It does not use http.Transport, because a connection that serves once needs neither its
// pool nor its two goroutines.
type httpProbe struct {
	*line
	host         string // "" for the address
	before       string // the request up to the host
	after        string
	http2        bool
	path         string      // for HTTP/2
	header       http.Header // for HTTP/2
	expect       []StatusRange
	expectText   string
	body         []byte
	regex        *regexp.Regexp
	request      *http.Request // tells the parser the method; never written to
	standardPort uint16        // a Host header leaves it out
}

// NewHTTP builds the check. It fails on options that make no sense and on unreadable files.
func NewHTTP(o HTTP) (*Check, error) {
	asked := o.Header // not the version in our user agent, which changes no verdict
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	l, key, err := newLine(o.Port, o.Source, o.Proxy, o.TLS, o.Host, o.protocols()...)
	if err != nil {
		return nil, err
	}
	l.speaksFirst = true
	expect, version := statusText(o.Expect), "http"
	if o.HTTP2 {
		version = "http2"
	}
	return &Check{
		name: l.scheme("http", "https") + ":" + portText(o.Port) + o.Path,
		key: fmt.Sprintf("%s %s path=%+q host=%+q method=%s header=%+q expect=%s body=%+q regex=%+q",
			version, key, o.Path, o.Host, o.Method, canonical(asked), expect, o.Body, regexText(o.BodyRegex)),
		port: o.Port,
		protocol: &httpProbe{
			line:         l,
			host:         o.Host,
			before:       o.Method + " " + o.Path + " HTTP/1.1\r\nHost: ",
			after:        "\r\n" + headerText(o.Header) + "Connection: close\r\n\r\n",
			http2:        o.HTTP2,
			path:         o.Path,
			header:       o.Header,
			expect:       o.Expect,
			expectText:   expect,
			body:         []byte(o.Body),
			regex:        o.BodyRegex,
			request:      &http.Request{Method: o.Method},
			standardPort: standardPort(l),
		},
	}, nil
}

// protocols are those to agree on over TLS.
func (o HTTP) protocols() []string {
	if o.HTTP2 {
		return []string{"h2"}
	}
	return nil
}

// withDefaults returns a copy that has the defaults of what was left out.
func (o HTTP) withDefaults() HTTP {
	if o.Path == "" {
		o.Path = "/"
	}
	if o.Method == "" {
		o.Method = http.MethodGet
	}
	if len(o.Expect) == 0 {
		o.Expect = []StatusRange{{200, 299}}
	}
	o.Expect = slices.Clone(o.Expect)
	header := canonical(o.Header)
	for name, value := range map[string]string{"User-Agent": userAgent, "Accept": "*/*"} {
		if header[name] == nil {
			header.Set(name, value)
		}
	}
	o.Header = header
	return o
}

// canonical returns a copy of a header whose names are spelled as in HTTP/1.1.
func canonical(header http.Header) http.Header {
	canon := make(http.Header)
	for _, name := range slices.Sorted(maps.Keys(header)) {
		for _, value := range header[name] {
			canon.Add(name, value)
		}
	}
	return canon
}

func (o HTTP) validate() error {
	if err := checkPath(o.Path); err != nil {
		return err
	}
	if o.Method != http.MethodGet && o.Method != http.MethodHead {
		return fmt.Errorf("method: %q: want GET or HEAD", o.Method)
	}
	if err := checkHeader(o.Header); err != nil {
		return err
	}
	for _, r := range o.Expect {
		if r.First < 100 || r.Last > 599 || r.First > r.Last {
			return fmt.Errorf("expect: %q: want statuses of 100 to 599", r)
		}
	}
	return o.checkBody()
}

func (o HTTP) checkBody() error {
	asked := o.Body != "" || o.BodyRegex != nil
	switch {
	case o.Body != "" && o.BodyRegex != nil:
		return fmt.Errorf("body: %q with body_regex %q: want one of them", o.Body, o.BodyRegex)
	case asked && o.Method == http.MethodHead:
		return fmt.Errorf("method: %q with body or body_regex: want GET", o.Method)
	case len(o.Body) > maxRead:
		return fmt.Errorf("body: text of %d bytes: want at most %d", len(o.Body), maxRead)
	}
	return nil
}

func checkPath(path string) error {
	special := func(r rune) bool { return r <= ' ' || r > '~' || r == '#' }
	if _, err := url.ParseRequestURI(path); err != nil || path[0] != '/' || strings.ContainsFunc(path, special) {
		return fmt.Errorf("path: %q: want it to begin with / and its special characters escaped", path)
	}
	return nil
}

func checkHeader(header http.Header) error {
	for name, values := range header {
		switch name {
		case "Host":
			return fmt.Errorf("header: %q: want the option host for it", name)
		case "Connection", "Content-Length", "Transfer-Encoding", "Upgrade", "Expect", "Trailer", "Te":
			return fmt.Errorf("header: %q: want one that does not concern the connection", name)
		}
		if !httpguts.ValidHeaderFieldName(name) {
			return fmt.Errorf("header: name %q: want letters, digits and hyphens", name)
		}
		for _, value := range values {
			if !httpguts.ValidHeaderFieldValue(value) {
				return fmt.Errorf("header %s: value %q: want text on one line", name, value)
			}
		}
	}
	return nil
}

func headerText(header http.Header) string {
	var b strings.Builder
	_ = header.Write(&b) // sorted; a strings.Builder cannot fail
	return b.String()
}

func statusText(ranges []StatusRange) string {
	var texts []string
	for _, r := range ranges {
		texts = append(texts, r.String())
	}
	return strings.Join(texts, ",")
}

func standardPort(l *line) uint16 {
	if l.tls != nil {
		return 443
	}
	return 80
}

func regexText(r *regexp.Regexp) string {
	if r == nil {
		return ""
	}
	return r.String()
}

func (p *httpProbe) probe(ctx context.Context, endpoint netip.AddrPort) error {
	_, err := p.report(ctx, endpoint)
	return err
}

func (p *httpProbe) report(ctx context.Context, endpoint netip.AddrPort) (said Report, err error) {
	err = p.talk(ctx, endpoint, func(c *call) error {
		header, err := p.ask(c, endpoint)
		if err == nil {
			said.Load, said.BadLoad = loadOf(header)
		}
		return err
	})
	return said, err
}

// ask makes the call. It returns the header of the reply, and an error if the endpoint is not up.
func (p *httpProbe) ask(c *call, endpoint netip.AddrPort) (http.Header, error) {
	if p.http2 {
		return p.ask2(c.Conn, endpoint)
	}
	if _, err := io.WriteString(c, p.before+p.hostFor(endpoint)+p.after); err != nil {
		return nil, err
	}
	c.peerFirst = true // the request asks for it
	return p.judge(c)
}

// ask2 makes the call over HTTP/2.
func (p *httpProbe) ask2(c io.ReadWriter, endpoint netip.AddrPort) (http.Header, error) {
	r, err := begin2(c, request2(p.fields(endpoint), nil))
	if err != nil {
		return nil, err
	}
	defer r.release()
	if err := p.judgeStatus(r.status, r.header); err != nil || !p.wantsBody() {
		return r.header, err
	}
	return r.header, p.judgeBody(body2{r})
}

// fields are the header of an HTTP/2 request (RFC 9113, section 8.3.1).
func (p *httpProbe) fields(endpoint netip.AddrPort) []hpack.HeaderField {
	fields := []hpack.HeaderField{
		{Name: ":method", Value: p.request.Method}, {Name: ":scheme", Value: p.scheme("http", "https")},
		{Name: ":authority", Value: p.hostFor(endpoint)}, {Name: ":path", Value: p.path},
	}
	for _, name := range slices.Sorted(maps.Keys(p.header)) {
		for _, value := range p.header[name] {
			fields = append(fields, hpack.HeaderField{Name: strings.ToLower(name), Value: value})
		}
	}
	return fields
}

func (p *httpProbe) wantsBody() bool {
	return len(p.body) > 0 || p.regex != nil
}

// hostFor returns the Host header.
func (p *httpProbe) hostFor(endpoint netip.AddrPort) string {
	if p.host != "" {
		return p.host
	}
	if endpoint.Port() != p.standardPort {
		return endpoint.String()
	}
	if endpoint.Addr().Is6() {
		return "[" + endpoint.Addr().String() + "]"
	}
	return endpoint.Addr().String()
}

// reply reads what a peer sends, with a bound.
type reply struct {
	*bufio.Reader
	limit limited
}

var replies = sync.Pool{New: func() any { return &reply{Reader: bufio.NewReader(nil)} }}

// newReply returns a reply of at most so many bytes, whose reads fail with full beyond.
func newReply(peer io.Reader, most int, full error) *reply {
	r := replies.Get().(*reply)
	r.limit = limited{Reader: peer, left: most, full: full, first: r.limit.first[:0]}
	r.Reset(&r.limit)
	return r
}

// release gives a reply's buffers back. The pool must not keep the connection.
func (r *reply) release() {
	r.limit.Reader = nil
	r.Reset(nil)
	replies.Put(r)
}

var errHead = reason("headers longer than 64 KiB")

// judge reads a reply. It returns its header, and an error if the endpoint is not up.
func (p *httpProbe) judge(peer io.Reader) (http.Header, error) {
	r := newReply(peer, maxRead, errHead)
	defer r.release()
	response, err := p.read(r) //nolint:bodyclose // Close would read to the end of the body
	if err != nil {
		return nil, err
	}
	if err := p.judgeStatus(response.StatusCode, response.Header); err != nil || !p.wantsBody() {
		return response.Header, err
	}
	r.limit.left, r.limit.full = maxFramed, errFraming
	return response.Header, p.judgeBody(response.Body)
}

// judgeStatus says what is wrong with the status of a reply. A rate limit (RFC 6585, section 4) is
// no verdict. Retry-After is kept for the statuses that it is defined for (RFC 9110, section
// 10.2.3).
func (p *httpProbe) judgeStatus(code int, header http.Header) error {
	for _, r := range p.expect {
		if r.First <= code && code <= r.Last {
			return nil
		}
	}
	said := reason(fmt.Sprintf("status %d, want %s", code, p.expectText))
	switch code {
	case http.StatusTooManyRequests:
		return &qualified{reason: said, kind: ErrInconclusive, retryAfter: retryAfter(header)}
	case http.StatusServiceUnavailable:
		return &qualified{reason: said, retryAfter: retryAfter(header)}
	}
	return said
}

// retryAfter returns what a Retry-After header asks for, 0 if there is none or it makes no sense.
func retryAfter(header http.Header) time.Duration {
	const longest = 24 * time.Hour
	value := header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, longest)
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now := time.Now()
	if date, err := http.ParseTime(header.Get("Date")); err == nil {
		now = date // the clock of the server
	}
	return min(max(0, at.Sub(now)), longest)
}

// read reads the head of the reply, past interim ones (RFC 9110, section 15.2).
func (p *httpProbe) read(r *reply) (*http.Response, error) {
	for {
		if _, err := r.Peek(1); err != nil {
			return nil, err
		}
		buffered, _ := r.Peek(min(r.Buffered(), maxQuoted))
		r.limit.first = append(r.limit.first[:0], buffered...)
		response, err := http.ReadResponse(r.Reader, p.request)
		if err == nil && response.ProtoMajor != 1 {
			err = errVersion
		}
		if err != nil {
			return nil, r.unreadable(err)
		}
		if code := response.StatusCode; code >= 200 || code == http.StatusSwitchingProtocols {
			return response, nil
		}
	}
}

var errVersion = errors.New("neither HTTP/1.0 nor HTTP/1.1")

// unreadable distinguishes a reply that ended early from one that is not HTTP. The error of the
// parser does not, because it takes half a line for a complete one.
func (r *reply) unreadable(err error) error {
	line, _, _ := bytes.Cut(r.limit.first, []byte("\r\n"))
	failed := r.limit.err != nil && !errors.Is(r.limit.err, io.EOF)
	cut := errors.Is(err, io.ErrUnexpectedEOF) && bytes.HasPrefix(r.limit.first, []byte("HTTP/1."))
	if isHTTP2(r.limit.first) {
		return reason("the peer speaks HTTP/2: want the option http2")
	}
	if !failed && !cut {
		return reason("not an HTTP/1.1 reply: " + quote(line))
	}
	return &unmet{awaited: "end of the headers", seen: "got " + quote(line), err: cmp.Or(r.limit.err, err)}
}

// maxFramed is how many bytes are read for a body of 64 KiB. In chunks of one byte it takes six
// times its size on the wire (RFC 9112, section 7.1).
const maxFramed = 8 * maxRead

var errFraming = reason("body in chunks too small")

func (p *httpProbe) judgeBody(body io.Reader) error {
	if p.regex != nil {
		return p.judgeRegex(body)
	}
	err := await(body, p.body)
	if errors.Is(err, io.EOF) || errors.Is(err, errAbsent) {
		return reason("body lacks " + quote(p.body) + " in its first 64 KiB")
	}
	return err
}

// judgeRegex reads the whole body, or its first 64 KiB, because what comes later can undo a match.
func (p *httpProbe) judgeRegex(body io.Reader) error {
	got, err := io.ReadAll(io.LimitReader(body, maxRead))
	switch {
	case err != nil:
		return &unmet{awaited: "end of the body", err: err}
	case !p.regex.Match(got):
		return reason("body does not match " + quote(p.regex.String()) + " in its first 64 KiB")
	}
	return nil
}
