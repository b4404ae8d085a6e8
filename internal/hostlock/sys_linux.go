// SPDX-License-Identifier: Apache-2.0

package hostlock

import "golang.org/x/sys/unix"

// Commands of fcntl(2) for locks that an open file owns.
const (
	setOFD = unix.F_OFD_SETLK
	getOFD = unix.F_OFD_GETLK
)
