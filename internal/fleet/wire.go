// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
)

// What replicas say to each other. A message is a header and sections:
//
//	version  1 byte
//	sender   8 bytes, the hash of its name
//	check    8 bytes, its CheckID; 0 if the message is about no check
//	sections, each: kind 1 byte, length uvarint, content
//
// Numbers are big-endian or uvarints, texts are a uvarint length and bytes. A section of an unknown
// kind is skipped, so that a later version can add some. Times travel as ages, never as timestamps.

// kind says what a section is.
type kind uint8

const (
	kindClaims    kind = 1  // what the sender says about some endpoints
	kindBeat      kind = 2  // that it lives, and a digest of all that it says
	kindCompare   kind = 3  // digests of what the sender holds of one replica's claims, by bucket
	kindBucket    kind = 4  // all claims of the sender in a bucket
	kindEnd       kind = 5  // the answer to a comparison is complete
	kindContested kind = 6  // the verdicts in force while votes are tied
	kindBye       kind = 7  // the sender does not have the check any more
	kindCounts    kind = 8  // counts of a topic
	kindKnown     kind = 9  // in a state only: all that is known about a check
	kindKept      kind = 10 // in a state only: what a keeper saved
)

const (
	headerSize = 1 + 8 + 8
	maxText    = 200     // bytes of a text
	maxTexts   = 1 << 12 // texts in a table
	maxName    = 64      // bytes of a check's name in a heartbeat, or of a keeper's
	maxReplica = 128     // bytes of a replica's name
	maxVoters  = 128     // claims on one endpoint in a state
)

// header is the start of a message.
type header struct {
	version uint8
	sender  uint64
	check   CheckID
}

func (h header) bytes() []byte {
	to := []byte{h.version}
	to = binary.BigEndian.AppendUint64(to, h.sender)
	return binary.BigEndian.AppendUint64(to, uint64(h.check))
}

// headerOf reads a header, and returns a reader of what follows. It reports false if there is none
// or this package does not understand its version.
func headerOf(message []byte) (h header, rest reader, ok bool) {
	r := reader{rest: message}
	h = header{version: r.byte(), sender: r.uint64(), check: CheckID(r.uint64())}
	return h, r, !r.bad && h.version >= Understood.Lowest && h.version <= Understood.Highest
}

// appendSection appends a section whose content a function writes.
func appendSection(to []byte, k kind, content func([]byte) []byte) []byte {
	body := content(nil)
	to = binary.AppendUvarint(append(to, byte(k)), uint64(len(body)))
	return append(to, body...)
}

// reader reads a message. After an error all that it returns is zero, and bad is set.
type reader struct {
	rest []byte
	bad  bool
}

// take returns the next n bytes, which belong to the message.
func (r *reader) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.rest)) {
		r.rest, r.bad = nil, true
		return nil
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if r.bad || n <= 0 {
		r.rest, r.bad = nil, true
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// text returns a text, shortened and printable.
func (r *reader) text(longest int) string { return printable(r.take(r.uvarint()), longest) }

// section returns the next section. ok is false at the end, and after an error.
func (r *reader) section() (k kind, content reader, ok bool) {
	if r.bad || len(r.rest) == 0 {
		return 0, reader{}, false
	}
	k = kind(r.byte())
	content.rest = r.take(r.uvarint())
	return k, content, !r.bad
}

// more reports whether something is left to read.
func (r *reader) more() bool { return !r.bad && len(r.rest) > 0 }

// printable returns text from outside fit for a log line.
func printable(text []byte, longest int) string {
	text = text[:min(len(text), longest)]
	if !slices.ContainsFunc(text, func(b byte) bool { return b < ' ' || b > '~' }) {
		return string(text)
	}
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, string(text))
}

func appendText(to []byte, text string, longest int) []byte {
	text = text[:min(len(text), longest)]
	return append(binary.AppendUvarint(to, uint64(len(text))), text...)
}

// claim is what a replica says about one endpoint. The zero claim takes back what it said before.
type claim struct {
	at      netip.AddrPort
	wanted  bool // its own answers hold the endpoint
	opinion Opinion
	text    string // why the endpoint is down, or what it said with its advice; may be left out
}

// Flags of a claim. The other bits are reserved, and ignored.
const (
	flagIPv6      = 1 << 0
	flagPort      = 1 << 1
	flagWanted    = 1 << 2
	flagText      = 1 << 3
	flagExtension = 1 << 4 // followed by a length and as many bytes, for later versions
)

// appendClaims appends claims, with the texts that they refer to in front.
func appendClaims(to []byte, claims []claim) []byte {
	var texts textTable
	var rest []byte
	for i := range claims {
		at, has := texts.add(claims[i].text)
		rest = claims[i].append(rest, at, has)
	}
	return append(texts.append(to), rest...)
}

// textTable holds each text once. What follows it refers to texts by their numbers.
type textTable struct {
	all    []string
	number map[string]uint64
}

// add returns the number of a text. It reports false if the text is empty or there are too many.
func (t *textTable) add(text string) (number uint64, ok bool) {
	if number, ok = t.number[text]; ok || text == "" || len(t.all) == maxTexts {
		return number, ok
	}
	if t.number == nil {
		t.number = make(map[string]uint64)
	}
	number = uint64(len(t.all))
	t.number[text] = number
	t.all = append(t.all, text)
	return number, true
}

func (t *textTable) append(to []byte) []byte {
	to = binary.AppendUvarint(to, uint64(len(t.all)))
	for _, text := range t.all {
		to = appendText(to, text, maxText)
	}
	return to
}

func (c *claim) append(to []byte, text uint64, hasText bool) []byte {
	flags := byte(0)
	if c.wanted {
		flags |= flagWanted
	}
	if hasText {
		flags |= flagText
	}
	to = appendEndpoint(to, c.at, flags)
	to = appendOpinion(to, c.opinion)
	if hasText {
		to = binary.AppendUvarint(to, text)
	}
	return to
}

// appendEndpoint appends flags and an endpoint.
func appendEndpoint(to []byte, at netip.AddrPort, flags byte) []byte {
	if at.Addr().Is6() {
		flags |= flagIPv6
	}
	if at.Port() != 0 {
		flags |= flagPort
	}
	to = append(to, flags)
	to = append(to, at.Addr().AsSlice()...)
	if at.Port() != 0 {
		to = binary.BigEndian.AppendUint16(to, at.Port())
	}
	return to
}

func appendOpinion(to []byte, o Opinion) []byte {
	to = append(to, o.code())
	if o.Load != NoLoad {
		to = append(to, o.Share)
	}
	return to
}

// endpoint reads flags and an endpoint.
func (r *reader) endpoint() (at netip.AddrPort, flags byte) {
	flags = r.byte()
	size, port := uint64(4), uint16(0)
	if flags&flagIPv6 != 0 {
		size = 16
	}
	addr, ok := netip.AddrFromSlice(r.take(size))
	if flags&flagPort != 0 {
		if b := r.take(2); b != nil {
			port = binary.BigEndian.Uint16(b)
		}
	}
	if !ok || addr.Is4In6() {
		r.bad = true
	}
	return netip.AddrPortFrom(addr, port), flags
}

func (r *reader) opinion() Opinion {
	code, share := r.byte(), uint8(0)
	if Load(code>>3&3) != NoLoad {
		share = r.byte()
	}
	return opinionOf(code, share)
}

// texts reads a table of texts.
func (r *reader) texts() []string {
	n := r.uvarint()
	if n > maxTexts || n > uint64(len(r.rest)) {
		r.bad = true
		return nil
	}
	all := make([]string, 0, n)
	for range n {
		all = append(all, r.text(maxText))
	}
	return all
}

// claims reads claims, and calls yield for each.
func (r *reader) claims(yield func(claim)) {
	texts := r.texts()
	for r.more() {
		at, flags := r.endpoint()
		c := claim{at: at, wanted: flags&flagWanted != 0, opinion: r.opinion()}
		if flags&flagText != 0 {
			if i := r.uvarint(); i < uint64(len(texts)) {
				c.text = texts[i]
			}
		}
		if flags&flagExtension != 0 {
			r.take(r.uvarint())
		}
		if !r.bad {
			yield(c)
		}
	}
}

// digest returns a claim's part in the sum of all claims of its replica.
func digest(endpoint uint64, wanted bool, o Opinion) uint64 {
	said := uint64(o.code())<<8 | uint64(o.Share)
	if wanted {
		said |= 1 << 16
	}
	if said == 0 {
		return 0
	}
	return scoreOf(endpoint, said)
}

// bucketOf returns the bucket of an endpoint among 1<<bits.
func bucketOf(endpoint uint64, bits uint8) uint32 { return uint32(endpoint >> (64 - bits)) }
