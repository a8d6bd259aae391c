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
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestExplain(t *testing.T) {
	dial := func(errno syscall.Errno) error {
		return &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{}, Err: os.NewSyscallError("connect", errno)}
	}
	for _, tc := range []struct {
		err   error
		want  string
		local bool
	}{
		{dial(syscall.ECONNREFUSED), "connection refused", false},
		{dial(syscall.ECONNRESET), "connection reset", false},
		{dial(syscall.EPIPE), "connection reset", false},
		{dial(syscall.EHOSTUNREACH), "host unreachable", false},
		{dial(syscall.ENETUNREACH), "network unreachable", false},
		{dial(syscall.EACCES), "forbidden by a firewall on the way, or a broadcast address", false},
		{dial(syscall.ETIMEDOUT), "no answer within 2s", false},
		{dial(syscall.EPROTO), "protocol error", false},
		{dial(syscall.EMFILE), "not probed: too many open files", true},
		{dial(syscall.ENFILE), "not probed: too many open files", true},
		{dial(syscall.ENOBUFS), "not probed: out of memory for sockets", true},
		{dial(syscall.ENOMEM), "not probed: out of memory for sockets", true},
		{dial(syscall.EADDRNOTAVAIL), "not probed: no local port is free, or the source is not an address of this host", true},
		{dial(syscall.EADDRINUSE), "not probed: no local port is free, or the source is not an address of this host", true},
		{dial(syscall.EAFNOSUPPORT), "not probed: this host lacks the address family", true},
		{dial(syscall.EPERM), "not probed: forbidden by a firewall of this host", true},
		{dial(syscall.EINVAL), "not probed: this host cannot send there", true},
		{os.ErrDeadlineExceeded, "no answer within 2s", false},
		{context.DeadlineExceeded, "no answer within 2s", false},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, "no answer within 2s", false},
		{&unmet{awaited: `"220"`, err: os.ErrDeadlineExceeded}, `no "220" within 2s`, false},
		{&unmet{awaited: `"220"`, seen: `got "5"`, err: os.ErrDeadlineExceeded}, `no "220" within 2s; got "5"`, false},
		{&unmet{awaited: `"220"`, seen: `got "5"`, err: syscall.ECONNRESET}, `connection reset; got "5"`, false},
		{io.EOF, "connection closed, no answer", false},
		{io.ErrUnexpectedEOF, "connection closed, no answer", false},
		{fmt.Errorf("it: %w", reason("status 503")), "status 503", false},
		{localFault("no time left"), "not probed: no time left", true},
		{&net.OpError{Op: "read", Err: errors.New("strange\x1b[31m")}, `strange\x1b[31m`, false},
		{errors.New("tls: bad record"), "tls: bad record", false},
		{tls.RecordHeaderError{}, "tls: the peer does not speak TLS", false},
		{&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}},
			"tls: certificate: certificate is not authorized to sign other certificates", false},
		{errors.New(strings.Repeat("long ", 100)), strings.Repeat("long ", 39) + "lo...", false},
	} {
		start := time.Now()
		ctx, cancel := context.WithDeadline(t.Context(), start.Add(2*time.Second))
		err := explain(ctx, start, tc.err)
		cancel()
		checkText(t, err)
		if err.Error() != tc.want || errors.Is(err, ErrLocal) != tc.local {
			t.Errorf("%v:\ngot  %s, local %t\nwant %s, local %t", tc.err, err, errors.Is(err, ErrLocal), tc.want, tc.local)
		}
	}
}

// The end of the caller's context is no verdict, a reason found before it is.
func TestExplainCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range []struct {
		err  error
		want string
	}{
		{os.ErrDeadlineExceeded, "not probed: cancelled"},
		{io.EOF, "not probed: cancelled"},
		{reason("status 503"), "status 503"},
	} {
		if got := explain(ctx, time.Now(), tc.err).Error(); got != tc.want {
			t.Errorf("%v: got %q, want %q", tc.err, got, tc.want)
		}
	}
}

// A timeout reads as the operator wrote it, though a part of it was gone at the start.
func TestTimeoutText(t *testing.T) {
	start := time.Now()
	for _, tc := range []struct {
		left time.Duration
		want string
	}{
		{2 * time.Second, " within 2s"},
		{2*time.Second - 3*time.Millisecond, " within 2s"},
		{1250 * time.Millisecond, " within 1.25s"},
		{500*time.Millisecond - time.Microsecond, " within 500ms"},
		{50*time.Millisecond - time.Microsecond, " within 50ms"},
	} {
		ctx, cancel := context.WithDeadline(t.Context(), start.Add(tc.left))
		if got := timeoutText(ctx, start); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.left, got, tc.want)
		}
		cancel()
	}
	if got := timeoutText(t.Context(), start); got != "" {
		t.Errorf("without a deadline: got %q", got)
	}
}

func TestQuote(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"", `""`},
		{`a "b"`, `"a \"b\""`},
		{"\x00\xff\n\u00e9\u202e", `"\x00\xff\n\u00e9\u202e"`},
		{strings.Repeat("a", 60), `"` + strings.Repeat("a", 60) + `"`},
		{strings.Repeat("a", 61), `"` + strings.Repeat("a", 60) + `"...`},
		{strings.Repeat("\x00", 61), `"` + strings.Repeat(`\x00`, 15) + `"...`},
		{strings.Repeat("a", 1000), `"` + strings.Repeat("a", 60) + `"...`},
	} {
		if got := quote(tc.text); got != tc.want {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
	}
}

// Descriptors that run out are our fault, not the endpoint's.
func TestTooManyOpenFiles(t *testing.T) {
	port := serve(t, silent)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	c := must(t)(NewTCP(TCP{Port: port}))
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 0, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	err := c.Probe(t.Context(), local)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, ErrLocal) || err.Error() != "not probed: too many open files" {
		t.Errorf("got %v", err)
	}
}
