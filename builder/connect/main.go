// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command connect joins its standard input and output to the socket of the
// builder's BuildKit: the daemon runs it in the builder's container and has a
// byte stream to there. It waits until the socket is there.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// retry is how often the socket is looked for.
const retry = 50 * time.Millisecond

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: connect SOCKET")
		os.Exit(2)
	}
	if err := join(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "connect: %v\n", err)
		os.Exit(1)
	}
}

// join ends when either side does.
func join(socket string) error {
	conn, err := dial(socket)
	if err != nil {
		return err
	}
	ended := make(chan error, 2)
	go copyTo(ended, conn, os.Stdin)  // ends with the process
	go copyTo(ended, os.Stdout, conn) // ends with the process
	return <-ended
}

func copyTo(ended chan<- error, w io.Writer, r io.Reader) {
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, 128<<10))
	ended <- err
}

// dial waits for the socket as long as it takes: should the server not come
// up, its container ends, and with it this process.
func dial(socket string) (net.Conn, error) {
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			return conn, nil
		}
		if !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, err
		}
		time.Sleep(retry)
	}
}
