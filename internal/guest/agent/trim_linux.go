// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guestapi"
)

// Trim gives unused blocks of the mounted disks and the page cache back.
func (s *session) Trim(_ context.Context, r *guestapi.TrimRequest) (*guestapi.TrimResponse, error) {
	resp := &guestapi.TrimResponse{}
	if r.Disks {
		for _, t := range s.mounts.Targets() {
			n, err := fstrim(t)
			if err != nil {
				return nil, fmt.Errorf("trim %s: %w", t, err)
			}
			resp.DiskBytes += n
		}
	}
	if r.Memory {
		// Clean pages alone: what else the kernel keeps is in use, and compaction writes
		// to more pages of a clone's than it frees.
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0); err != nil {
			return nil, fmt.Errorf("drop caches: %w", err)
		}
		debug.FreeOSMemory()
	}
	return resp, nil
}

// fstrimRange is struct fstrim_range of FITRIM.
type fstrimRange struct{ start, length, minLength uint64 }

const fitrim = 0xc0185879

// fstrim trims a mounted ext4 and returns the bytes given back; what is no
// writable ext4 has none.
func fstrim(target string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(target, &st); err != nil {
		return 0, err
	}
	if st.Type != unix.EXT4_SUPER_MAGIC || st.Flags&unix.ST_RDONLY != 0 {
		return 0, nil
	}
	fd, err := unix.Open(target, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	r := fstrimRange{length: ^uint64(0)}
	// SAFETY: the kernel reads and writes r during the call only.
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fitrim, uintptr(unsafe.Pointer(&r)))
	switch {
	case errors.Is(errno, unix.EOPNOTSUPP), errors.Is(errno, unix.EROFS):
		return 0, nil // the disk has no discard, or is attached read-only
	case errno != 0:
		return 0, errno
	}
	return r.length, nil
}
