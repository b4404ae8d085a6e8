// SPDX-License-Identifier: Apache-2.0

//go:build linux

package hostfs_test

import (
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"byre.dev/byre/internal/hostfs"
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/memfs"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/p9test"
	"byre.dev/byre/internal/p9/replay"
	"byre.dev/byre/internal/watch"
)

// TestRandomOperationsAgree runs the same operations on the host's directory,
// as root and mapped, with hardly any handle kept, on the model, and on a
// directory without a server: each must answer the same, and in the end the
// trees must be the same.
func TestRandomOperationsAgree(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "m")
		if err != nil {
			rt.Fatal(err)
		}
		mapped := os.Getuid() != 0 || rapid.Bool().Draw(rt, "mapped")
		cfg := hostfs.Config{
			Path: dir, Mapped: mapped, Handles: 2, Sidecar: dir + ".side",
			SidecarOnly: mapped && rapid.Bool().Draw(rt, "sidecar only"),
		}
		var host *world
		if rapid.Bool().Draw(rt, "followed") {
			f := follow(t, cfg)
			host = newWorld(p9test.Client(f.guest, 0))
			defer f.knows(rt)
		} else {
			host = newWorld(p9test.Client(export(t, cfg), 0))
		}
		model := newWorld(p9test.Client(p9test.Attach(t, &p9srv.Server{Root: memfs.New().Root()}, 0), 0))
		local := localMount(t, rt)
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			op := draw(rt)
			got, want := op.do(host), op.do(model)
			if got != want {
				rt.Fatalf("%v: host answers %q, model %q", op, got, want)
			}
			if local == nil {
				continue
			}
			if want := op.do(local); got != want {
				rt.Fatalf("%v: host answers %q, the local file system %q", op, got, want)
			}
		}
		got := host.end()
		if want := model.end(); got != want {
			rt.Fatalf("host has\n%s\nmodel has\n%s", got, want)
		}
		if local == nil {
			return
		}
		if want := local.end(); got != want {
			rt.Fatalf("host has\n%s\nthe local file system has\n%s", got, want)
		}
	})
}

// knows checks that the guest, who has made all changes, is told of none, but
// for attributes that a file got under another name.
func (f *followed) knows(rt *rapid.T) {
	f.tree.Note([]watch.Event{{Op: watch.Lost}})
	for _, s := range f.tree.Plan(100) {
		if s.Kind == replay.Attrib {
			continue
		}
		rt.Errorf("the guest is told of its own change %d of %s/%s", s.Kind, s.Dir, s.Name)
	}
	f.tree.Finish(nil, nil)
}

// localMount is a directory of this system without a server before it, nil if
// this process may not do there what the model may.
func localMount(t *testing.T, rt *rapid.T) *world {
	if os.Getuid() != 0 {
		return nil
	}
	dir, err := os.MkdirTemp(t.TempDir(), "l")
	if err != nil {
		rt.Fatal(err)
	}
	return newWorld(unfollowed{p9test.OS(dir)})
}

// unfollowed is a Mount of this system that does not follow links, as none
// does over 9P.
type unfollowed struct{ p9test.Mount }

// reach tells what is wrong with the way to a path.
func (m unfollowed) reach(path string) error {
	for i := range path {
		if path[i] != '/' {
			continue
		}
		a, err := m.Stat(path[:i])
		if err != nil {
			return err
		}
		if a.Mode.IsSymlink() {
			return linux.ENOTDIR
		}
	}
	return nil
}

func (m unfollowed) Open(path string, flags linux.OpenFlags, mode linux.Mode) (p9test.File, error) {
	// FIFOs are the guest's own, not the server's to open.
	if a, err := m.Stat(path); err == nil && a.Mode.IsSpecial() {
		return nil, linux.ENXIO
	}
	return m.Mount.Open(path, flags|linux.ONofollow, mode)
}

func (m unfollowed) Removexattr(path, name string) error {
	if _, err := m.Getxattr(path, name); err != nil {
		return err
	}
	return m.Mount.Removexattr(path, name)
}

func (m unfollowed) Setattr(path string, s p9.SetAttr) error {
	if a, err := m.Stat(path); err == nil && s.Valid == p9.SetSize && !a.Mode.IsDir() && !a.Mode.IsRegular() {
		return linux.EINVAL
	}
	return m.Mount.Setattr(path, s)
}

// op is an operation on one or two paths.
type op struct {
	kind, a, b string
	n          int
}

func draw(rt *rapid.T) op {
	path := rapid.SampledFrom([]string{"a", "b", "c", "a", "b", "a/a", "a/b", "b/a", "a/a/c", "c/b"})
	return op{
		kind: rapid.SampledFrom([]string{
			"write", "write", "mkdir", "mkdir", "symlink", "link", "rename", "rename", "unlink",
			"rmdir", "truncate", "chmod", "chown", "mknod", "setxattr", "removexattr", "read", "append",
			"exchange", "exchange", "noreplace", "hold", "hold", "hold", "hold",
			"held write", "held read", "held truncate", "held chmod", "held chown", "held setxattr", "held getxattr",
			"held lock", "held lock", "held lock",
		}).Draw(rt, "op"),
		a: path.Draw(rt, "a"), b: path.Draw(rt, "b"), n: rapid.IntRange(0, 5000).Draw(rt, "n"),
	}
}

// do performs the operation and tells its outcome.
func (o op) do(m *world) string {
	var err error
	if strings.HasPrefix(o.kind, "held ") {
		return m.held(o)
	}
	dropped := ""
	if o.kind == "hold" {
		dropped = m.drop(o)
	}
	if l, ok := m.Mount.(unfollowed); ok {
		err = l.reach(o.a)
		if _, missing := l.Stat(o.a); err == nil && (o.moves() || o.kind == "link" && missing == nil) {
			err = l.reach(o.b)
		}
		if err != nil {
			return dropped + o.outcome(err)
		}
	}
	switch o.kind {
	case "write":
		return o.write(m)
	case "append":
		return o.append(m)
	case "hold":
		return dropped + m.hold(o)
	case "read":
		return read(m, o.a)
	case "mkdir":
		err = m.Mkdir(o.a, linux.Mode(o.n)&0o777)
	case "symlink":
		err = m.Symlink(o.b, o.a)
	case "link":
		err = m.Link(o.a, o.b)
	case "rename":
		err = m.Rename(o.a, o.b)
	case "exchange":
		err = m.Rename2(o.a, o.b, linux.RenameExchange)
	case "noreplace":
		err = m.Rename2(o.a, o.b, linux.RenameNoreplace)
	case "unlink":
		err = m.Unlink(o.a)
	case "rmdir":
		err = m.Rmdir(o.a)
	case "truncate":
		err = m.Setattr(o.a, p9.SetAttr{Valid: p9.SetSize, Size: uint64(o.n)})
	case "chmod":
		err = m.Setattr(o.a, p9.SetAttr{Valid: p9.SetMode, Mode: linux.Mode(o.n) & 0o7777})
	case "chown":
		err = m.Setattr(o.a, p9.SetAttr{Valid: p9.SetUID | p9.SetGID, UID: uint32(o.n), GID: 7})
	case "mknod":
		err = m.Mknod(o.a, linux.TypeFIFO|0o644, 0, 0)
	case "setxattr":
		// Linux keeps user attributes on files and directories alone.
		if a, e := m.Stat(o.a); e == nil && !a.Mode.IsRegular() && !a.Mode.IsDir() {
			return "skipped"
		}
		err = m.Setxattr(o.a, "user.x", []byte(o.b), 0)
	case "removexattr":
		if a, e := m.Stat(o.a); e == nil && !a.Mode.IsRegular() && !a.Mode.IsDir() {
			return "skipped"
		}
		err = m.Removexattr(o.a, "user.x")
	}
	return o.outcome(err)
}

// moves says that the operation is a rename.
func (o op) moves() bool { return o.kind == "rename" || o.kind == "exchange" || o.kind == "noreplace" }

// outcome is an error without which of two reasons was looked at first.
func (o op) outcome(err error) string {
	switch {
	case o.kind == "link" && errors.Is(err, linux.EPERM):
		err = linux.EEXIST
	case o.moves() && errors.Is(err, linux.ENOTDIR):
		err = linux.ENOENT
	}
	return outcome(err)
}

func (o op) write(m p9test.Mount) string {
	f, err := m.Open(o.a, linux.OCreate|linux.ORdwr, 0o640)
	if err != nil {
		return outcome(err)
	}
	defer f.Close()
	n, err := f.WriteAt([]byte(strings.Repeat("x", o.n%100+1)), int64(o.n))
	return fmt.Sprint(n, outcome(err))
}

func (o op) append(m p9test.Mount) string {
	f, err := m.Open(o.a, linux.OWronly|linux.OAppend, 0)
	if err != nil {
		return outcome(err)
	}
	defer f.Close()
	// Where O_APPEND writes is not said by the offset.
	n, err := f.WriteAt([]byte(strings.Repeat("a", o.n%50+1)), int64(o.n))
	return fmt.Sprint(n, outcome(err))
}

func read(m p9test.Mount, path string) string {
	f, err := m.Open(path, linux.ORdonly, 0)
	if err != nil {
		return outcome(err)
	}
	defer f.Close()
	return whole(f)
}

func whole(f p9test.File) string {
	b := make([]byte, 16384)
	n, err := f.ReadAt(b, 0)
	return fmt.Sprintf("%q %s", b[:n], outcome(err))
}

// outcome is an error without what file systems may choose between.
func outcome(err error) string {
	if errors.Is(err, linux.EEXIST) || errors.Is(err, linux.ENOTEMPTY) {
		return "exists or not empty"
	}
	return fmt.Sprint(err)
}

// tree describes all that is below a directory.
func tree(m p9test.Mount, dir string) string {
	list, err := m.Readdir(dir)
	if err != nil {
		return outcome(err)
	}
	sort.Slice(list, func(i, k int) bool { return list[i].Name < list[k].Name })
	var b strings.Builder
	for _, d := range list {
		path := strings.TrimPrefix(dir+"/"+d.Name, "/")
		a, err := m.Stat(path)
		size := a.Size
		if a.Mode.IsDir() {
			size = 0
		}
		x, _ := m.Getxattr(path, "user.x")
		fmt.Fprintf(&b, "%s %o %d:%d %d %d %d %q %s\n", path, a.Mode, a.UID, a.GID, a.Nlink, size, d.Type, x, outcome(err))
		switch {
		case a.Mode.IsDir():
			b.WriteString(tree(m, path))
		case a.Mode.IsRegular():
			b.WriteString(read(m, path) + "\n")
		case a.Mode.IsSymlink():
			target, _ := m.Readlink(path)
			b.WriteString(target + "\n")
		}
	}
	return b.String()
}
