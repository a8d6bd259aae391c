// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"io"
	"net/rpc"
	"os"
)

// pipe is two halves of a connection.
type pipe struct {
	io.ReadCloser
	io.WriteCloser
}

func (p pipe) Close() error {
	_ = p.ReadCloser.Close()
	return p.WriteCloser.Close()
}

// serve lets the parent process call the methods of service, until it closes our standard input.
func serve(service any) error {
	if err := rpc.RegisterName("service", service); err != nil {
		return err
	}
	rpc.ServeConn(pipe{os.Stdin, os.Stdout})
	return nil
}

// helper is a process of ours that serves.
type helper struct {
	*rpc.Client
	wait func() error
}

// startHelper starts a process that plays a role.
func startHelper(ctx context.Context, role string) (*helper, error) {
	c, err := reexec(ctx, role)
	if err != nil {
		return nil, err
	}
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	return &helper{rpc.NewClient(pipe{out, in}), c.Wait}, nil
}

// call calls a method of the helper.
func (h *helper) call(method string, args, reply any) error {
	return h.Call("service."+method, args, reply)
}

// end ends the process.
func (h *helper) end() {
	_ = h.Close()
	_ = h.wait()
}
