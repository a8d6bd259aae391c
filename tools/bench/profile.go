// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/pprof/profile"
)

// gatherProfile has every CoreDNS with balance answer under load, takes a CPU profile of each, and
// writes them merged, as the compiler takes them (go build -pgo).
func gatherProfile(ctx context.Context, o *Options, progress io.Writer) error {
	o.Quick = true // the machine need not be quiet
	s, clean, err := newSuite(o, progress)
	if err != nil {
		return err
	}
	defer clean()
	var profiles []string
	for _, server := range servers {
		if !strings.Contains(server.Name, "+balance") {
			continue
		}
		for _, w := range server.worksOf(s.works) {
			if !s.Only.MatchString(server.Name + "/" + w.Name) {
				continue
			}
			file := filepath.Join(s.dir, fmt.Sprintf("%d.pprof", len(profiles)))
			if err := s.profileServer(ctx, server, w, file); err != nil {
				return fmt.Errorf("%s/%s: %w", server.Name, w.Name, err)
			}
			profiles = append(profiles, file)
			_, _ = fmt.Fprintf(progress, "profiled %s/%s\n", server.Name, w.Name)
		}
	}
	return merge(profiles, o.Profile)
}

// profileServer takes a profile of a server under a closed loop.
func (s *suite) profileServer(ctx context.Context, server Server, w Work, file string) error {
	at, p, err := s.startServer(ctx, unit{server: server, full: server.Full || w.many(), works: []Work{w}})
	if err != nil {
		return err
	}
	defer p.stop()
	took := make(chan error, 1)
	const longer = 5 // than it is measured
	seconds := max(1, int(longer*s.Seconds))
	go func() { took <- fetchProfile(ctx, at.pprof, seconds, file) }()
	l := s.load(at, w)
	l.seconds = float64(seconds)
	_, err = l.run(ctx, at.dir)
	return errors.Join(err, <-took)
}

// fetchProfile has a CoreDNS profile itself.
func fetchProfile(ctx context.Context, port, seconds int, file string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+readyWithin)
	defer cancel()
	url := fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/profile?seconds=%d", port, seconds)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil) //nolint:gosec // 127.0.0.1
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request) //nolint:gosec // likewise
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // only read
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	return os.WriteFile(file, content, 0o600)
}

// merge writes profiles as one, without the path that the program had on this machine.
func merge(files []string, to string) error {
	if len(files) == 0 {
		return errors.New("-only leaves no server with balance to profile")
	}
	profiles := make([]*profile.Profile, 0, len(files))
	for _, file := range files {
		content, err := os.ReadFile(file) //nolint:gosec // our own
		if err != nil {
			return err
		}
		p, err := profile.ParseData(content)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		profiles = append(profiles, p)
	}
	all, err := profile.Merge(profiles)
	if err != nil {
		return err
	}
	for _, m := range all.Mapping {
		m.File = filepath.Base(m.File)
	}
	var packed bytes.Buffer
	if err := all.Write(&packed); err != nil {
		return err
	}
	return os.WriteFile(to, packed.Bytes(), 0o644) //nolint:gosec // part of the source
}
