// SPDX-License-Identifier: Apache-2.0

// Command defaultfilter prints the seccomp filter of a container that asks for
// nothing in particular, in the form of the OCI runtime specification. runc is
// built with it (runc/filters).
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"byre.dev/byre/internal/engine"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "defaultfilter:", err)
		os.Exit(1)
	}
}

func run() error {
	spec, err := engine.Rehearsal()
	if err != nil {
		return err
	}
	if spec.Linux == nil || spec.Linux.Seccomp == nil {
		return fmt.Errorf("containers have no filter by default on this system")
	}
	return json.NewEncoder(os.Stdout).Encode(spec.Linux.Seccomp)
}
