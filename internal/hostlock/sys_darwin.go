// SPDX-License-Identifier: Apache-2.0

package hostlock

// Commands of fcntl(2) for locks that an open file owns, from bsd/sys/fcntl.h
// of XNU.
const (
	setOFD = 90
	getOFD = 92
)
