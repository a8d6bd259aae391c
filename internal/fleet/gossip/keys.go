// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"

	"github.com/hashicorp/memberlist"

	"github.com/seed-f1518d44/balance/internal/text"
)

// maxKeys is the most keys in a file: every packet that cannot be decrypted is tried with all.
const maxKeys = 8

const wantKey = `want base64 of 16, 24 or 32 bytes, as "openssl rand -base64 32" writes it`

// ParseKeys reads the keys of a fleet: base64 of 16, 24 or 32 bytes, one a line. Empty lines and
// those that begin with # are skipped. Errors begin with the number of a line, and quote no key.
func ParseKeys(content []byte) (keys [][]byte, err error) {
	number := 0
	for line := range bytes.Lines(content) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(string(line))
		switch {
		case err != nil:
			return nil, fmt.Errorf("%d: not base64: %s", number, wantKey)
		case memberlist.ValidateKey(key) != nil:
			return nil, fmt.Errorf("%d: a key of %s: %s", number, text.Count(len(key), "byte"), wantKey)
		case slices.ContainsFunc(keys, func(other []byte) bool { return bytes.Equal(other, key) }):
			return nil, fmt.Errorf("%d: the key stands on an earlier line too: want it once", number)
		case len(keys) == maxKeys:
			return nil, fmt.Errorf("%d: more than %d keys: want those alone that are in use", number, maxKeys)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf(" no key: %s", wantKey)
	}
	return keys, nil
}

// setKeys replaces the keys of a ring that others read. The first one encrypts.
func setKeys(ring *memberlist.Keyring, keys [][]byte) {
	for _, key := range keys {
		_ = ring.AddKey(key) // ParseKeys validated it
	}
	_ = ring.UseKey(keys[0])
	if len(ring.GetKeys()) == len(keys) {
		return
	}
	// RemoveKey moves the keys behind the removed one in place, while others read them. So those
	// that go have to be the last, and using a key puts it first.
	for _, key := range slices.Backward(keys) {
		_ = ring.UseKey(key)
	}
	for _, key := range slices.Backward(ring.GetKeys()[len(keys):]) {
		_ = ring.RemoveKey(key)
	}
}
