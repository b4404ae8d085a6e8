// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
	"unsafe"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guestapi"
)

const (
	// deviceWait bounds the wait for a device that the host has just plugged in.
	deviceWait = 15 * time.Second
	// scanAfter is when a disk that has not shown up is looked for actively:
	// the hot-plug event was lost or the controller sends none.
	scanAfter = 100 * time.Millisecond
)

func mountDisk(ctx context.Context, target string, d *guestapi.Disk, opts options) error {
	if !slices.Contains([]string{"ext4", "erofs"}, d.Fstype) {
		return fmt.Errorf("file system %q is neither ext4 nor erofs: %w", d.Fstype, errdefs.ErrInvalidArgument)
	}
	if d.Grow && (d.Fstype != "ext4" || opts.readOnly()) {
		return fmt.Errorf("only a writable ext4 can grow: %w", errdefs.ErrInvalidArgument)
	}
	dev, err := findDisk(ctx, d.Lun)
	if err != nil {
		return err
	}
	at, err := makeDir(target)
	if err != nil {
		return err
	}
	defer at.close()
	if err := unix.Mount(dev, at.path(), d.Fstype, opts.flags, opts.join()); err != nil {
		return fmt.Errorf("%s of LUN %d (%s): %w", d.Fstype, d.Lun, dev, err)
	}
	if err := finish(target, opts); err != nil {
		return err
	}
	if !d.Grow {
		return nil
	}
	if err := grow(dev, target); err != nil {
		unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
		return fmt.Errorf("grow LUN %d: %w", d.Lun, err)
	}
	return nil
}

// finish sets the propagation of a new mount, and undoes the mount when that
// fails.
func finish(target string, opts options) error {
	if opts.propagation == 0 {
		return nil
	}
	if err := unix.Mount("", target, "", opts.propagation, ""); err != nil {
		unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
		return fmt.Errorf("set propagation: %w", err)
	}
	return nil
}

// findDisk returns the device node of the disk at a LUN, waiting for it when
// it has just been plugged in.
func findDisk(ctx context.Context, lun uint32) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, deviceWait)
	defer cancel()
	start, scanned := time.Now(), false
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		if dev := diskAt("/sys", lun); dev != "" && live(dev) {
			return dev, nil
		}
		if ctx.Err() != nil {
			return "", fmt.Errorf("no disk at LUN %d after %v: %w",
				lun, time.Since(start).Round(time.Millisecond), errdefs.ErrNotFound)
		}
		if !scanned && time.Since(start) > scanAfter {
			scanned = true
			scanLUN(lun)
		}
		sleep(ctx, wait)
	}
}

// diskAt looks a LUN up in sysfs and returns the device node once it exists.
func diskAt(sys string, lun uint32) string {
	found, _ := filepath.Glob(fmt.Sprintf("%s/bus/scsi/devices/*:0:0:%d/block/*", sys, lun))
	for _, f := range found {
		dev := "/dev/" + filepath.Base(f)
		if st, err := os.Stat(dev); err == nil && st.Mode()&os.ModeDevice != 0 {
			return dev
		}
	}
	return ""
}

// live tells whether a disk can be opened. The kernel shows a new disk in sysfs
// and makes its node a moment before that (device_add_disk in block/genhd.c);
// until then opening fails with ENXIO.
func live(dev string) bool {
	fd, err := unix.Open(dev, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return !errors.Is(err, unix.ENXIO)
	}
	unix.Close(fd)
	return true
}

func scanLUN(lun uint32) {
	hosts, _ := filepath.Glob("/sys/class/scsi_host/host*/scan")
	for _, h := range hosts {
		// A host that does not scan this way is no error: the wait goes on.
		os.WriteFile(h, []byte("0 0 "+strconv.FormatUint(uint64(lun), 10)), 0)
	}
}

// ext4ResizeFS is EXT4_IOC_RESIZE_FS, _IOW('f', 16, __u64).
const ext4ResizeFS = 0x40086610

// grow extends a mounted ext4 to the size of its device.
func grow(dev, target string) error {
	f, err := os.Open(dev)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKGETSIZE64)
	if err != nil {
		return fmt.Errorf("read size of %s: %w", dev, err)
	}
	have, blockSize, err := ext4Blocks(f)
	if err != nil {
		return err
	}
	want := uint64(size) / blockSize
	if want <= have {
		return nil
	}
	dir, err := os.Open(target)
	if err != nil {
		return err
	}
	defer dir.Close()
	// SAFETY: the ioctl reads one u64 that lives until the call returns.
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), ext4ResizeFS, uintptr(unsafe.Pointer(&want)))
	if errno != 0 {
		return fmt.Errorf("resize from %d to %d blocks: %w", have, want, errno)
	}
	return nil
}

// ext4Blocks reads the number and size of blocks from the superblock.
func ext4Blocks(f *os.File) (count, size uint64, err error) {
	var sb [1024]byte
	if _, err := f.ReadAt(sb[:], 1024); err != nil {
		return 0, 0, fmt.Errorf("read superblock: %w", err)
	}
	const incompat64Bit = 0x80
	count = uint64(binary.LittleEndian.Uint32(sb[0x4:]))
	if binary.LittleEndian.Uint32(sb[0x60:])&incompat64Bit != 0 {
		count |= uint64(binary.LittleEndian.Uint32(sb[0x150:])) << 32
	}
	return count, 1024 << binary.LittleEndian.Uint32(sb[0x18:]), nil
}
