// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// smallPages keeps this process and those that it starts from huge pages: QEMU
// asks for them for tables of which it touches a few bytes, 2 MiB of each
// machine's. Code that QEMU translates gains by them, when it is run often.
func smallPages() error {
	if err := unix.Prctl(unix.PR_SET_THP_DISABLE, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep QEMU from huge pages: %w", err)
	}
	return nil
}
