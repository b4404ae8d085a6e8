// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Layer is what a container wrote to its root file system, over what its image
// has. Close it after use.
type Layer struct {
	upper *Root
	// lower is the image's root file system; nil when there is none.
	lower *Root
}

// OpenLayer opens the writable directory of an overlay and the directories
// below it, topmost first; there may be none.
func OpenLayer(upper string, lower []string) (*Layer, error) {
	u, err := OpenRoot(upper)
	if err != nil {
		return nil, err
	}
	l := &Layer{upper: u}
	switch len(lower) {
	case 0:
	case 1:
		l.lower, err = OpenRoot(lower[0])
	default:
		l.lower, err = stackRoot(lower)
	}
	if err != nil {
		return nil, errors.Join(err, u.Close())
	}
	return l, nil
}

// stackRoot has the kernel stack directories to a root that no path leads to.
func stackRoot(lower []string) (*Root, error) {
	fsfd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("stack layers: %w", err)
	}
	defer unix.Close(fsfd)
	for _, dir := range lower {
		if err := unix.FsconfigSetString(fsfd, "lowerdir+", dir); err != nil {
			return nil, fmt.Errorf("stack layer %s: %w", dir, err)
		}
	}
	if err := unix.FsconfigCreate(fsfd); err != nil {
		return nil, fmt.Errorf("stack %d layers: %w", len(lower), err)
	}
	fd, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("stack %d layers: %w", len(lower), err)
	}
	return &Root{os.NewFile(uintptr(fd), "layers")}, nil
}

// Close releases the layer.
func (l *Layer) Close() error {
	err := l.upper.Close()
	if l.lower != nil {
		err = errors.Join(err, l.lower.Close())
	}
	return err
}

// ChangeKind says what became of a path. The numbers are Docker's.
type ChangeKind int

// What can become of a path.
const (
	Modified ChangeKind = iota
	Added
	Deleted
)

// Changes calls yield for every path that was changed, directories before what
// is in them. Paths are absolute.
func (l *Layer) Changes(yield func(ChangeKind, string) error) error {
	return l.walk(func(c change) error {
		if c.path == "" {
			return nil // as Docker leaves it out
		}
		return yield(c.kind, "/"+c.path)
	})
}

// change is one changed path.
type change struct {
	kind ChangeKind
	// path is relative to the root, "" for the root itself.
	path string
	// entry is where the path is in the writable layer; not set for what was
	// deleted.
	entry entry
	st    unix.Stat_t
}

// place is a directory on the way of a walk.
type place struct {
	parent *place
	change change
	// shown says that the walk has told of it.
	shown bool
	// lower says that the directory is one of the image's as well, hidden that
	// the image's entries do not show through.
	lower, hidden bool
}

type walker struct {
	lower *Root
	emit  func(change) error
}

// walk tells of every change. A directory that is in the layer because of what
// is in it alone is told of right before the first of that.
func (l *Layer) walk(emit func(change) error) error {
	w := &walker{l.lower, emit}
	root := &place{lower: l.lower != nil}
	root.change.entry = entry{l.upper.dir, "."}
	var err error
	if root.change.st, err = root.change.entry.lstat(); err != nil {
		return err
	}
	if root.lower && !w.same(root.change) {
		if err := emit(root.change); err != nil {
			return err
		}
	}
	root.shown = true
	return w.dir(root)
}

func (w *walker) show(p *place) error {
	if p == nil || p.shown {
		return nil
	}
	if err := w.show(p.parent); err != nil {
		return err
	}
	p.shown = true
	return w.emit(p.change)
}

func (w *walker) dir(p *place) error {
	dir, err := p.change.entry.openDir()
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("list %s: %w", p.change.path, err)
	}
	slices.Sort(names)
	if p.hidden {
		if err := w.hidden(p, names); err != nil {
			return err
		}
	}
	for _, n := range names {
		err := w.entry(p, entry{dir, n}, path.Join(p.change.path, n))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // removed meanwhile
			return err
		}
	}
	return nil
}

// hidden tells of what a directory of the image had and this one, which is in
// its place, has not.
func (w *walker) hidden(p *place, names []string) error {
	old, err := w.lower.open(p.change.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer old.Close()
	had, err := old.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("list %s: %w", p.change.path, err)
	}
	slices.Sort(had)
	for _, n := range had {
		if _, kept := slices.BinarySearch(names, n); kept {
			continue
		}
		if err := w.tell(p, change{kind: Deleted, path: path.Join(p.change.path, n)}); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) tell(p *place, c change) error {
	if err := w.show(p); err != nil {
		return err
	}
	return w.emit(c)
}

func (w *walker) entry(p *place, e entry, name string) error {
	st, err := e.lstat()
	if err != nil {
		return err
	}
	old, exists := w.below(p, name)
	c := change{kind: Added, path: name, entry: e, st: st}
	if exists {
		c.kind = Modified
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0: // overlayfs' mark
		if !exists {
			return nil
		}
		return w.tell(p, change{kind: Deleted, path: name})
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return w.subdir(p, c, exists && old.Mode&unix.S_IFMT == unix.S_IFDIR)
	case c.kind == Added && isScaffold(name) && (st.Size == 0 || st.Mode&unix.S_IFMT == unix.S_IFCHR):
		return nil
	}
	return w.tell(p, c)
}

func (w *walker) subdir(p *place, c change, lower bool) error {
	sub := &place{parent: p, change: c, lower: lower}
	sub.hidden = lower && (p.hidden || isOpaque(c.entry))
	silent := c.kind == Added && isScaffold(c.path) || lower && !sub.hidden && w.same(c)
	if !silent {
		if err := w.show(sub); err != nil {
			return err
		}
	}
	return w.dir(sub)
}

// below looks a path up in the image.
func (w *walker) below(p *place, name string) (unix.Stat_t, bool) {
	var st unix.Stat_t
	if !p.lower {
		return st, false
	}
	f, err := w.lower.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return st, false
	}
	defer f.Close()
	return st, unix.Fstat(int(f.Fd()), &st) == nil
}

// same says whether a directory differs in nothing from the image's. The times
// of those in which the daemon makes what every container needs do not count.
func (w *walker) same(c change) bool {
	if w.lower == nil {
		return false
	}
	f, err := w.lower.open(c.path+"/.", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	defer f.Close()
	old := entry{f, "."}
	st, err := old.lstat()
	if err != nil {
		return false
	}
	timed := st.Mtim != c.st.Mtim && !holdsScaffold(c.path)
	if st.Mode != c.st.Mode || st.Uid != c.st.Uid || st.Gid != c.st.Gid || timed {
		return false
	}
	var a, b tar.Header
	if readXattrs(old, &a) != nil || readXattrs(c.entry, &b) != nil {
		return false
	}
	return maps.Equal(a.PAXRecords, b.PAXRecords)
}

func isOpaque(e entry) bool {
	var value [1]byte
	n, err := unix.Lgetxattr(e.path(), "trusted.overlay.opaque", value[:])
	return err == nil && n == 1 && value[0] == 'y'
}

// scaffold is what is made in every root file system so that something can be
// mounted there. Left as it was made, it is no change of the container's.
const scaffold = " dev dev/console dev/mqueue dev/pts dev/shm etc/hostname etc/hosts etc/resolv.conf proc sbin/docker-init sys "

func isScaffold(p string) bool { return p != "" && strings.Contains(scaffold, " "+p+" ") }

func holdsScaffold(p string) bool {
	return p == "" || strings.Contains(scaffold, " "+p+"/")
}
