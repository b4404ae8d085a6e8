// SPDX-License-Identifier: Apache-2.0

//go:build linux

package hostfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"byre.dev/byre/internal/hostfs"
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9client"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/p9test"
	"byre.dev/byre/internal/p9/replay"
	"byre.dev/byre/internal/watch"
)

// followed is an export that a machine with byre's kernel follows.
type followed struct {
	tree *replay.Tree
	// guest and agent are the roots of the machine's two attaches.
	guest, agent *p9client.FID
}

func follow(t *testing.T, cfg hostfs.Config) *followed {
	t.Helper()
	fs, err := hostfs.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	root := fs.Root()
	f := &followed{tree: replay.New(replay.Config{Root: root, Watcher: unwatched{}, Reclaims: true})}
	t.Cleanup(func() {
		f.tree.Close()
		root.Release()
		if err := fs.Close(); err != nil {
			t.Error(err)
		}
	})
	c := p9test.Dial(t, &p9srv.Server{Root: root, Attach: f.tree.Attach})
	if f.guest, err = c.Attach("", 0); err == nil {
		f.agent, err = c.Attach("", replay.UID)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// changed tells of new contents of f and returns the steps that are planned.
func (f *followed) changed() []*replay.Step {
	f.tree.Note([]watch.Event{{Name: "f", Op: watch.Modify | watch.Close}}) // the root is the first directory
	return f.tree.Plan(10)
}

func write(t *testing.T, f *p9client.FID, text string) {
	t.Helper()
	if _, err := f.WriteAt([]byte(text), 0); err != nil {
		t.Fatal(err)
	}
}

func TestAFileThatAnotherMachineWritesIsTakenFromTheCache(t *testing.T) {
	cfg := lockShare(t)
	a, b := follow(t, cfg), machine(t, cfg)
	w, cached := opens(t, a.guest, "f", linux.ORdwr)
	if !cached {
		t.Error("opened by nobody else, and not cached")
	}
	other, cached := opens(t, b, "f", linux.ORdwr)
	if cached {
		t.Error("another machine caches it as well")
	}
	write(t, w, "of its own")
	if steps := a.changed(); len(steps) != 0 {
		t.Errorf("a machine is told of its own change: %v", steps)
	}
	a.tree.Finish(nil, nil)
	write(t, other, "of the other machine")
	steps := a.changed()
	if len(steps) != 1 || steps[0].Kind != replay.Modify {
		t.Fatalf("steps %v", steps)
	}
	h, cached := opens(t, a.agent, "f", linux.OWronly)
	if cached {
		t.Error("the agent opens it and the cache is not given up")
	}
	// What the guest gives up is written through any handle.
	write(t, h, "o")
	err := h.Client().Call(&p9.Tsetattr{FID: h.Num(), SetAttr: p9.SetAttr{Valid: p9.SetSize, Size: steps[0].Size}}, &p9.Rsetattr{})
	if err != nil {
		t.Errorf("the new size is not taken: %v", err)
	}
	a.tree.Finish(steps, []linux.Errno{0})
	for _, f := range []*p9client.FID{h, w, other} {
		if err := f.Clunk(); err != nil {
			t.Error(err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(cfg.Path, "f")); string(got) != "of the other machine" {
		t.Errorf("the file holds %q, %v", got, err)
	}
}

// A file that lost its name is opened as the one that has it; its attributes
// are then the other's, or the client would read as much as the old one held,
// and so is what is done by that fid. It is so whether the server still has a
// handle of the old one or not.
func TestWhatIsOpenedInPlaceOfAnotherIsThatOneAltogether(t *testing.T) {
	for name, handles := range map[string]int{"the old one is at hand": 0, "it would have to be found": 1} {
		t.Run(name, func(t *testing.T) {
			cfg := lockShare(t)
			cfg.Handles = handles
			a := follow(t, cfg)
			var fids []*p9client.FID
			for range 2 {
				f, err := a.guest.Walk("f")
				if err == nil {
					_, err = f.Getattr(p9.AttrAll)
				}
				if err != nil {
					t.Fatal(err)
				}
				fids = append(fids, f)
			}
			if err := errors.Join(fids[0].Open(linux.ORdonly), fids[0].Clunk()); err != nil {
				t.Fatal(err)
			}
			const text = "longer than before"
			path := filepath.Join(cfg.Path, "f")
			if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
			f := fids[1]
			if err := f.Open(linux.ORdwr); err != nil {
				t.Fatal(err)
			}
			if at, err := f.Getattr(p9.AttrAll); err != nil || at.Size != uint64(len(text)) {
				t.Errorf("it tells a size of %d, %v, and has %d bytes", at.Size, err, len(text))
			}
			if err := f.Setattr(p9.SetAttr{Valid: p9.SetSize, Size: 6}); err != nil {
				t.Error(err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != text[:6] {
				t.Errorf("cut to 6 bytes, the file holds %q, %v", got, err)
			}
		})
	}
}
