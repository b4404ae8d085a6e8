// SPDX-License-Identifier: Apache-2.0

//go:build unix

package interrupt

import (
	"os"
	"syscall"
)

// terminating signals end a process.
var terminating = []os.Signal{syscall.SIGTERM, syscall.SIGINT}
