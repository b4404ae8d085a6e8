// SPDX-License-Identifier: Apache-2.0

package p9

import "byre.dev/byre/internal/linux"

// Rlerror answers with an error number of Linux in place of the reply.
type Rlerror struct {
	Ecode linux.Errno
}

// Type returns [TypeRlerror].
func (*Rlerror) Type() Type { return TypeRlerror }

func (m *Rlerror) encode(b []byte) []byte {
	return put32(b, uint32(m.Ecode))
}

func (m *Rlerror) decode(d *decoder) {
	m.Ecode = linux.Errno(d.u32())
}

// Rstatfs answers with the state of a file system.
type Rstatfs struct {
	Statfs
}

// Type returns [TypeRstatfs].
func (*Rstatfs) Type() Type { return TypeRstatfs }

func (m *Rstatfs) encode(b []byte) []byte {
	return putStatfs(b, &m.Statfs)
}

func (m *Rstatfs) decode(d *decoder) {
	d.statfs(&m.Statfs)
}

// Rlopen answers with an open file; IOUnit 0 leaves the size of reads to msize.
type Rlopen struct {
	QID    QID
	IOUnit uint32
}

// Type returns [TypeRlopen].
func (*Rlopen) Type() Type { return TypeRlopen }

func (m *Rlopen) encode(b []byte) []byte {
	b = putQID(b, m.QID)
	return put32(b, m.IOUnit)
}

func (m *Rlopen) decode(d *decoder) {
	m.QID = d.qid()
	m.IOUnit = d.u32()
}

// Rlcreate answers with a created and opened file.
type Rlcreate struct {
	QID    QID
	IOUnit uint32
}

// Type returns [TypeRlcreate].
func (*Rlcreate) Type() Type { return TypeRlcreate }

func (m *Rlcreate) encode(b []byte) []byte {
	b = putQID(b, m.QID)
	return put32(b, m.IOUnit)
}

func (m *Rlcreate) decode(d *decoder) {
	m.QID = d.qid()
	m.IOUnit = d.u32()
}

// Rsymlink answers with a made link.
type Rsymlink struct {
	QID QID
}

// Type returns [TypeRsymlink].
func (*Rsymlink) Type() Type { return TypeRsymlink }

func (m *Rsymlink) encode(b []byte) []byte {
	return putQID(b, m.QID)
}

func (m *Rsymlink) decode(d *decoder) {
	m.QID = d.qid()
}

// Rmknod answers with a made node.
type Rmknod struct {
	QID QID
}

// Type returns [TypeRmknod].
func (*Rmknod) Type() Type { return TypeRmknod }

func (m *Rmknod) encode(b []byte) []byte {
	return putQID(b, m.QID)
}

func (m *Rmknod) decode(d *decoder) {
	m.QID = d.qid()
}

// Rrename answers with success and no more.
type Rrename struct{}

// Type returns [TypeRrename].
func (*Rrename) Type() Type { return TypeRrename }

func (*Rrename) encode(b []byte) []byte { return b }
func (*Rrename) decode(*decoder)        {}

// Rreadlink answers with the target of a link.
type Rreadlink struct {
	Target string
}

// Type returns [TypeRreadlink].
func (*Rreadlink) Type() Type { return TypeRreadlink }

func (m *Rreadlink) encode(b []byte) []byte {
	return putStr(b, m.Target)
}

func (m *Rreadlink) decode(d *decoder) {
	m.Target = d.str()
}

// Rgetattr answers with attributes.
type Rgetattr struct {
	Attr
}

// Type returns [TypeRgetattr].
func (*Rgetattr) Type() Type { return TypeRgetattr }

func (m *Rgetattr) encode(b []byte) []byte {
	return putAttr(b, &m.Attr)
}

func (m *Rgetattr) decode(d *decoder) {
	d.attr(&m.Attr)
}

// Rsetattr answers with success and no more.
type Rsetattr struct{}

// Type returns [TypeRsetattr].
func (*Rsetattr) Type() Type { return TypeRsetattr }

func (*Rsetattr) encode(b []byte) []byte { return b }
func (*Rsetattr) decode(*decoder)        {}

// Rxattrwalk answers with the size of what can be read from the new fid.
type Rxattrwalk struct {
	Size uint64
}

// Type returns [TypeRxattrwalk].
func (*Rxattrwalk) Type() Type { return TypeRxattrwalk }

func (m *Rxattrwalk) encode(b []byte) []byte {
	return put64(b, m.Size)
}

func (m *Rxattrwalk) decode(d *decoder) {
	m.Size = d.u64()
}

// Rxattrcreate answers with success and no more.
type Rxattrcreate struct{}

// Type returns [TypeRxattrcreate].
func (*Rxattrcreate) Type() Type { return TypeRxattrcreate }

func (*Rxattrcreate) encode(b []byte) []byte { return b }
func (*Rxattrcreate) decode(*decoder)        {}

// Rreaddir answers with directory entries; none at the end.
type Rreaddir struct {
	Data []byte
}

// Type returns [TypeRreaddir].
func (*Rreaddir) Type() Type { return TypeRreaddir }

func (m *Rreaddir) encode(b []byte) []byte {
	return putData(b, m.Data)
}

func (m *Rreaddir) decode(d *decoder) {
	m.Data = d.data()
}

// Rfsync answers with success and no more.
type Rfsync struct{}

// Type returns [TypeRfsync].
func (*Rfsync) Type() Type { return TypeRfsync }

func (*Rfsync) encode(b []byte) []byte { return b }
func (*Rfsync) decode(*decoder)        {}

// Rlock answers with one of LockSuccess, LockBlocked, LockError, LockGrace.
type Rlock struct {
	Status uint8
}

// Type returns [TypeRlock].
func (*Rlock) Type() Type { return TypeRlock }

func (m *Rlock) encode(b []byte) []byte {
	return append(b, m.Status)
}

func (m *Rlock) decode(d *decoder) {
	m.Status = d.u8()
}

// Rgetlock answers with the lock in the way, or the one asked about with type LockUnlock.
type Rgetlock struct {
	Lock
}

// Type returns [TypeRgetlock].
func (*Rgetlock) Type() Type { return TypeRgetlock }

func (m *Rgetlock) encode(b []byte) []byte {
	return putLock(b, &m.Lock)
}

func (m *Rgetlock) decode(d *decoder) {
	d.lock(&m.Lock)
}

// Rlink answers with success and no more.
type Rlink struct{}

// Type returns [TypeRlink].
func (*Rlink) Type() Type { return TypeRlink }

func (*Rlink) encode(b []byte) []byte { return b }
func (*Rlink) decode(*decoder)        {}

// Rmkdir answers with a made directory.
type Rmkdir struct {
	QID QID
}

// Type returns [TypeRmkdir].
func (*Rmkdir) Type() Type { return TypeRmkdir }

func (m *Rmkdir) encode(b []byte) []byte {
	return putQID(b, m.QID)
}

func (m *Rmkdir) decode(d *decoder) {
	m.QID = d.qid()
}

// Rrenameat answers with success and no more.
type Rrenameat struct{}

// Type returns [TypeRrenameat].
func (*Rrenameat) Type() Type { return TypeRrenameat }

func (*Rrenameat) encode(b []byte) []byte { return b }
func (*Rrenameat) decode(*decoder)        {}

// Runlinkat answers with success and no more.
type Runlinkat struct{}

// Type returns [TypeRunlinkat].
func (*Runlinkat) Type() Type { return TypeRunlinkat }

func (*Runlinkat) encode(b []byte) []byte { return b }
func (*Runlinkat) decode(*decoder)        {}

// Rversion answers with what the session is to be.
type Rversion struct {
	Msize   uint32
	Version string
}

// Type returns [TypeRversion].
func (*Rversion) Type() Type { return TypeRversion }

func (m *Rversion) encode(b []byte) []byte {
	b = put32(b, m.Msize)
	return putStr(b, m.Version)
}

func (m *Rversion) decode(d *decoder) {
	m.Msize = d.u32()
	m.Version = d.str()
}

// Rauth answers with the fid to authenticate over.
type Rauth struct {
	QID QID
}

// Type returns [TypeRauth].
func (*Rauth) Type() Type { return TypeRauth }

func (m *Rauth) encode(b []byte) []byte {
	return putQID(b, m.QID)
}

func (m *Rauth) decode(d *decoder) {
	m.QID = d.qid()
}

// Rattach answers with the root of a tree.
type Rattach struct {
	QID QID
}

// Type returns [TypeRattach].
func (*Rattach) Type() Type { return TypeRattach }

func (m *Rattach) encode(b []byte) []byte {
	return putQID(b, m.QID)
}

func (m *Rattach) decode(d *decoder) {
	m.QID = d.qid()
}

// Rflush answers with the promise that the old request is answered or never will be.
type Rflush struct{}

// Type returns [TypeRflush].
func (*Rflush) Type() Type { return TypeRflush }

func (*Rflush) encode(b []byte) []byte { return b }
func (*Rflush) decode(*decoder)        {}

// Rwalk answers with the files that were walked through.
type Rwalk struct {
	QIDs []QID
}

// Type returns [TypeRwalk].
func (*Rwalk) Type() Type { return TypeRwalk }

func (m *Rwalk) encode(b []byte) []byte {
	return putQIDs(b, m.QIDs)
}

func (m *Rwalk) decode(d *decoder) {
	m.QIDs = d.qids(m.QIDs[:0])
}

// Rread answers with bytes of a file.
type Rread struct {
	Data []byte
}

// Type returns [TypeRread].
func (*Rread) Type() Type { return TypeRread }

func (m *Rread) encode(b []byte) []byte {
	return putData(b, m.Data)
}

func (m *Rread) decode(d *decoder) {
	m.Data = d.data()
}

// Rwrite answers with how many bytes were written.
type Rwrite struct {
	Count uint32
}

// Type returns [TypeRwrite].
func (*Rwrite) Type() Type { return TypeRwrite }

func (m *Rwrite) encode(b []byte) []byte {
	return put32(b, m.Count)
}

func (m *Rwrite) decode(d *decoder) {
	m.Count = d.u32()
}

// Rclunk answers with success and no more.
type Rclunk struct{}

// Type returns [TypeRclunk].
func (*Rclunk) Type() Type { return TypeRclunk }

func (*Rclunk) encode(b []byte) []byte { return b }
func (*Rclunk) decode(*decoder)        {}

// Rremove answers with success and no more.
type Rremove struct{}

// Type returns [TypeRremove].
func (*Rremove) Type() Type { return TypeRremove }

func (*Rremove) encode(b []byte) []byte { return b }
func (*Rremove) decode(*decoder)        {}
