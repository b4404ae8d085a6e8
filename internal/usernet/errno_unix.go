// SPDX-License-Identifier: Apache-2.0

//go:build unix

package usernet

import (
	"errors"
	"syscall"
)

const (
	errAddrInUse = syscall.EADDRINUSE
	errAccess    = syscall.EACCES
	errNoAddress = syscall.EADDRNOTAVAIL
)

// nobodyListens says whether err is the echo of a datagram that nobody took.
func nobodyListens(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
