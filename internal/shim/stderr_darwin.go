// SPDX-License-Identifier: Apache-2.0

package shim

import "golang.org/x/sys/unix"

func redirectStderr(fd int) error { return unix.Dup2(fd, 2) }
