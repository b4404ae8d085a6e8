// SPDX-License-Identifier: Apache-2.0

package p9srv

import "sync"

// smallBuffer is the size of the smaller of two kinds of pooled buffers; the
// larger holds a frame of the server's msize.
const smallBuffer = 16 << 10

// bufferPools are shared by the connections of a server.
type bufferPools struct{ small, large sync.Pool }

// buffer returns a buffer of n bytes, whose contents are arbitrary.
func (c *conn) buffer(n int) *[]byte {
	pool, size := &c.srv.pools.small, smallBuffer
	if n > smallBuffer {
		pool, size = &c.srv.pools.large, int(c.srv.msize())
	}
	if b, ok := pool.Get().(*[]byte); ok && cap(*b) >= n {
		*b = (*b)[:n]
		return b
	}
	b := make([]byte, n, max(n, size))
	return &b
}

// recycle gives a buffer back; nil is none.
func (c *conn) recycle(b *[]byte) {
	switch {
	case b == nil:
	case cap(*b) <= smallBuffer:
		c.srv.pools.small.Put(b)
	default:
		c.srv.pools.large.Put(b)
	}
}
