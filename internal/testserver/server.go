// SPDX-License-Identifier: Apache-2.0

package testserver

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"
)

// Server is a CoreDNS in a process of its own.
type Server struct {
	*Process
	Port     string // of DNS, on 127.0.0.1
	Corefile string // its path
	Client   *Client

	t testing.TB
}

// Serve starts a binary on a free port until the test ends. It returns once the server answers.
func Serve(t testing.TB, binary string, corefile func(port string) string) *Server {
	t.Helper()
	s := &Server{t: t, Port: FreePort(t), Corefile: filepath.Join(t.TempDir(), "Corefile")}
	Write(t, s.Corefile, corefile(s.Port))
	cmd := exec.CommandContext(t.Context(), binary, "-conf", s.Corefile) //nolint:gosec // what is tested
	cmd.Dir = filepath.Dir(s.Corefile)
	s.Process = Start(t, cmd)
	// A socket that asked before anybody listened has an error to show.
	Eventually(t, "the server answers", func() bool {
		s.Client = Dial(t, "udp", s.Addr(), "")
		_, err := s.Client.TryAsk(Query(".", dns.TypeNS))
		return err == nil
	})
	return s
}

// Addr returns the address of DNS.
func (s *Server) Addr() string { return "127.0.0.1:" + s.Port }

// Reload replaces the Corefile and waits until the log says something.
func (s *Server) Reload(corefile, says string) {
	s.t.Helper()
	Write(s.t, s.Corefile, corefile)
	if err := s.Cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		s.t.Fatal(err)
	}
	Eventually(s.t, says, func() bool { return strings.Contains(s.Log.String(), says) })
}

// End asks the server to end, waits until it has, and fails the test if it did not end well.
func (s *Server) End() {
	s.t.Helper()
	if err := s.Process.End(syscall.SIGTERM); err != nil {
		s.t.Error(err)
	}
}
