// SPDX-License-Identifier: Apache-2.0

package statuspage

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// listen starts a server on a free port, which is below those that systems hand out by themselves.
func listen(t *testing.T, source func() *Document) (*Server, netip.AddrPort) {
	t.Helper()
	for range 1000 {
		addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(15_000+rand.IntN(15_000)))
		s, err := Listen(addr, source, nil)
		if err == nil {
			t.Cleanup(s.Close)
			return s, addr
		}
	}
	t.Fatal("no port is free")
	return nil, netip.AddrPort{}
}

// get asks on a connection of its own.
func get(addr netip.AddrPort, path string) (int, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	response, err := client.Get("http://" + addr.String() + path)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

// occupy opens connections, sends the same on each, and reads the reply to it if there is one.
func occupy(t *testing.T, addr netip.AddrPort, n int, send string, reply bool) []net.Conn {
	t.Helper()
	var conns []net.Conn
	for range n {
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := io.WriteString(c, send); err != nil {
			t.Fatal(err)
		}
		if reply {
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		conns = append(conns, c)
	}
	return conns
}

const request = "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"

func TestClosedServerIsGone(t *testing.T) {
	s, addr := listen(t, sample)
	if _, err := Listen(addr, sample, nil); err == nil {
		t.Error("two servers have one address")
	}
	occupy(t, addr, 1, "", false)
	if status, err := get(addr, JSONPath); status != http.StatusOK {
		t.Errorf("%d %v, want 200", status, err)
	}
	s.Close()
	if _, err := net.Dial("tcp", addr.String()); err == nil {
		t.Error("it listens after its end")
	}
}

// Connections that do nothing keep nobody away, whatever they sent before.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	for name, tc := range map[string]struct {
		send  string
		reply bool
	}{
		"silent":                {},
		"half a request":        {send: "GET / HTTP/1.1\r\nHost: "},
		"kept after a request":  {send: fmt.Sprintf(request, "/icon.svg"), reply: true},
		"a body that never is":  {send: "GET /icon.svg HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"},
		"TLS on the plain port": {send: "\x16\x03\x01\x02\x00\x01"},
	} {
		t.Run(name, func(t *testing.T) {
			took := time.Hour
			for range 5 { // a busy machine may stand still for as long
				_, addr := listen(t, sample)
				occupy(t, addr, 5*maxConnections, tc.send, tc.reply)
				begun := time.Now()
				if status, err := get(addr, PagePath); status != http.StatusOK {
					t.Fatalf("%d %v, want 200", status, err)
				}
				if took = min(took, time.Since(begun)); took < patience {
					return
				}
			}
			t.Errorf("after %v at best, want within %v", took, patience)
		})
	}
}

// A request in flight keeps its connection while an idle one can make room instead.
func TestRequestInFlightIsNotCut(t *testing.T) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	_, addr := listen(t, func() *Document {
		close(begun)
		<-goOn
		return sample()
	})
	conn := occupy(t, addr, 1, fmt.Sprintf(request, JSONPath), false)[0]
	<-begun
	occupy(t, addr, 5*maxConnections, "", false)
	if status, err := get(addr, "/icon.svg"); status != http.StatusOK {
		t.Fatalf("%d %v, want 200", status, err)
	}
	close(goOn)
	reply := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(conn, reply); err != nil || !slices.Equal(reply, []byte("HTTP/1.1 200")) {
		t.Errorf("%q %v, want the document", reply, err)
	}
}

// Requests that last, as those of clients that do not read, make room in the end.
func TestRequestsThatLastMakeRoom(t *testing.T) {
	goOn := make(chan struct{})
	_, addr := listen(t, func() *Document {
		<-goOn
		return sample()
	})
	t.Cleanup(func() { close(goOn) })
	occupy(t, addr, maxConnections, fmt.Sprintf(request, JSONPath), false)
	begun := time.Now()
	status, err := get(addr, "/icon.svg")
	if took := time.Since(begun); status != http.StatusOK || took > 10*patience {
		t.Errorf("%d %v after %v, want 200 after about %v", status, err, took, patience)
	}
}

// A server that waits for room ends at once.
func TestFullServerCloses(t *testing.T) {
	goOn := make(chan struct{})
	s, addr := listen(t, func() *Document {
		<-goOn
		return sample()
	})
	occupy(t, addr, maxConnections+1, fmt.Sprintf(request, JSONPath), false)
	close(goOn)
	s.Close()
}
