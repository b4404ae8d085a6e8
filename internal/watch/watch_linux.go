// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Watcher watches directories. Its methods may be called concurrently, Next
// by one goroutine.
type Watcher struct {
	root int
	file *os.File
	fd   int
	pair pairer

	mu sync.Mutex
	// ids and wds are guarded by mu.
	ids    map[int32]ID
	wds    map[ID]int32
	closed bool
}

func open(path string) (*Watcher, error) {
	if err := supported(path); err != nil {
		return nil, err
	}
	root, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		unix.Close(root)
		return nil, fmt.Errorf("start inotify: %w", err)
	}
	return &Watcher{
		root: root, file: os.NewFile(uintptr(fd), "inotify"), fd: fd,
		ids: map[int32]ID{}, wds: map[ID]int32{},
	}, nil
}

// Add watches the directory at path below the root, "" for the root itself,
// as id. No component of path may be a symbolic link, and what it leads to
// must be file; else the error is [fs.ErrNotExist]. Other errors, above all
// ENOSPC for want of watches, leave it unwatched.
func (w *Watcher) Add(id ID, path string, file Identity) error {
	dir := w.root
	if path != "" {
		how := unix.OpenHow{
			Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
		}
		fd, err := unix.Openat2(w.root, path, &how)
		if err != nil {
			return fmt.Errorf("watch %q: %w", path, notThere(err))
		}
		defer unix.Close(fd)
		dir = fd
	}
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return fmt.Errorf("watch %q: %w", path, err)
	}
	if file != (Identity{}) && file != (Identity{Volume: st.Dev, File: st.Ino}) {
		return fmt.Errorf("watch %q: another directory is there: %w", path, fs.ErrNotExist)
	}
	return w.watch(id, dir, path)
}

func notThere(err error) error {
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EXDEV) {
		return fs.ErrNotExist
	}
	return err
}

func (w *Watcher) watch(id ID, dir int, path string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return ErrClosed
	}
	wd, err := unix.InotifyAddWatch(w.fd, "/proc/self/fd/"+strconv.Itoa(dir), inotifyMask)
	if err != nil {
		return fmt.Errorf("watch %q: %w", path, err)
	}
	if old, ok := w.ids[int32(wd)]; ok {
		delete(w.wds, old)
	}
	w.ids[int32(wd)], w.wds[id] = id, int32(wd)
	return nil
}

// Remove ends the watching of a directory.
func (w *Watcher) Remove(id ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wd, ok := w.wds[id]
	if !ok || w.closed {
		return
	}
	delete(w.wds, id)
	delete(w.ids, wd)
	// It fails where the directory is gone, and the watch with it.
	_, _ = unix.InotifyRmWatch(w.fd, uint32(wd))
}

// pairWait is how long the second end of a rename may be behind the first: the
// kernel queues both in one system call.
const pairWait = 5 * time.Millisecond

// Next waits for events and returns them in order. After Close it returns
// ErrClosed.
func (w *Watcher) Next() ([]Event, error) {
	buf := make([]byte, 64<<10)
	for {
		var deadline time.Time
		if w.pair.waiting() {
			deadline = time.Now().Add(pairWait)
		}
		// It fails only where reading does.
		_ = w.file.SetReadDeadline(deadline)
		n, err := w.file.Read(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return w.pair.take(), nil
		case errors.Is(err, os.ErrClosed):
			return nil, ErrClosed
		case err != nil:
			return nil, fmt.Errorf("read changes: %w", err)
		}
		if err := w.take(buf[:n]); err != nil {
			return nil, fmt.Errorf("read changes: %w", err)
		}
		if !w.pair.waiting() && len(w.pair.out) > 0 {
			return w.pair.take(), nil
		}
	}
}

// take decodes what was read.
func (w *Watcher) take(b []byte) error {
	events, err := decodeInotify(b)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range events {
		if e.mask&inOverflow != 0 {
			w.pair.add(half{Event: Event{Op: Lost}})
			continue
		}
		id, ok := w.ids[e.wd]
		if e.mask&(inIgnored|inUnmount) != 0 && ok {
			delete(w.ids, e.wd)
			if w.wds[id] == e.wd {
				delete(w.wds, id)
			}
			continue
		}
		if h, some := e.translate(id); ok && some {
			w.pair.add(h)
		}
	}
	return nil
}

// Close ends all watching and makes Next return.
func (w *Watcher) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	return errors.Join(w.file.Close(), unix.Close(w.root))
}

// limit reads what inotify(7) describes as max_user_watches.
func limit() int {
	b, err := os.ReadFile("/proc/sys/fs/inotify/max_user_watches")
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return n
}

// foreign are file systems on which others than this kernel may change files,
// by statfs(2)'s magic number.
var foreign = map[int64]string{
	0x6969: "nfs", 0x517b: "smb", 0xff534d42: "cifs", 0xfe534d42: "smb2", 0x01021997: "9p",
	0x65735546: "fuse", 0x6a656a63: "virtiofs", 0x73757245: "coda", 0x5346414f: "afs",
	0x6b414653: "afs", 0x00c36400: "ceph", 0x47504653: "gpfs", 0x0bd00bd0: "lustre",
	0x7461636f: "ocfs2", 0x01161970: "gfs2", 0x564c: "ncp", 0x786f4256: "vboxsf", 0xbacbacbc: "vmhgfs",
}

func supported(path string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return err
	}
	if name := foreign[int64(uint32(st.Type))]; name != "" {
		return fmt.Errorf("others may change files of the file system (%s) without the host being told: %w", name, errors.ErrUnsupported)
	}
	return nil
}
