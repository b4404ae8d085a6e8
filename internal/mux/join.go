// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"io"
	"net"
	"sync"
)

// Join copies between two connections until both directions have ended, and
// closes both. The end of one direction alone is passed on by CloseWrite where
// the other connection has it; an error ends everything.
func Join(a, b net.Conn) {
	var both sync.WaitGroup
	both.Go(func() { pass(a, b) })
	both.Go(func() { pass(b, a) })
	both.Wait()
	_ = a.Close()
	_ = b.Close()
}

func pass(dst, src net.Conn) {
	_, err := io.Copy(dst, src)
	half, ok := dst.(interface{ CloseWrite() error })
	if err == nil && ok && half.CloseWrite() == nil {
		return
	}
	_ = dst.Close()
	_ = src.Close()
}
