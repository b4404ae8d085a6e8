// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guestapi"
)

// Replay repeats the host's changes to a share on its mount and returns the
// error number of each, 0 for success. The file server knows the user that
// they are made as and changes nothing for it: what remains is that this
// kernel's caches follow and watchers are told.
func (m *Manager) Replay(target string, changes []*guestapi.Change) ([]uint32, error) {
	if len(changes) > guestapi.MaxChanges {
		return nil, fmt.Errorf("replay %d changes, at most %d at once: %w", len(changes), guestapi.MaxChanges, errdefs.ErrInvalidArgument)
	}
	if !slices.Contains(m.Targets(), target) {
		return nil, fmt.Errorf("replay at %q, where nothing is mounted: %w", target, errdefs.ErrNotFound)
	}
	root, err := openPlace(target)
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	defer root.close()
	type answer struct {
		errnos []uint32
		err    error
	}
	done := make(chan answer)
	go func() { // received from below
		// The thread takes the user of replay and is not given back: it ends
		// with the goroutine.
		runtime.LockOSThread()
		if err := becomeReplayer(); err != nil {
			done <- answer{err: err}
			return
		}
		out := make([]uint32, len(changes))
		for i, c := range changes {
			out[i] = number(replayOne(root.fd, c))
		}
		done <- answer{errnos: out}
	}()
	a := <-done
	return a.errnos, a.err
}

// becomeReplayer makes the calling thread act as ReplayUID on file systems,
// with all capabilities kept: the guest's own permissions are no matter.
func becomeReplayer() error {
	// SECBIT_NO_SETUID_FIXUP
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, 1<<2, 0, 0, 0); err != nil {
		return fmt.Errorf("replay: keep capabilities: %w", err)
	}
	if err := unix.Setfsuid(guestapi.ReplayUID); err != nil {
		return fmt.Errorf("replay: change user: %w", err)
	}
	if uid, err := unix.SetfsuidRetUid(-1); err != nil || uid != guestapi.ReplayUID {
		return fmt.Errorf("replay: change user: the user is %d (%v)", uid, err)
	}
	return nil
}

// number returns the error number in err, EIO if there is none.
func number(err error) uint32 {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[unix.Errno](err); ok {
		return uint32(e)
	}
	return uint32(unix.EIO)
}

// openDir opens a directory of the share, following nothing out of it.
func openDir(root int, path []byte) (int, error) {
	if len(path) == 0 {
		path = []byte(".")
	}
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	return unix.Openat2(root, string(path), &how)
}

func checkName(name []byte) (string, error) {
	s := string(name)
	if s == "" || s == "." || s == ".." || len(s) > unix.NAME_MAX || strings.ContainsAny(s, "/\x00") {
		return "", unix.EINVAL
	}
	return s, nil
}

func replayOne(root int, c *guestapi.Change) error {
	name, err := checkName(c.Name)
	if err != nil {
		return err
	}
	dir, err := openDir(root, c.Dir)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	switch c.Kind {
	case guestapi.Change_CREATE:
		return replayCreate(dir, name, c)
	case guestapi.Change_REMOVE:
		flags := 0
		if c.IsDir {
			flags = unix.AT_REMOVEDIR
		}
		return unix.Unlinkat(dir, name, flags)
	case guestapi.Change_RENAME:
		return replayRename(root, dir, name, c)
	case guestapi.Change_MODIFY:
		return replayModify(dir, name, c)
	case guestapi.Change_ATTRIB:
		return replayAttrib(dir, name)
	}
	return unix.EINVAL
}

// replayCreate makes a name known. A file is made as a symbolic link: v9fs
// makes no inode of that, tells watchers, and looks the name up when it is
// next used.
func replayCreate(dir int, name string, c *guestapi.Change) error {
	if c.IsDir {
		return unix.Mkdirat(dir, name, 0o755)
	}
	if c.Known {
		// A change of nothing makes v9fs ask for the attributes when the name
		// is next looked up, and the answer then is that it is not there.
		err := unix.Fchownat(dir, name, -1, -1, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return unix.Symlinkat(".", dir, name)
}

func replayRename(root, dir int, name string, c *guestapi.Change) error {
	toName, err := checkName(c.ToName)
	if err != nil {
		return err
	}
	to, err := openDir(root, c.ToDir)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	return unix.Renameat(dir, name, to, toName)
}

// replayModify drops what is cached of a file and sets its size, of which
// watchers hear as a change of contents.
func replayModify(dir int, name string, c *guestapi.Change) error {
	h, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(h)
	var st unix.Stat_t
	if err := unix.Fstat(h, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return unix.EINVAL
	}
	defer refresh(dir, name)
	path := "/proc/self/fd/" + strconv.Itoa(h)
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ETXTBSY) { // it is being executed
		return errors.Join(dropPages(path), replayAttrib(dir, name))
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return resize(fd, st.Size, int64(c.Size))
}

// resize makes a file that the host changed have its size, which this kernel
// takes to be old. Pages are dropped before and, because what was read
// meanwhile ends where the file ended, after it.
func resize(fd int, old, size int64) error {
	if err := unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED); err != nil {
		return err
	}
	if err := setSize(fd, old, size); err != nil {
		return err
	}
	return unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)
}

// setSize tells the kernel a file's size. On kernels that are not byre's a
// size that is set leaves what lies behind the old end a hole, which netfs
// does not read (netfs_inode.zero_point). There a direct write up to the new
// end, which the server acknowledges without doing it, says that it is none.
// A write that the server refuses is an error of the file's that the next
// fsync of any process is told, so byre's kernel is spared it.
func setSize(fd int, old, size int64) error {
	if size < old || size == 0 || ownKernel() {
		return unix.Ftruncate(fd, size)
	}
	_, err := unix.Pwrite(fd, []byte{0}, size-1)
	return err
}

// ownKernel says whether the kernel is byre's (kernel/config), whose 9P client
// reads what lies below a size that was set.
func ownKernel() bool {
	var u unix.Utsname
	return unix.Uname(&u) == nil && strings.HasSuffix(unix.ByteSliceToString(u.Release[:]), "-byre")
}

func dropPages(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)
}

// replayAttrib touches a file, which makes v9fs ask for its attributes anew.
func replayAttrib(dir int, name string) error {
	defer refresh(dir, name)
	return unix.UtimesNanoAt(dir, name, nil, unix.AT_SYMLINK_NOFOLLOW)
}

// refresh looks a name up, so that open files show the new attributes too.
func refresh(dir int, name string) {
	var st unix.Stat_t
	_ = unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) // only its effect counts
}
