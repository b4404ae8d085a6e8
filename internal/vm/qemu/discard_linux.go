// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// discards answers, in QEMU's place, its requests to punch holes into the
// template that it maps privately.
//
// A guest that frees memory has QEMU drop it: QEMU punches a hole into the
// memory's file and unmaps the pages, and does so to a private mapping's file
// too, which all clones share (system/physmem.c, ram_block_discard_range). So
// the call that punches holes, fallocate, is brought before us by seccomp's
// user notification: for the template it is answered as done, and not done,
// and QEMU goes on to unmap the clone's own pages; for every other file it
// goes ahead. A guest that touches a freed page again finds the template's
// content, which free page reporting allows: Linux turns it off where a freed
// page must keep its content or be zero (drivers/virtio/virtio_balloon.c,
// virtballoon_validate).
type discards struct {
	template os.FileInfo

	mu sync.Mutex
	// notify is seccomp's listener, guarded by mu until QEMU has started.
	notify *os.File
}

// discardFilter is the seccomp program that brings fallocate with
// FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE before us and lets all else pass.
// Offsets are those of struct seccomp_data (linux/seccomp.h).
func discardFilter() ([]unix.SockFilter, error) {
	arch, ok := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	if !ok {
		return nil, fmt.Errorf("no filter for %s: %w", runtime.GOARCH, errors.ErrUnsupported)
	}
	const (
		offNumber, offArch, offMode = 0, 4, 24
		load                        = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal                       = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret                         = unix.BPF_RET | unix.BPF_K
		punch                       = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	)
	return []unix.SockFilter{
		{Code: load, K: offArch},
		{Code: equal, K: arch, Jf: 5},
		{Code: load, K: offNumber},
		{Code: equal, K: unix.SYS_FALLOCATE, Jf: 3},
		{Code: load, K: offMode},
		{Code: equal, K: punch, Jf: 1},
		{Code: ret, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: ret, K: unix.SECCOMP_RET_ALLOW},
	}, nil
}

// install puts the filter on the calling thread, which must be QEMU's parent
// and nothing else's.
func (d *discards) install() error {
	prog, err := discardFilter()
	if err != nil {
		return fmt.Errorf("%w: %w", errNoFilter, err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("%w: give up new privileges: %w", errNoFilter, err)
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	// SAFETY: the kernel copies the program before the call returns.
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&fprog)))
	runtime.KeepAlive(prog)
	if errno != 0 {
		return fmt.Errorf("%w: install seccomp filter: %w", errNoFilter, errno)
	}
	if err := unix.SetNonblock(int(fd), true); err != nil {
		return errors.Join(err, unix.Close(int(fd)))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.notify = os.NewFile(fd, "seccomp listener")
	return nil
}

func (d *discards) listener() *os.File {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.notify
}

// close ends serve; it is idempotent. QEMU must be gone: nobody answers it any
// more.
func (d *discards) close() error {
	f := d.listener()
	if f == nil {
		return nil
	}
	if err := f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// notification and answer are struct seccomp_notif and seccomp_notif_resp
// (linux/seccomp.h).
type notification struct {
	id         uint64
	pid, flags uint32
	number     int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type answer struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

// serve answers QEMU until close, or QEMU's end.
func (d *discards) serve() {
	f := d.listener()
	if f == nil {
		return
	}
	rc, err := f.SyscallConn()
	if err != nil {
		return
	}
	for {
		var n notification
		var rerr error
		err := rc.Read(func(fd uintptr) bool {
			var ready bool
			ready, rerr = pollIn(fd)
			if ready {
				rerr = ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n))
			}
			return ready || rerr != nil
		})
		switch {
		case err != nil || errors.Is(rerr, errHangup):
			return
		case rerr != nil:
			continue // the caller was interrupted; it calls again
		}
		a := answer{id: n.id}
		if !d.isTemplate(n) {
			a.flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
		}
		_ = rc.Control(func(fd uintptr) {
			_ = ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&a))
		})
	}
}

func (d *discards) isTemplate(n notification) bool {
	fi, err := os.Stat(fmt.Sprintf("/proc/%d/fd/%d", n.pid, int32(n.args[0])))
	return err == nil && os.SameFile(fi, d.template)
}

var errHangup = errors.New("everybody under the filter is gone")

// pollIn tells whether a notification waits: receiving one would block.
func pollIn(fd uintptr) (bool, error) {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	_, err := unix.Poll(p, 0)
	switch {
	case p[0].Revents&unix.POLLIN != 0:
		return true, nil
	case p[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0:
		return false, errHangup
	case errors.Is(err, unix.EINTR):
		return false, nil
	}
	return false, err
}

func ioctl(fd, request uintptr, arg unsafe.Pointer) error {
	// SAFETY: arg points at the struct that the request fills or reads, which
	// lives over the call.
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// sharesTemplates tells whether clones may map templates of dir privately: a
// file system in memory keeps every page that a mapping as much as looks at.
func sharesTemplates(dir string) bool {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false
	}
	switch int64(st.Type) {
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC, unix.HUGETLBFS_MAGIC:
		return false
	}
	return true
}
