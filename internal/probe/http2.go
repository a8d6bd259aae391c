// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// What a peer may send in one HTTP/2 call.
const (
	maxCall    = 2 * maxRead // bytes
	maxFrames  = 1024        // of any type
	maxAnswers = 16          // frames that want an answer: SETTINGS and PING
)

var (
	errFlood  = reason("more than 128 KiB for an answer")
	errFrames = reason("too many HTTP/2 frames for an answer")
	errALPN   = reason("tls: the peer does not offer HTTP/2 (ALPN h2)")
)

// ours is the start of a connection (RFC 9113, section 3.4): no pushed streams, and windows that no
// reply within the bounds exhausts, so that none needs to be renewed.
var ours = func() []byte {
	b := bytes.NewBufferString(http2.ClientPreface)
	f := http2.NewFramer(b, nil)
	_ = f.WriteSettings( // a buffer takes it all, here and below
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxCall},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: maxRead},
	)
	_ = f.WriteWindowUpdate(0, maxCall)
	return b.Bytes()
}()

// call2 is one request over a connection that speaks HTTP/2, and its reply. It needs no goroutine:
// frames are read as the reply is.
type call2 struct {
	from    *reply
	framer  *http2.Framer
	frames  int // that were read
	answers int // that were written
	status  int
	header  http.Header
	trailer http.Header
	data    []byte // of the body, not read yet
	ended   bool   // the peer has closed its side of the stream
}

const stream = 1 // the only one

// request2 is a request as it goes over the wire.
func request2(fields []hpack.HeaderField, body []byte) []byte {
	var block, b bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range fields {
		_ = encoder.WriteField(f)
	}
	b.Write(ours)
	framer := http2.NewFramer(&b, nil)
	_ = framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: body == nil,
	})
	if body != nil {
		_ = framer.WriteData(stream, true, body)
	}
	return b.Bytes()
}

// begin2 sends a request and reads the head of the reply. The reply's buffers go back to their pool
// with release.
func begin2(c io.ReadWriter, request []byte) (*call2, error) {
	if t, ok := c.(*tls.Conn); ok && t.ConnectionState().NegotiatedProtocol != "h2" {
		return nil, errALPN
	}
	if _, err := c.Write(request); err != nil {
		return nil, err
	}
	r := newReply(c, maxCall, errFlood)
	call := &call2{from: r, framer: http2.NewFramer(c, r)}
	call.framer.SetMaxReadFrameSize(16 << 10)
	call.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	call.framer.MaxHeaderListSize = maxRead
	if err := call.readHead(); err != nil {
		r.release()
		return nil, err
	}
	return call, nil
}

// readHead reads up to the header of the reply, past interim ones.
func (c *call2) readHead() error {
	if err := c.checkServer(); err != nil {
		return err
	}
	for c.status < 200 {
		if c.ended {
			return reason("HTTP/2 stream ended without a reply")
		}
		if err := c.next(); err != nil {
			return err
		}
	}
	return nil
}

// checkServer reports an error if what comes does not begin with a SETTINGS frame.
func (c *call2) checkServer() error {
	const frameType = 3
	start, err := c.from.Peek(frameType + 1)
	if err != nil {
		return err
	}
	if http2.FrameType(start[frameType]) != http2.FrameSettings {
		got, _ := c.from.Peek(min(c.from.Buffered(), maxQuoted))
		return reason("not an HTTP/2 server; got " + quote(got))
	}
	return nil
}

// next reads a frame and takes it in.
func (c *call2) next() error {
	if c.frames++; c.frames > maxFrames {
		return errFrames
	}
	frame, err := c.framer.ReadFrame()
	if err != nil {
		return c.unreadable(err)
	}
	if id := frame.Header().StreamID; id != stream && id != 0 {
		return fmt.Errorf("HTTP/2 frame %v of an unknown stream", frame.Header().Type)
	}
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return c.answer(c.framer.WriteSettingsAck)
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			return c.answer(func() error { return c.framer.WritePing(true, f.Data) })
		}
	case *http2.GoAwayFrame:
		if f.LastStreamID < stream {
			return reason(fmt.Sprintf("HTTP/2 connection refused: %v", f.ErrCode))
		}
	case *http2.RSTStreamFrame:
		return reason(fmt.Sprintf("HTTP/2 stream reset: %v", f.ErrCode))
	case *http2.PushPromiseFrame:
		return reason("HTTP/2 server push")
	case *http2.MetaHeadersFrame:
		return c.takeHeader(f)
	case *http2.DataFrame:
		c.data, c.ended = f.Data(), f.StreamEnded()
	}
	return nil
}

// answer writes the answer to a frame.
func (c *call2) answer(write func() error) error {
	if c.answers++; c.answers > maxAnswers {
		return errFrames
	}
	return write()
}

// unreadable says why no frame could be read.
func (c *call2) unreadable(err error) error {
	var connection http2.ConnectionError
	var on http2.StreamError
	switch {
	case errors.As(err, &connection):
		return reason(fmt.Sprintf("malformed HTTP/2: %v", http2.ErrCode(connection)))
	case errors.As(err, &on):
		return reason(fmt.Sprintf("malformed HTTP/2: %v", on.Code))
	case errors.Is(err, http2.ErrFrameTooLarge):
		return reason("HTTP/2 frame longer than 16 KiB")
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF // io.EOF is the end of the body
	}
	return err
}

// takeHeader takes in the header of a reply, an interim one, or the trailer.
func (c *call2) takeHeader(f *http2.MetaHeadersFrame) error {
	if f.Truncated {
		return errHead
	}
	c.ended = f.StreamEnded()
	header := make(http.Header)
	for _, field := range f.RegularFields() {
		header.Add(field.Name, field.Value)
	}
	if c.status >= 200 {
		c.trailer = header
		return nil
	}
	status, err := strconv.Atoi(f.PseudoValue("status"))
	if err != nil || status < 100 || status > 999 {
		return reason("HTTP/2 status " + quote(f.PseudoValue("status")))
	}
	c.status, c.header = status, header
	return nil
}

// release gives the buffers back.
func (c *call2) release() { c.from.release() }

// body2 is the body of a call's reply.
type body2 struct{ call *call2 }

// Read implements io.Reader.
func (b body2) Read(p []byte) (int, error) {
	c := b.call
	for len(c.data) == 0 {
		if c.ended {
			return 0, io.EOF
		}
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.data)
	c.data = c.data[n:]
	return n, nil
}

// isHTTP2 reports whether what a peer said begins as HTTP/2 does: with a SETTINGS frame.
func isHTTP2(said []byte) bool {
	const header = 9
	return len(said) >= header && said[0] == 0 && http2.FrameType(said[3]) == http2.FrameSettings &&
		slices.Equal(said[4:header], make([]byte, header-4))
}
