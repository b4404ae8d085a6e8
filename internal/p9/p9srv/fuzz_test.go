// SPDX-License-Identifier: Apache-2.0

package p9srv_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/memfs"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
)

// script is a connection whose client sends what is in it and goes away.
type script struct{ io.Reader }

func (script) Write(p []byte) (int, error) { return len(p), nil }
func (script) Close() error                { return nil }

// FuzzServe feeds the server a session followed by whatever comes: it must
// come to an end, and not by a panic.
func FuzzServe(f *testing.F) {
	var begin []byte
	begin = p9.AppendFrame(begin, p9.NoTag, &p9.Tversion{Msize: 64 << 10, Version: p9.Version})
	begin = p9.AppendFrame(begin, 0, &p9.Tattach{AFID: p9.NoFID})
	for _, list := range [][]p9.Message{
		{&p9.Twalk{NewFID: 1}, &p9.Tlcreate{FID: 1, Name: "f", Flags: 2}, &p9.Twrite{FID: 1, Data: []byte("x")},
			&p9.Tread{FID: 1, Count: 1 << 31}, &p9.Tflush{OldTag: 3}, &p9.Tclunk{FID: 1}, &p9.Tclunk{FID: 1}},
		{&p9.Tmkdir{Name: "d"}, &p9.Twalk{NewFID: 1, Names: []string{"d"}}, &p9.Trenameat{OldName: "d", NewDirFID: 1, NewName: "d"},
			&p9.Tunlinkat{Name: "d", Flags: linux.AtRemovedir}, &p9.Tmkdir{DirFID: 1, Name: "e"}, &p9.Tremove{FID: 1}},
		{&p9.Twalk{NewFID: 1}, &p9.Txattrcreate{FID: 1, Name: "user.a", Size: 4}, &p9.Twrite{FID: 1, Data: []byte("1234")},
			&p9.Tclunk{FID: 1}, &p9.Txattrwalk{NewFID: 2}, &p9.Tread{FID: 2, Count: 9}, &p9.Tlock{FID: 2}},
		{&p9.Tlopen{}, &p9.Treaddir{Count: 100}, &p9.Tlock{Length: 1 << 63}, &p9.Tgetlock{}, &p9.Tversion{Msize: 8192, Version: p9.Version}},
	} {
		var b []byte
		for i, m := range list {
			b = p9.AppendFrame(b, uint16(i+1), m)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, rest []byte) {
		srv := &p9srv.Server{Root: memfs.New().Root(), Msize: 64 << 10, MaxFIDs: 64}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		in := io.MultiReader(strings.NewReader(string(begin)), strings.NewReader(string(rest)))
		err := srv.Serve(ctx, script{in})
		if ctx.Err() != nil {
			t.Fatal("serving does not end")
		}
		if err != nil && strings.Contains(err.Error(), "panic") {
			t.Fatal(err)
		}
	})
}
