// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"strings"
	"testing"
)

func TestParseKeys(t *testing.T) {
	const (
		long  = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
		short = "MDEyMzQ1Njc4OWFiY2RlZg=="
	)
	for _, tc := range []struct {
		content string
		keys    int
		problem string
	}{
		{long + "\n", 1, ""},
		{"# the new one\n" + long + "\n\n  " + short + " \r\n", 2, ""},
		{"", 0, ` no key: want base64 of 16, 24 or 32 bytes, as "openssl rand -base64 32" writes it`},
		{"# none\n", 0, ` no key: want base64 of 16, 24 or 32 bytes, as "openssl rand -base64 32" writes it`},
		{long + "\nsecret!\n", 0, `2: not base64: want base64 of 16, 24 or 32 bytes, as "openssl rand -base64 32" writes it`},
		{"c2hvcnQ=", 0, `1: a key of 5 bytes: want base64 of 16, 24 or 32 bytes, as "openssl rand -base64 32" writes it`},
		{long + "\n" + short + "\n" + long, 0, "3: the key stands on an earlier line too: want it once"},
		{strings.Join([]string{
			"MDAwMDAwMDAwMDAwMDAwMA==", "MDAwMDAwMDAwMDAwMDAwMQ==", "MDAwMDAwMDAwMDAwMDAwMg==", "MDAwMDAwMDAwMDAwMDAwMw==",
			"MDAwMDAwMDAwMDAwMDAwNA==", "MDAwMDAwMDAwMDAwMDAwNQ==", "MDAwMDAwMDAwMDAwMDAwNg==", "MDAwMDAwMDAwMDAwMDAwNw==", short,
		}, "\n"), 0, "9: more than 8 keys: want those alone that are in use"},
	} {
		keys, err := ParseKeys([]byte(tc.content))
		problem := ""
		if err != nil {
			problem = err.Error()
		}
		if len(keys) != tc.keys || problem != tc.problem {
			t.Errorf("%q: %d keys, %q; want %d, %q", tc.content, len(keys), problem, tc.keys, tc.problem)
		}
	}
}
