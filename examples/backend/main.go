// SPDX-License-Identifier: Apache-2.0

// Command backend is a web server for the demo to balance and to kill.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: backend ADDRESS:PORT")
	}
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatalf("backend: %v", err)
	}
	fmt.Printf("backend %s is process %d\n", os.Args[1], os.Getpid())
	server := &http.Server{
		ReadHeaderTimeout: time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "ok\n")
		}),
	}
	log.Fatal(server.Serve(listener))
}
