// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"testing"
	"time"
)

// A rate limit is no verdict, and what the endpoint asks for is returned with it.
func TestHTTPRetryAfter(t *testing.T) {
	for _, tc := range []struct {
		name, head   string
		check        HTTP
		want         string
		inconclusive bool
		after        time.Duration
	}{
		{"limited", "429 Too Many Requests\r\n", HTTP{}, "status 429, want 200-299", true, 0},
		{"limited for a while", "429 Too Many Requests\r\nRetry-After: 120\r\n", HTTP{}, "status 429, want 200-299", true, 2 * time.Minute},
		{"limited, 429 expected", "429 Too Many Requests\r\n", HTTP{Expect: []StatusRange{{429, 429}}}, "", false, 0},
		{"unavailable", "503 Unavailable\r\nRetry-After: 7\r\n", HTTP{}, "status 503, want 200-299", false, 7 * time.Second},
		{"a date", "503 Unavailable\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nRetry-After: Mon, 02 Jan 2006 15:05:00 GMT\r\n", HTTP{},
			"status 503, want 200-299", false, 55 * time.Second},
		{"a date long gone", "503 Unavailable\r\nRetry-After: Mon, 02 Jan 2006 15:05:00 GMT\r\n", HTTP{}, "status 503, want 200-299", false, 0},
		{"beyond reason", "503 Unavailable\r\nRetry-After: 4000000000\r\n", HTTP{}, "status 503, want 200-299", false, 24 * time.Hour},
		{"negative", "503 Unavailable\r\nRetry-After: -1\r\n", HTTP{}, "status 503, want 200-299", false, 0},
		{"words", "503 Unavailable\r\nRetry-After: soon\r\n", HTTP{}, "status 503, want 200-299", false, 0},
		{"a status without", "500 Oops\r\nRetry-After: 7\r\n", HTTP{}, "status 500, want 200-299", false, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.check.Port = serve(t, repliesWith("HTTP/1.1 "+tc.head+"\r\n"))
			err := must(t)(NewHTTP(tc.check)).Probe(t.Context(), local)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tc.want || errors.Is(err, ErrInconclusive) != tc.inconclusive || RetryAfter(err) != tc.after {
				t.Errorf("got  %s, inconclusive %t, after %v\nwant %s, inconclusive %t, after %v",
					got, errors.Is(err, ErrInconclusive), RetryAfter(err), tc.want, tc.inconclusive, tc.after)
			}
			if errors.Is(err, ErrLocal) || errors.Is(err, ErrNoSay) {
				t.Error("the error is of another kind too")
			}
		})
	}
}
