// SPDX-License-Identifier: Apache-2.0

// Package linux is the Linux ABI as a guest sees it: error numbers, file
// modes and open flags. It is the vocabulary of the file server on every
// host, so nothing in it depends on the system it is built for.
package linux

import "strconv"

// Errno is an error number of Linux. Zero is success: functions of the file
// server return an Errno and nothing else, as system calls do.
type Errno uint32

// ENOTSUP is what user space calls [EOPNOTSUPP].
const ENOTSUP = EOPNOTSUPP

// EWOULDBLOCK is what sockets call [EAGAIN].
const EWOULDBLOCK = EAGAIN

// Error returns the text that strerror gives for e.
func (e Errno) Error() string {
	if int(e) < len(errnoText) && errnoText[e] != "" {
		return errnoText[e]
	}
	return "errno " + strconv.FormatUint(uint64(e), 10)
}

// Err returns e as an error, nil for success.
func (e Errno) Err() error {
	if e == 0 {
		return nil
	}
	return e
}
