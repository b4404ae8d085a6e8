// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package stream

import "os"

// widen does nothing: a FIFO has the size that the system gives it.
func widen(*os.File) error { return nil }
