// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"time"
)

// capabilityRecord is the PAX record that tar, Docker and containerd keep security.capability in.
const capabilityRecord = "SCHILY.xattr.security.capability"

// layer returns files as a compressed tar, all of them of one time.
func layer(files []file, when time.Time) ([]byte, error) {
	return compressed(func(w io.Writer) error {
		t := tar.NewWriter(w)
		for _, f := range files {
			if err := t.WriteHeader(f.header(when)); err != nil {
				return err
			}
			if _, err := t.Write(f.content); err != nil {
				return err
			}
		}
		return t.Close()
	})
}

func (f file) header(when time.Time) *tar.Header {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.content)), ModTime: when, Format: tar.FormatPAX}
	if f.isDir() {
		h.Typeflag = tar.TypeDir
	}
	if len(f.capability) > 0 {
		h.PAXRecords = map[string]string{capabilityRecord: string(f.capability)}
	}
	return h
}

// compressed returns what write writes, through gzip without a name or a time.
func compressed(write func(io.Writer) error) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if err := write(z); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
