// SPDX-License-Identifier: Apache-2.0

package p9srv

import (
	"io"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

func (c *conn) open(m *p9.Tlopen) (p9.Message, linux.Errno) {
	f := c.fids.get(m.FID)
	if f == nil {
		return nil, linux.EBADF
	}
	defer f.put()
	node, e := f.beginOpen()
	if e != 0 {
		return nil, e
	}
	file, e := openNode(node, m.Flags)
	f.endOpen(nil, file, m.Flags)
	return &p9.Rlopen{QID: openQID(node, file)}, e
}

// openQID is the QID of a node that was opened as f. Version 0 tells the
// client not to cache by this file (v9fs_fid_add_modes).
func openQID(node Node, f File) p9.QID {
	q := node.QID()
	if s, ok := f.(Shared); ok && s.WrittenElsewhere() {
		q.Version = 0
	}
	return q
}

// openNode refuses what no tree should see, then opens.
func openNode(node Node, flags linux.OpenFlags) (File, linux.Errno) {
	typ := node.QID().Type
	switch {
	case typ&p9.QTSymlink != 0:
		return nil, linux.ELOOP
	case typ&p9.QTDir == 0 && flags&linux.ODirectory != 0:
		return nil, linux.ENOTDIR
	case typ&p9.QTDir != 0 && (flags.Writes() || flags.Access() == linux.ONoaccess):
		return nil, linux.EISDIR
	}
	return node.Open(flags &^ (linux.OCreate | linux.OExcl))
}

func (c *conn) create(m *p9.Tlcreate) (p9.Message, linux.Errno) {
	f, _, e := c.dir(m.FID, m.Name)
	if e != 0 {
		return nil, e
	}
	defer f.put()
	dir, e := f.beginOpen()
	if e != 0 {
		return nil, e
	}
	node, file, e := dir.Create(m.Name, m.Flags, m.Mode.Perm(), Owner{f.uid, m.GID})
	f.endOpen(node, file, m.Flags)
	if e != 0 {
		return nil, e
	}
	return &p9.Rlcreate{QID: openQID(node, file)}, 0
}

// open1 returns an open fid and its file. The caller puts the fid.
func (c *conn) open1(num uint32) (*fid, File, linux.OpenFlags, linux.Errno) {
	f := c.fids.get(num)
	if f == nil {
		return nil, nil, 0, linux.EBADF
	}
	f.mu.Lock()
	file, flags := f.file, f.flags
	f.mu.Unlock()
	if file == nil {
		f.put()
		return nil, nil, 0, linux.EBADF
	}
	return f, file, flags, 0
}

// read answers r, a Tread, from a pooled buffer.
func (c *conn) read(r *request, m *p9.Tread) {
	n := int(min(m.Count, c.msize-p9.ReadHeaderSize))
	if f, file, flags, e := c.open1(m.FID); e == 0 {
		defer f.put()
		if b, ok := c.stream(file, flags, r.tag, n, m.Offset); ok {
			c.out.finish(r, nil, b)
			return
		}
	}
	buf := c.buffer(p9.ReadHeaderSize + n)
	defer c.recycle(buf)
	n, e := c.readInto(m, (*buf)[p9.ReadHeaderSize:])
	if e != 0 {
		c.out.finish(r, &p9.Rlerror{Ecode: e}, bulk{})
		return
	}
	frame := (*buf)[:p9.ReadHeaderSize+n]
	p9.PutReadHeader(frame, r.tag, n)
	c.out.finish(r, nil, bulk{frame: frame})
}

// stream returns a reply to a read that takes the contents from where they
// are, if there can be one.
func (c *conn) stream(file File, flags linux.OpenFlags, tag uint16, n int, offset uint64) (bulk, bool) {
	s, ok := file.(Streamer)
	if !ok || !flags.Reads() || n < directSize || offset > 1<<63-1-uint64(n) {
		return bulk{}, false
	}
	off := int64(offset)
	if n = s.Streamable(c.rwc, n, off); n < directSize {
		return bulk{}, false
	}
	b := bulk{frame: make([]byte, p9.ReadHeaderSize), stream: func(w io.Writer) error { return s.Stream(w, n, off) }}
	p9.PutReadHeader(b.frame, tag, n)
	return b, true
}

// readNow answers a Tread on the reader's goroutine if the data is in memory
// and no other request waits to be read: handing it to a worker costs more
// than the read. False means that a worker is to do it.
func (c *conn) readNow(tag uint16, body []byte) bool {
	m := &c.quick.read
	if !c.version || c.in.whole() || p9.Decode(body, m) != nil || c.out.inUse(tag) {
		return false
	}
	f, file, flags, e := c.open1(m.FID)
	if e != 0 {
		return false
	}
	defer f.put()
	n := int(min(m.Count, c.msize-p9.ReadHeaderSize))
	if b, ok := c.stream(file, flags, tag, n, m.Offset); ok {
		c.out.replyBulk(b)
		return true
	}
	nowait, ok := file.(NowaitReader)
	if !ok || !flags.Reads() || n == 0 || m.Offset > 1<<63-1-uint64(n) {
		return false
	}
	buf := c.buffer(p9.ReadHeaderSize + n)
	defer c.recycle(buf)
	if n, ok = nowait.ReadNowait((*buf)[p9.ReadHeaderSize:], int64(m.Offset)); !ok {
		return false
	}
	frame := (*buf)[:p9.ReadHeaderSize+n]
	p9.PutReadHeader(frame, tag, n)
	c.out.replyBulk(bulk{frame: frame})
	return true
}

func (c *conn) readInto(m *p9.Tread, p []byte) (int, linux.Errno) {
	f := c.fids.get(m.FID)
	if f == nil {
		return 0, linux.EBADF
	}
	defer f.put()
	if f.xattr != nil {
		return f.xattr.read(p, m.Offset)
	}
	f.mu.Lock()
	file, flags := f.file, f.flags
	f.mu.Unlock()
	switch {
	case file == nil || !flags.Reads():
		return 0, linux.EBADF
	case m.Offset > 1<<63-1-uint64(len(p)):
		return 0, linux.EINVAL
	case len(p) == 0:
		return 0, 0
	}
	return file.Read(p, int64(m.Offset))
}

func (c *conn) write(m *p9.Twrite) (p9.Message, linux.Errno) {
	f := c.fids.get(m.FID)
	if f == nil {
		return nil, linux.EBADF
	}
	defer f.put()
	var n int
	var e linux.Errno
	if w := f.special(); w != nil {
		n, e = w.append(m.Data, m.Offset)
	} else {
		n, e = f.writeFile(m.Data, m.Offset)
	}
	return &p9.Rwrite{Count: uint32(n)}, e
}

func (f *fid) writeFile(p []byte, off uint64) (int, linux.Errno) {
	f.mu.Lock()
	file, flags := f.file, f.flags
	f.mu.Unlock()
	switch {
	case file == nil || flags.Access() != linux.OWronly && flags.Access() != linux.ORdwr:
		return 0, linux.EBADF
	case off > 1<<63-1-uint64(len(p)):
		return 0, linux.EFBIG
	case len(p) == 0:
		return 0, 0
	}
	return file.Write(p, int64(off))
}

func (c *conn) fsync(m *p9.Tfsync) linux.Errno {
	f, file, _, e := c.open1(m.FID)
	if e != 0 {
		return e
	}
	defer f.put()
	return file.Fsync(m.Datasync != 0)
}
