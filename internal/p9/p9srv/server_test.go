// SPDX-License-Identifier: Apache-2.0

package p9srv_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/memfs"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/p9test"
)

func TestVersionAgreesOnTheSmallerSize(t *testing.T) {
	w := newWire(t, &p9srv.Server{Root: memfs.New().Root(), Msize: 64 << 10})
	for _, c := range []struct{ asked, got p9.Message }{
		{&p9.Tversion{Msize: 1 << 30, Version: "9P2000.L"}, &p9.Rversion{Msize: 64 << 10, Version: "9P2000.L"}},
		{&p9.Tversion{Msize: 8192, Version: "9P2000.L"}, &p9.Rversion{Msize: 8192, Version: "9P2000.L"}},
		{&p9.Tversion{Msize: 8192, Version: "9P2000.u"}, &p9.Rversion{Msize: 8192, Version: "unknown"}},
		{&p9.Tversion{Msize: 100, Version: "9P2000.L"}, &p9.Rlerror{Ecode: linux.EINVAL}},
	} {
		if d := cmp.Diff(c.got, w.call(c.asked)); d != "" {
			t.Error(d)
		}
	}
}

func TestVersionForgetsAllFids(t *testing.T) {
	w := newWire(t, &p9srv.Server{Root: memfs.New().Root()}).session()
	w.call(&p9.Tversion{Msize: 8192, Version: p9.Version})
	if d := cmp.Diff(p9.Message(&p9.Rlerror{Ecode: linux.EBADF}), w.call(&p9.Tgetattr{FID: 0})); d != "" {
		t.Error(d)
	}
}

func TestRequestsBeforeVersionEndTheConnection(t *testing.T) {
	w := newWire(t, &p9srv.Server{Root: memfs.New().Root()})
	w.send(1, &p9.Tattach{})
	if err := <-w.end; err == nil || !strings.Contains(err.Error(), "before Tversion") {
		t.Errorf("Serve = %v", err)
	}
}

func TestFramesTooLargeEndTheConnection(t *testing.T) {
	for _, frame := range []string{
		"\xff\xff\xff\xff\x6e\x01\x00", "\x06\x00\x00\x00\x6e\x01\x00",
		"\x00\x00\x02\x00\x76\x01\x00", "\x00\x00\x00\x00\x64\xff\xff",
	} {
		w := newWire(t, &p9srv.Server{Root: memfs.New().Root()}).session()
		w.conn.Write([]byte(frame))
		if err := <-w.end; err == nil {
			t.Errorf("Serve after %q = nil", frame)
		}
	}
}

func TestUnknownMessagesAreNotSupported(t *testing.T) {
	w := newWire(t, &p9srv.Server{Root: memfs.New().Root()}).session()
	for _, typ := range []string{"\x62", "\x07", "\x6f", "\xff", "\x06"} {
		w.conn.Write([]byte("\x07\x00\x00\x00" + typ + "\x01\x00"))
		if d := cmp.Diff([]p9.Message{&p9.Rlerror{Ecode: linux.EOPNOTSUPP}}, w.frames(1)); d != "" {
			t.Errorf("type %q: %s", typ, d)
		}
	}
}

func TestAWalkThatEndsEarlyMakesNoFid(t *testing.T) {
	w := newWire(t, &p9srv.Server{Root: memfs.New().Root()}).session()
	w.call(&p9.Tmkdir{DirFID: 0, Name: "d"})
	r, ok := w.call(&p9.Twalk{NewFID: 1, Names: []string{"d", "no", "x"}}).(*p9.Rwalk)
	if !ok || len(r.QIDs) != 1 {
		t.Fatalf("walk = %+v", r)
	}
	bad := p9.Message(&p9.Rlerror{Ecode: linux.EBADF})
	if d := cmp.Diff(bad, w.call(&p9.Tgetattr{FID: 1})); d != "" {
		t.Error(d)
	}
	noent := p9.Message(&p9.Rlerror{Ecode: linux.ENOENT})
	if d := cmp.Diff(noent, w.call(&p9.Twalk{NewFID: 1, Names: []string{"no"}})); d != "" {
		t.Error(d)
	}
}

func TestNamesThatLeadElsewhereAreRefused(t *testing.T) {
	w := newWire(t, &p9srv.Server{Root: memfs.New().Root()}).session()
	w.call(&p9.Twalk{NewFID: 1})
	for _, name := range []string{"", ".", "..", "a/b", "/", "../x", "a\x00b", strings.Repeat("x", 256)} {
		for _, m := range []p9.Message{
			&p9.Twalk{NewFID: 9, Names: []string{name}},
			&p9.Tlcreate{FID: 1, Name: name, Flags: 2},
			&p9.Tmkdir{Name: name}, &p9.Tsymlink{Name: name, Target: "x"},
			&p9.Tmknod{Name: name, Mode: linux.TypeFIFO}, &p9.Tlink{FID: 1, Name: name},
			&p9.Tunlinkat{Name: name}, &p9.Trename{FID: 1, Name: name},
			&p9.Trenameat{OldName: name, NewName: "x"}, &p9.Trenameat{OldName: "x", NewName: name},
		} {
			if r, ok := w.call(m).(*p9.Rlerror); !ok || r.Ecode == linux.EOPNOTSUPP {
				t.Errorf("%s of %q is answered with %+v", m.Type(), name, r)
			}
		}
	}
}

func TestFidsAreBounded(t *testing.T) {
	w := newWire(t, &p9srv.Server{Root: memfs.New().Root(), MaxFIDs: 3}).session()
	for fid, want := range map[uint32]p9.Type{1: p9.TypeRwalk, 0xfffffffe: p9.TypeRwalk} {
		if got := w.call(&p9.Twalk{NewFID: fid}).Type(); got != want {
			t.Fatalf("walk to %d = %s", fid, got)
		}
	}
	if d := cmp.Diff(p9.Message(&p9.Rlerror{Ecode: linux.EMFILE}), w.call(&p9.Twalk{NewFID: 7})); d != "" {
		t.Error(d)
	}
	w.call(&p9.Tclunk{FID: 0xfffffffe})
	if got := w.call(&p9.Twalk{NewFID: 7}).Type(); got != p9.TypeRwalk {
		t.Errorf("walk after a clunk = %s", got)
	}
	inUse := p9.Message(&p9.Rlerror{Ecode: linux.EINVAL})
	if d := cmp.Diff(inUse, w.call(&p9.Twalk{NewFID: 1})); d != "" {
		t.Errorf("walk to a fid in use: %s", d)
	}
}

type panicky struct{ flat }

func (panicky) Clone() p9srv.Node                           { return panicky{flat{dir: true}} }
func (panicky) Getattr(uint64, *p9.Attr) linux.Errno        { panic("inline") }
func (panicky) Statfs(*p9.Statfs) linux.Errno               { panic("worker") }
func (panicky) Setattr(*p9.SetAttr, p9srv.File) linux.Errno { return 0 }

func TestAPanicEndsItsConnectionOnly(t *testing.T) {
	srv := &p9srv.Server{Root: panicky{}}
	other := newWire(t, srv).session()
	for name, m := range map[string]p9.Message{"inline": &p9.Tgetattr{}, "worker": &p9.Tstatfs{}} {
		w := newWire(t, srv).session()
		w.send(1, m)
		if err := <-w.end; err == nil || !strings.Contains(err.Error(), "panic while serving: "+name) {
			t.Errorf("Serve = %v", err)
		}
	}
	if r := other.call(&p9.Tsetattr{}); r.Type() != p9.TypeRsetattr {
		t.Errorf("the other connection answers %s", r.Type())
	}
}

func TestTheEndOfTheContextEndsServing(t *testing.T) {
	n := newGated()
	w := newWire(t, &p9srv.Server{Root: n}).session()
	w.call(&p9.Twalk{NewFID: 1, Names: []string{"f"}})
	w.call(&p9.Tlopen{FID: 1})
	w.send(1, &p9.Tread{FID: 1, Count: 10})
	<-n.entered
	w.ctx()
	select {
	case err := <-w.end:
		t.Fatalf("Serve = %v while a worker runs", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(n.gate)
	if err := <-w.end; !errors.Is(err, context.Canceled) {
		t.Errorf("Serve = %v", err)
	}
}

func TestAClientThatReadsNothingCostsBoundedMemory(t *testing.T) {
	w := newWire(t, &p9srv.Server{Root: flat{dir: true}}).session()
	w.call(&p9.Twalk{NewFID: 1, Names: []string{"f"}})
	w.call(&p9.Tlopen{FID: 1})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var out []byte
	for tag := range 60000 {
		out = p9.AppendFrame(out, uint16(tag), &p9.Tread{FID: 1, Count: 60 << 10})
	}
	w.conn.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	if _, err := w.conn.Write(out); err == nil {
		t.Error("the server took three gigabytes' worth of requests")
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if n := int64(after.HeapAlloc) - int64(before.HeapAlloc); n > 32<<20 {
		t.Errorf("%d bytes held for a client that reads nothing", n)
	}
	w.ctx()
	<-w.end
}

func TestASecretMustBeWrittenBeforeAttaching(t *testing.T) {
	w := newWire(t, &p9srv.Server{Root: memfs.New().Root(), Secret: []byte("open sesame")})
	w.call(&p9.Tversion{Msize: 8192, Version: p9.Version})
	denied := p9.Message(&p9.Rlerror{Ecode: linux.EACCES})
	attach := &p9.Tattach{FID: 0, AFID: 5}
	for _, m := range []p9.Message{&p9.Tattach{AFID: p9.NoFID}, attach} {
		if d := cmp.Diff(denied, w.call(m)); d != "" {
			t.Error(d)
		}
	}
	w.call(&p9.Tauth{AFID: 5})
	w.call(&p9.Twrite{FID: 5, Data: []byte("open ")})
	if d := cmp.Diff(denied, w.call(attach)); d != "" {
		t.Error(d)
	}
	w.call(&p9.Twrite{FID: 5, Offset: 5, Data: []byte("sesame")})
	if r := w.call(attach); r.Type() != p9.TypeRattach {
		t.Errorf("attach = %+v", r)
	}
}

func TestWithoutASecretThereIsNoAuthentication(t *testing.T) {
	w := newWire(t, &p9srv.Server{Root: memfs.New().Root()}).session()
	if d := cmp.Diff(p9.Message(&p9.Rlerror{Ecode: linux.ENOENT}), w.call(&p9.Tauth{AFID: 5})); d != "" {
		t.Error(d)
	}
}

func TestRequestsAreCounted(t *testing.T) {
	var n atomic.Uint64
	w := newWire(t, &p9srv.Server{Root: memfs.New().Root(), Requests: &n}).session()
	before := n.Load()
	w.call(&p9.Tgetattr{})
	w.call(&p9.Twrite{})          // refused
	w.call(&p9.Tread{FID: 99})    // likewise
	w.call(&p9.Tfsync{FID: 1000}) // a worker's
	if got := n.Load() - before; got != 4 {
		t.Errorf("%d requests, want 4", got)
	}
}

func TestTheUserOfTheAttachOwnsWhatIsMade(t *testing.T) {
	root := p9test.Attach(t, &p9srv.Server{Root: memfs.New().Root()}, 1234)
	if _, err := root.Mkdir("d", 0o755, 99); err != nil {
		t.Fatal(err)
	}
	d, err := root.Walk("d")
	if err != nil {
		t.Fatal(err)
	}
	a, err := d.Getattr(p9.AttrAll)
	if err != nil || a.UID != 1234 || a.GID != 99 {
		t.Errorf("owner = %d:%d, %v", a.UID, a.GID, err)
	}
}

func TestAttributesOfOneConnectionAreBounded(t *testing.T) {
	w := newWire(t, &p9srv.Server{Root: memfs.New().Root()}).session()
	for fid := uint32(1); ; fid++ {
		if fid > 1000 {
			t.Fatal("a thousand attributes of 64 KiB are held")
		}
		w.call(&p9.Twalk{NewFID: fid})
		m := &p9.Txattrcreate{FID: fid, Name: "user.x", Size: 65536}
		if r, ok := w.call(m).(*p9.Rlerror); ok {
			if r.Ecode != linux.ENOMEM {
				t.Fatalf("error = %v", r.Ecode)
			}
			break
		}
	}
}

func TestGetattrTellsThatAFileHasNoAccessLists(t *testing.T) {
	root := p9test.Attach(t, &p9srv.Server{Root: memfs.New().Root()}, 0)
	if _, err := root.Mkdir("dir", 0o755, 0); err != nil {
		t.Fatal(err)
	}
	dir, err := root.Walk("dir")
	if err != nil {
		t.Fatal(err)
	}
	// Version 2, then owner, group and others.
	list := []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 5, 0, 255, 255, 255, 255, 32, 0, 5, 0, 255, 255, 255, 255}
	for _, step := range []struct {
		what string
		do   func() error
		none bool
	}{
		{"new", func() error { return nil }, true},
		{"with a list for new entries", func() error { return dir.Setxattr("system.posix_acl_default", list, 0) }, false},
		{"without it again", func() error { return dir.Removexattr("system.posix_acl_default") }, true},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		a, err := dir.Getattr(p9.AttrBasic | p9.AttrNoACL)
		if err != nil {
			t.Fatal(err)
		}
		if none := a.Valid&p9.AttrNoACL != 0; none != step.none {
			t.Errorf("%s: the answer says no lists: %v", step.what, none)
		}
	}
	if a, err := dir.Getattr(p9.AttrAll); err != nil || a.Valid&p9.AttrNoACL != 0 {
		t.Errorf("a client that did not ask was answered: %v", err)
	}
}
