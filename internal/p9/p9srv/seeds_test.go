// SPDX-License-Identifier: Apache-2.0

package p9srv_test

import (
	"strings"
	"testing"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
)

// seeds are sessions to begin fuzzing with: a client that behaves, and one that
// means harm. Fid 0 is attached; see FuzzServe.
var seeds = [][]p9.Message{
	{&p9.Twalk{NewFID: 1}, &p9.Tlcreate{FID: 1, Name: "f", Flags: 2}, &p9.Twrite{FID: 1, Data: []byte("x")},
		&p9.Tread{FID: 1, Count: 1 << 31}, &p9.Tflush{OldTag: 3}, &p9.Tclunk{FID: 1}, &p9.Tclunk{FID: 1}},
	{&p9.Tmkdir{Name: "d"}, &p9.Twalk{NewFID: 1, Names: []string{"d"}}, &p9.Trenameat{OldName: "d", NewDirFID: 1, NewName: "d"},
		&p9.Tunlinkat{Name: "d", Flags: linux.AtRemovedir}, &p9.Tmkdir{DirFID: 1, Name: "e"}, &p9.Tremove{FID: 1}},
	{&p9.Twalk{NewFID: 1}, &p9.Txattrcreate{FID: 1, Name: "user.a", Size: 4}, &p9.Twrite{FID: 1, Data: []byte("1234")},
		&p9.Tclunk{FID: 1}, &p9.Txattrwalk{NewFID: 2}, &p9.Tread{FID: 2, Count: 9}, &p9.Tlock{FID: 2}},
	{&p9.Tlopen{}, &p9.Treaddir{Count: 100}, &p9.Tlock{Length: 1 << 63}, &p9.Tgetlock{}, &p9.Tversion{Msize: 8192, Version: p9.Version}},
	{&p9.Tsymlink{Name: "l", Target: "f"}, &p9.Twalk{NewFID: 1, Names: []string{"l"}}, &p9.Treadlink{FID: 1}, &p9.Tstatfs{},
		&p9.Tmknod{Name: "p", Mode: linux.TypeFIFO | 0o600}, &p9.Tlink{FID: 1, Name: "m"}, &p9.Trename{FID: 1, Name: "n"},
		&p9.Tsetattr{FID: 1, SetAttr: p9.SetAttr{Valid: p9.SetMtime}}, &p9.Tgetattr{FID: 1, Mask: p9.AttrAll}},
	// The secret, given and attached with.
	{&p9.Tauth{AFID: 7}, &p9.Twrite{FID: 7, Data: []byte("sec")}, &p9.Twrite{FID: 7, Offset: 3, Data: []byte("ret")},
		&p9.Tattach{FID: 8, AFID: 7}, &p9.Tgetattr{FID: 8, Mask: p9.AttrAll}, &p9.Tclunk{FID: 7}},
	// Requests beyond 9P2000.L.
	{&p9.Tgetattr{Mask: 1<<33 | p9.AttrAll}, &p9.Tcreateat{NewFID: 1, Name: "f", Flags: linux.ORdwr, Mode: 0o644, Mask: p9.AttrAll},
		&p9.Twrite{FID: 1, Data: []byte("contents")}, &p9.Tallocate{FID: 1, Mode: 3, Offset: 1, Length: 2}, &p9.Tfsync{FID: 1, Datasync: 1},
		&p9.Tlookup{NewFID: 2, Name: "f", Mask: p9.AttrAll}, &p9.Topenat{FID: 2, NewFID: 3}, &p9.Tread{FID: 3, Count: 20},
		&p9.Trenameat2{OldName: "f", NewName: "g", Flags: linux.RenameNoreplace}, &p9.Trenameat2{OldName: "g", NewName: "h", Flags: linux.RenameExchange},
		&p9.Ttmpfile{NewFID: 4, Flags: linux.ORdwr, Mode: 0o600}, &p9.Tlink{FID: 4, Name: "t"},
		&p9.Topendir{NewFID: 5, Count: 4096}, &p9.Treaddir{FID: 5, Count: 100}, &p9.Tmapped{FID: 3}},
	// The same, by who means harm.
	{&p9.Tauth{}, &p9.Tauth{AFID: p9.NoFID}, &p9.Tauth{AFID: 7, Uname: strings.Repeat("u", 4000)}, &p9.Tauth{AFID: 7},
		&p9.Twrite{FID: 7, Offset: 1<<64 - 1, Data: []byte("x")}, &p9.Twrite{FID: 7, Data: make([]byte, 4000)},
		&p9.Tread{FID: 7, Count: 100}, &p9.Twalk{FID: 7, NewFID: 9}, &p9.Tlopen{FID: 7}, &p9.Tattach{FID: 7, AFID: 7},
		&p9.Tattach{FID: 9, AFID: 1}, &p9.Tremove{FID: 7}},
	{&p9.Tlookup{NewFID: 0, Name: ".."}, &p9.Tlookup{FID: 99, NewFID: 1, Name: "a/b"}, &p9.Tlookup{NewFID: p9.NoFID, Mask: 1<<64 - 1},
		&p9.Topenat{NewFID: 0, Flags: 1<<32 - 1}, &p9.Topenat{FID: 99, NewFID: 1}, &p9.Topenat{NewFID: 2, Flags: linux.ORdwr | linux.OTrunc},
		&p9.Tcreateat{NewFID: 0, Name: "f", Flags: 1<<32 - 1, Mode: 1<<32 - 1}, &p9.Tcreateat{NewFID: 3, Name: strings.Repeat("n", 300)},
		&p9.Tcreateat{NewFID: 3, Name: "x", Flags: linux.ORdwr}, &p9.Tcreateat{DirFID: 3, NewFID: 4, Name: "x"}},
	{&p9.Tcreateat{NewFID: 1, Name: "f", Flags: linux.ORdwr}, &p9.Tallocate{FID: 1, Length: 1<<64 - 1}, &p9.Tallocate{FID: 1, Offset: 1<<63 - 1, Length: 1},
		&p9.Tallocate{FID: 1, Mode: 1<<32 - 1, Length: 1}, &p9.Tallocate{FID: 0, Length: 1}, &p9.Tallocate{FID: 99},
		&p9.Tsetattr{FID: 1, SetAttr: p9.SetAttr{Valid: p9.SetSize, Size: 1<<64 - 1}}, &p9.Tread{FID: 1, Offset: 1<<63 - 1, Count: 1<<32 - 1}},
	{&p9.Tmkdir{Name: "d"}, &p9.Tmkdir{Name: "e"}, &p9.Trenameat2{OldName: "d", NewName: "d", Flags: linux.RenameExchange},
		&p9.Trenameat2{OldName: "d", NewName: "e", Flags: 1<<32 - 1}, &p9.Trenameat2{OldName: "d", NewDirFID: 99, NewName: "e"},
		&p9.Trenameat2{OldName: "../d", NewName: "e"}, &p9.Ttmpfile{NewFID: 0}, &p9.Ttmpfile{DirFID: 99, NewFID: 1},
		&p9.Ttmpfile{NewFID: 1, Flags: 1<<32 - 1, Mode: 1<<32 - 1}, &p9.Ttmpfile{NewFID: 2}, &p9.Tlink{FID: 2, DirFID: 2, Name: "x"},
		&p9.Topendir{NewFID: 0}, &p9.Topendir{NewFID: 4, Flags: 1<<32 - 1, Count: 1<<32 - 1}, &p9.Topendir{FID: 2, NewFID: 5, Count: 1},
		&p9.Tmapped{FID: 0}, &p9.Tmapped{FID: 2}, &p9.Tmapped{FID: 99}},
	// As the guest's agent: on a tree that is followed it may only say what was
	// announced.
	{&p9.Tattach{FID: 8, AFID: p9.NoFID, NUname: 0x7ffffff0}, &p9.Tcreateat{DirFID: 8, NewFID: 1, Name: "f", Flags: linux.ORdwr},
		&p9.Tmkdir{DirFID: 8, Name: "d"}, &p9.Tmkdir{Name: "d"}, &p9.Twalk{FID: 8, NewFID: 2, Names: []string{"d"}},
		&p9.Trenameat2{OldDirFID: 8, OldName: "d", NewName: "e"}, &p9.Trenameat2{OldName: "d", NewDirFID: 8, NewName: "e"},
		&p9.Tlink{DirFID: 8, FID: 2, Name: "x"}, &p9.Tlink{FID: 8, Name: "x"}, &p9.Tsymlink{FID: 8, Name: "y"},
		&p9.Tunlinkat{DirFID: 8, Name: "d", Flags: linux.AtRemovedir}, &p9.Tremove{FID: 2}, &p9.Topendir{FID: 8, NewFID: 3, Count: 100}},
}

func TestTheSeedsHaveEveryRequest(t *testing.T) {
	has := map[p9.Type]bool{p9.TypeTversion: true, p9.TypeTattach: true}
	for _, session := range seeds {
		for _, m := range session {
			has[m.Type()] = true
		}
	}
	for typ := range 256 {
		if m := p9.New(p9.Type(typ)); m != nil && strings.HasPrefix(m.Type().String(), "T") && !has[m.Type()] {
			t.Errorf("no seed of FuzzServe has a %s", m.Type())
		}
	}
}
