// SPDX-License-Identifier: Apache-2.0

package usernet

import (
	"errors"

	"golang.org/x/sys/windows"
)

const (
	errAddrInUse = windows.WSAEADDRINUSE
	errAccess    = windows.WSAEACCES
	errNoAddress = windows.WSAEADDRNOTAVAIL
)

// nobodyListens says whether err is the echo of a datagram that nobody took.
func nobodyListens(err error) bool { return errors.Is(err, windows.WSAECONNRESET) }
