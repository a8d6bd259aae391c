// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

const (
	maxReason = 200 // bytes of an error
	maxQuoted = 60  // bytes of what a peer said, once quoted
)

// reason is a failure in its final wording.
type reason string

func (r reason) Error() string { return string(r) }

// localFault is a reason that says nothing about the endpoint.
type localFault string

func (f localFault) Error() string        { return ErrLocal.Error() + ": " + string(f) }
func (f localFault) Is(target error) bool { return target == ErrLocal }

// unmet is an error that came instead of what was awaited.
type unmet struct {
	awaited string
	seen    string // what came instead, "" for nothing
	err     error
}

func (u *unmet) Error() string { return u.err.Error() }
func (u *unmet) Unwrap() error { return u.err }

// connected is an error that came after the connection was made.
type connected struct{ error }

func (c *connected) Unwrap() error { return c.error }

// explain puts an error of a probe that began at start into an operator's words.
func explain(ctx context.Context, start time.Time, err error) error {
	var said reason
	var more *qualified
	var none *noSay
	var fault localFault
	switch {
	case errors.As(err, &none):
		return withoutSay(explain(ctx, start, none.error))
	case errors.As(err, &more):
		more.reason = reason(printable(string(more.reason)))
		return more
	case errors.As(err, &said):
		return reason(printable(string(said)))
	case errors.Is(ctx.Err(), context.Canceled):
		return localFault("cancelled")
	case errors.As(err, &fault):
		return localFault(printable(string(fault)))
	}
	if text := localText(err); text != "" {
		return localFault(text)
	}
	return reason(printable(failure(ctx, start, err)))
}

// withoutSay makes ErrNoSay of a failure, and leaves a local error one.
func withoutSay(err error) error {
	if errors.Is(err, ErrLocal) {
		return err
	}
	return &qualified{reason: reason(err.Error()), kind: ErrNoSay}
}

// failure says what ended a probe, and what was seen until then.
func failure(ctx context.Context, start time.Time, err error) string {
	wait := unmet{awaited: "answer"}
	var u *unmet
	if errors.As(err, &u) {
		wait = *u
	}
	text := errorText(err)
	switch {
	case isTimeout(err):
		text = "no " + wait.awaited + timeoutText(ctx, start)
		if c := (*connected)(nil); errors.As(err, &c) {
			text = "connected, " + text
		}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		text = "connection closed, no " + wait.awaited
	case errors.Is(err, errAbsent):
		text = "no " + wait.awaited + " in the first 64 KiB"
	case errors.Is(err, errMisfits):
		text = fmt.Sprintf("no %s in %d replies", wait.awaited, maxMisfits)
	}
	if wait.seen != "" {
		text += "; " + wait.seen
	}
	return text
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

// timeoutText says how long a probe waited: " within 2s". It rounds up to the timeout that the
// operator wrote, because part of that has passed when the probe begins.
func timeoutText(ctx context.Context, start time.Time) string {
	end, ok := ctx.Deadline()
	if !ok {
		return ""
	}
	unit := time.Millisecond
	if end.Sub(start) > 100*unit {
		unit *= 10
	}
	return " within " + (end.Sub(start) + unit - 1).Truncate(unit).String()
}

// localText describes an error of this host. It returns "" for any other.
func localText(err error) string {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return ""
	}
	switch errno {
	case syscall.EMFILE, syscall.ENFILE:
		return "too many open files"
	case syscall.ENOBUFS, syscall.ENOMEM:
		return "out of memory for sockets"
	case syscall.EADDRNOTAVAIL, syscall.EADDRINUSE:
		return "no local port is free, or the source is not an address of this host"
	case syscall.EAFNOSUPPORT:
		return "this host lacks the address family"
	case syscall.EPERM:
		return "forbidden by a firewall of this host"
	case syscall.EINVAL:
		return "this host cannot send there"
	}
	return ""
}

// errorText describes an error that is neither local nor a timeout.
func errorText(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errnoText(errno)
	}
	if text := certificateText(err); text != "" {
		return "tls: " + text
	}
	if text := tlsText(err); text != "" {
		return "tls: " + text
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err // without the addresses, which differ from probe to probe
	}
	return err.Error()
}

func errnoText(errno syscall.Errno) string {
	switch errno {
	case syscall.ECONNREFUSED:
		return "connection refused"
	case syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED:
		return "connection reset"
	case syscall.EHOSTUNREACH:
		return "host unreachable"
	case syscall.ENETUNREACH:
		return "network unreachable"
	case syscall.EACCES: // an ICMPv6 "administratively prohibited", a prohibit route, or broadcast
		return "forbidden by a firewall on the way, or a broadcast address"
	}
	return errno.Error()
}

// certificateText says what is wrong with the server's certificate, "" if nothing is.
func certificateText(err error) string {
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var issuer x509.UnknownAuthorityError
	var other *tls.CertificateVerificationError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return validityText(invalid.Cert)
	case errors.As(err, &name):
		return fmt.Sprintf("certificate is not for %s", quote(name.Host))
	case errors.As(err, &issuer):
		return "certificate of an unknown issuer"
	case errors.As(err, &other):
		return "certificate: " + strings.TrimPrefix(other.Err.Error(), "x509: ")
	}
	return ""
}

func validityText(c *x509.Certificate) string {
	if now := time.Now(); now.Before(c.NotBefore) {
		return "certificate not valid before " + c.NotBefore.UTC().Format(time.RFC3339)
	}
	return "certificate expired on " + c.NotAfter.UTC().Format(time.RFC3339)
}

// tlsText says what else went wrong with TLS, "" if nothing did.
func tlsText(err error) string {
	var header tls.RecordHeaderError
	var op *net.OpError
	switch {
	case errors.As(err, &header):
		return "the peer does not speak TLS"
	case errors.As(err, &op) && op.Op == "remote error":
		return "the peer says " + quote(strings.TrimPrefix(op.Err.Error(), "tls: "))
	case strings.HasPrefix(err.Error(), "tls: "):
		return strings.TrimPrefix(err.Error(), "tls: ")
	}
	return ""
}

// quote quotes what a peer or the operator wrote, shortened to maxQuoted bytes of printable ASCII.
func quote[T string | []byte](text T) string {
	var b strings.Builder
	for rest := string(text[:min(len(text), 4*maxQuoted)]); rest != ""; {
		_, size := utf8.DecodeRuneInString(rest)
		escaped := strconv.QuoteToASCII(rest[:size])
		if b.Len()+len(escaped)-2 > maxQuoted {
			return `"` + b.String() + `"...`
		}
		b.WriteString(escaped[1 : len(escaped)-1])
		rest = rest[size:]
	}
	return `"` + b.String() + `"`
}

// printable makes text one line of at most maxReason bytes. What was quoted passes unchanged.
func printable(text string) string {
	special := func(r rune) bool { return r < ' ' || r > '~' }
	if strings.ContainsFunc(text, special) {
		quoted := strconv.QuoteToASCII(text)
		text = quoted[1 : len(quoted)-1]
	}
	if len(text) > maxReason {
		text = text[:maxReason-3] + "..."
	}
	return text
}
