// SPDX-License-Identifier: Apache-2.0

// Command dockersock asks the Docker API behind /var/run/docker.sock and prints
// the answer:
//
//	dockersock GET /version
//
// End-to-end tests run it in containers.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

func main() {
	if err := ask(); err != nil {
		fmt.Fprintln(os.Stderr, "dockersock:", err)
		os.Exit(1)
	}
}

func ask() error {
	if len(os.Args) != 3 {
		return fmt.Errorf("usage: dockersock METHOD PATH")
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", "/var/run/docker.sock")
	}}}
	req, err := http.NewRequest(os.Args[1], "http://docker"+os.Args[2], nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(os.Stdout, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("status %s", resp.Status)
	}
	return nil
}
