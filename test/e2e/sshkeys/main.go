// SPDX-License-Identifier: Apache-2.0

// Command sshkeys prints the comments of the keys that the agent at
// $SSH_AUTH_SOCK has. End-to-end tests run it in builds, whose images have no
// client of ssh.
package main

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/crypto/ssh/agent"
)

func main() {
	if err := list(os.Getenv("SSH_AUTH_SOCK")); err != nil {
		fmt.Fprintln(os.Stderr, "sshkeys:", err)
		os.Exit(1)
	}
}

func list(socket string) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	keys, err := agent.NewClient(conn).List()
	if err != nil {
		return err
	}
	for _, k := range keys {
		fmt.Println(k.Format, k.Comment)
	}
	return nil
}
