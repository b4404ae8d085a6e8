// SPDX-License-Identifier: Apache-2.0

package ctrd_test

import (
	"io"
	"log"
	"runtime"
)

const goarch = runtime.GOARCH

// discardLog is for libraries that want a logger of this kind.
func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }
