// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/miekg/dns"
)

// prepareFloor prepares a server that does the least that a server in Go can do for an answer: it
// reads a packet, finds the packed answer to the question, sets the ID and writes it.
func prepareFloor(s *site) ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var answers strings.Builder
	for _, n := range s.names {
		packed, err := packedAnswer(n)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&answers, "%s\n", hex.EncodeToString(packed))
	}
	s.environment = append(s.environment, fmt.Sprintf("%s=floor %d", roleVariable, s.port))
	return []string{self}, s.write(map[string]string{"answers": answers.String()})
}

func packedAnswer(n zoneName) ([]byte, error) {
	m := new(dns.Msg)
	m.SetQuestion(n.fqdn(), dns.TypeA)
	m.Response, m.Authoritative, m.Compress, m.RecursionDesired = true, true, true, false
	for _, a := range n.addrs {
		m.Answer = append(m.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: n.fqdn(), Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttlSeconds},
			A:   a.AsSlice(),
		})
	}
	m.SetEdns0(1232, false)
	return m.Pack()
}

const (
	headerBytes   = 12
	questionBytes = 5 // of a question, behind its name's labels: the root, type, class
)

// questionOf returns the question of a packet, as it is packed; nil if there is none.
func questionOf(packet []byte) []byte {
	i := headerBytes
	for i < len(packet) && packet[i] != 0 {
		i += 1 + int(packet[i])
	}
	if i+questionBytes > len(packet) {
		return nil
	}
	return packet[headerBytes : i+questionBytes]
}

// serveFloor answers with what the file "answers" holds.
func serveFloor(port int) error {
	answers, err := readAnswers("answers")
	if err != nil {
		return err
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		return err
	}
	packet := make([]byte, dns.MaxMsgSize)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(packet)
		if err != nil {
			return err
		}
		if answer := answers[string(questionOf(packet[:n]))]; answer != nil {
			copy(answer, packet[:2])
			_, _ = conn.WriteToUDPAddrPort(answer, from)
		}
	}
}

// readAnswers reads packed answers, by the question.
func readAnswers(file string) (map[string][]byte, error) {
	f, err := os.Open(filepath.Clean(file))
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	answers := make(map[string][]byte)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		packed, err := hex.DecodeString(lines.Text())
		if err != nil {
			return nil, err
		}
		answers[string(questionOf(packed))] = packed
	}
	return answers, lines.Err()
}
