// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package main

import "errors"

func lock(string) (unlock func(), err error) {
	return nil, errors.New("this system has no flock(2): edit the file by hand")
}
