// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"github.com/seed-f1518d44/balance/internal/filewatch"
	"github.com/seed-f1518d44/balance/internal/probe"
)

// credentialsInterval is how often certificates, keys and issuers are read.
const credentialsInterval = 30 * time.Second

// credentials has those of the process. Rules that name the same files, also those before and after
// a reload, share them, because they share their probes.
var credentials sync.Map // credentialNames to *probe.Credentials

type credentialNames struct{ cert, key, ca string }

func credentialsOf(n credentialNames) *probe.Credentials {
	shared, _ := credentials.LoadOrStore(n, &probe.Credentials{CertFile: n.cert, KeyFile: n.key, CAFile: n.ca})
	return shared.(*probe.Credentials)
}

// credentialFile is a file of credentials, or a certificate with its key. Safe for concurrent use.
type credentialFile struct {
	*filewatch.File
	notAfter func() time.Time
}

// unused returns nothing: no line of a certificate applies to a member.
func (f *credentialFile) unused(int) (first []string, total int) { return nil, 0 }

// newCredentialFiles reads the files of credentials.
func newCredentialFiles(user fileUser, c *probe.Credentials) (files []*credentialFile, err error) {
	add := func(f *credentialFile) {
		f.Every, f.Report = credentialsInterval, func(problem error) { user.report(f.File, problem) }
		if err == nil {
			err = f.Read()
		}
		files = append(files, f)
	}
	if c.CertFile != "" {
		add(newPairFile(c))
	}
	if c.CAFile != "" {
		add(newIssuersFile(c))
	}
	return files, err
}

// newPairFile returns a certificate with its key. Both count at once, because neither works with
// the other one's predecessor.
func newPairFile(c *probe.Credentials) *credentialFile {
	var cert, key []byte
	f := &filewatch.File{Path: c.CertFile}
	f.Load = func() (both []byte, err error) {
		if cert, err = filewatch.ReadRegular(c.CertFile); err != nil {
			return nil, err
		}
		if key, err = filewatch.ReadRegular(c.KeyFile); err != nil {
			return nil, fmt.Errorf("key %s: %w", c.KeyFile, err)
		}
		return bytes.Join([][]byte{cert, key}, []byte("\n")), nil
	}
	f.Use = func([]byte) error {
		before := c.PairNotAfter()
		if err := c.SetPair(cert, key); err != nil {
			return fmt.Errorf(" with key %s: %w", c.KeyFile, err)
		}
		logRenewal(f, before, c.PairNotAfter())
		return nil
	}
	return &credentialFile{f, c.PairNotAfter}
}

// newIssuersFile returns the issuers to trust.
func newIssuersFile(c *probe.Credentials) *credentialFile {
	f := &filewatch.File{Path: c.CAFile}
	f.Use = func(content []byte) error {
		before := c.IssuersNotAfter()
		if err := c.SetIssuers(content); err != nil {
			return fmt.Errorf(" %w", err)
		}
		logRenewal(f, before, c.IssuersNotAfter())
		return nil
	}
	return &credentialFile{f, c.IssuersNotAfter}
}

// logRenewal logs that other certificates are in force than before.
func logRenewal(f *filewatch.File, before, now time.Time) {
	if !before.IsZero() && !before.Equal(now) {
		log.Infof("%s: certificate in force that is valid until %s", f.Name(), now.UTC().Format(time.RFC3339))
	}
}
