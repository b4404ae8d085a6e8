// SPDX-License-Identifier: Apache-2.0

package p9srv_test

import (
	"testing"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/memfs"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9client"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/p9test"
)

// What makes or empties a file in one go with opening it does neither where
// there is no fid for it.
func TestARequestThatIsRefusedAFidChangesNothing(t *testing.T) {
	const most = 8
	root := p9test.Attach(t, &p9srv.Server{Root: memfs.New().Root(), MaxFIDs: most}, 0)
	made, err := root.Walk()
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Create("f", linux.ORdwr, 0o644, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := made.WriteAt([]byte("text"), 0); err != nil {
		t.Fatal(err)
	}
	f, err := root.Walk("f")
	if err != nil {
		t.Fatal(err)
	}
	var more []*p9client.FID
	for range most - 3 {
		next, err := root.Walk()
		if err != nil {
			t.Fatal(err)
		}
		more = append(more, next)
	}
	const free, used = 1 << 21, 0
	for name, c := range map[string]struct {
		num  uint32
		want linux.Errno
	}{"there are too many": {free, linux.EMFILE}, "the number is taken": {more[used].Num(), linux.EINVAL}} {
		client := root.Client()
		create := &p9.Tcreateat{DirFID: root.Num(), NewFID: c.num, Name: "new", Flags: linux.ORdwr, Mode: 0o644}
		if err := client.Call(create, &p9.Rcreateat{}); err != c.want {
			t.Errorf("a file is made where %s: %v, want %v", name, err, c.want)
		}
		open := &p9.Topenat{FID: f.Num(), NewFID: c.num, Flags: linux.ORdwr | linux.OTrunc}
		if err := client.Call(open, &p9.Ropenat{}); err != c.want {
			t.Errorf("a file is opened where %s: %v, want %v", name, err, c.want)
		}
	}
	for _, f := range more {
		if err := f.Clunk(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := root.Walk("new"); err != linux.ENOENT {
		t.Errorf("what was not to be made: %v", err)
	}
	if a, err := f.Getattr(p9.AttrAll); err != nil || a.Size != 4 {
		t.Errorf("what was not to be opened has %d bytes, %v", a.Size, err)
	}
}
