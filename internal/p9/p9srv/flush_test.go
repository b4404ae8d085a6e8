// SPDX-License-Identifier: Apache-2.0

package p9srv_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
)

// reading serves a gated tree with one worker, in which fid 1 is open.
func reading(t *testing.T) (*testWire, gated) {
	t.Helper()
	n := newGated()
	w := newWire(t, &p9srv.Server{Root: n, Workers: 1}).session()
	w.call(&p9.Twalk{NewFID: 1, Names: []string{"f"}})
	w.call(&p9.Tlopen{FID: 1})
	return w, n
}

func TestFlushOfARunningRequestFollowsItsReply(t *testing.T) {
	for _, size := range []uint32{1, 60 << 10} {
		w, n := reading(t)
		w.send(10, &p9.Tread{FID: 1, Count: size})
		<-n.entered
		w.send(11, &p9.Tflush{OldTag: 10})
		w.send(12, &p9.Tflush{OldTag: 10})
		w.send(13, &p9.Tflush{OldTag: 11})
		w.send(14, &p9.Tgetattr{})
		if d := cmp.Diff([]p9.Type{p9.TypeRflush, p9.TypeRgetattr}, types(w.frames(2))); d != "" {
			t.Fatalf("before the read is done: %s", d)
		}
		close(n.gate)
		if d := cmp.Diff([]p9.Type{p9.TypeRread, p9.TypeRflush, p9.TypeRflush}, types(w.frames(3))); d != "" {
			t.Errorf("read of %d bytes: %s", size, d)
		}
		if w.tag != 12 {
			t.Errorf("the last Rflush has tag %d", w.tag)
		}
	}
}

func TestFlushOfAQueuedRequestCancelsIt(t *testing.T) {
	w, n := reading(t)
	w.send(10, &p9.Tread{FID: 1, Count: 1})
	<-n.entered
	w.send(20, &p9.Tread{FID: 1, Count: 1})
	w.send(21, &p9.Tflush{OldTag: 20})
	if d := cmp.Diff([]p9.Type{p9.TypeRflush}, types(w.frames(1))); d != "" {
		t.Fatal(d)
	}
	w.send(20, &p9.Tgetattr{})
	if w.frames(1); w.tag != 20 {
		t.Errorf("the flushed tag cannot be used again: reply to %d", w.tag)
	}
	close(n.gate)
	if got := w.frames(1); got[0].Type() != p9.TypeRread || w.tag != 10 {
		t.Errorf("reply %s to %d", got[0].Type(), w.tag)
	}
	if r := w.call(&p9.Tgetattr{}); r.Type() != p9.TypeRgetattr {
		t.Errorf("the canceled read was answered with %s", r.Type())
	}
}

func TestFlushOfAnUnknownTagIsAnswered(t *testing.T) {
	w, _ := reading(t)
	for range 1000 {
		if r := w.call(&p9.Tflush{OldTag: 4711}); r.Type() != p9.TypeRflush {
			t.Fatal(r)
		}
	}
}

func TestATagInUseEndsTheConnection(t *testing.T) {
	for _, m := range []p9.Message{
		&p9.Tread{FID: 1, Count: 1}, &p9.Tgetattr{}, &p9.Tflush{OldTag: 1},
	} {
		w, n := reading(t)
		w.send(10, &p9.Tread{FID: 1, Count: 1})
		<-n.entered
		w.send(10, m)
		if r, err := w.frame(); err == nil {
			t.Errorf("%s with a tag in use is answered with %s", m.Type(), r.Type())
		}
		close(n.gate)
		if err := <-w.end; err == nil || !strings.Contains(err.Error(), "in use") {
			t.Errorf("Serve = %v", err)
		}
	}
}

func types(list []p9.Message) []p9.Type {
	var all []p9.Type
	for _, m := range list {
		all = append(all, m.Type())
	}
	return all
}
