// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/seed-f1518d44/balance/internal/statuspage"
)

// pageFaults are what people and programs do to the status page.
func pageFaults() []fault {
	add := func(name string, inject func(ctx context.Context, w *world, r *rand.Rand) (func() error, error)) fault {
		return fault{name: "status: " + name, lane: lanePage, hold: 4 * time.Second, inject: inject}
	}
	return []fault{add("connections that say nothing", loiterers), add("requests that are none", nonsense), add("looked at by many", crowdOfLookers)}
}

// loiterers open as many connections as the page accepts, and send nothing or half a request. The
// page closes them in time.
func loiterers(_ context.Context, _ *world, r *rand.Rand) (end func() error, err error) {
	var conns []net.Conn
	for range 64 {
		c, err := net.Dial("tcp", statusAddress)
		if err != nil {
			return nil, err
		}
		conns = append(conns, c)
		if r.IntN(2) == 0 {
			write(c, "GET / HTTP/1.1\r\nHo")
		}
	}
	return func() error {
		for _, c := range conns {
			c.Close() //nolint:errcheck,gosec // done with
		}
		return nil
	}, nil
}

// nonsense sends what the page has to refuse: bytes that are no request, other methods and paths,
// the name of another host, headers without end.
func nonsense(ctx context.Context, w *world, r *rand.Rand) (end func() error, err error) {
	requests := []string{
		"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", "GET /v1/status HTTP/1.1\r\nHost: example.org\r\n\r\n",
		"GET /../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\n" + fmt.Sprintf("X: %040000d\r\n\r\n", 0),
		"GET / HTTP/1.1\r\n\r\n", string(noise(r.Uint64(), 100)) + "\r\n\r\n",
	}
	return repeat(ctx, 4, 20*time.Millisecond, func(i int) {
		text := requests[i%len(requests)]
		if status := statusOf(text); status > 0 && status < 400 {
			w.violation("the status page is wrong", "status is %d for %.60q, want none or an error", status, text)
		}
	}), nil
}

// statusOf sends a request and returns the status of the response; 0 for none.
func statusOf(request string) (status int) {
	c, err := net.DialTimeout("tcp", statusAddress, replyWithin)
	if err != nil {
		return 0
	}
	defer c.Close() //nolint:errcheck // done with
	if c.SetDeadline(time.Now().Add(replyWithin)) != nil {
		return 0
	}
	write(c, request)
	fmt.Fscanf(c, "HTTP/1.1 %d", &status) //nolint:errcheck,gosec // 0 then
	return status
}

// crowdOfLookers reads the page and the document as fast as possible, in parallel.
func crowdOfLookers(ctx context.Context, w *world, _ *rand.Rand) (end func() error, err error) {
	return repeat(ctx, 8, 10*time.Millisecond, func(i int) {
		from := time.Now()
		path := []string{statuspage.JSONPath, statuspage.PagePath}[i%2]
		response, err := own.Get("http://" + statusAddress + path) //nolint:noctx // it has a timeout
		if err == nil {
			_, err = io.Copy(io.Discard, response.Body)
			response.Body.Close() //nolint:errcheck,gosec // only read
		}
		switch {
		case err != nil:
			w.lostLook(path, from, time.Now(), err)
		case response.StatusCode != http.StatusOK:
			w.violation("the status page is wrong", "%s: status is %s", path, response.Status)
		default:
			w.count.query("the status page", path, false)
		}
	}), nil
}

// repeat runs a function over and over, several times in parallel. The result ends that.
func repeat(ctx context.Context, many int, every time.Duration, do func(i int)) (end func() error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for n := range many {
		wg.Go(func() {
			for i := n; pause(ctx, every) == nil; i++ {
				do(i)
			}
		})
	}
	return func() error { cancel(); wg.Wait(); return nil }
}
