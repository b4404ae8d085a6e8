// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guestapi"
)

func mountTmpfs(target string, t *guestapi.Tmpfs, opts options) error {
	at, err := makeDir(target)
	if err != nil {
		return err
	}
	defer at.close()
	var more []string
	if t.SizeBytes != 0 {
		more = append(more, fmt.Sprintf("size=%d", t.SizeBytes))
	}
	if t.Mode != 0 {
		more = append(more, fmt.Sprintf("mode=%o", t.Mode&0o7777))
	}
	if err := unix.Mount("tmpfs", at.path(), "tmpfs", opts.flags, opts.join(more...)); err != nil {
		return fmt.Errorf("tmpfs: %w", err)
	}
	return finish(target, opts)
}

func mountBind(target string, b *guestapi.Bind, opts options) error {
	src, err := openSource(b.Source)
	if errors.Is(err, fs.ErrNotExist) { // a directory of a scratch disk that is still to be made
		src, err = makeDir(b.Source)
	}
	if err != nil {
		return err
	}
	if b.Subpath != "" {
		below, err := openBeneath(src, b.Subpath)
		src.close()
		if err != nil {
			return err
		}
		src = below
	}
	defer src.close()
	var st unix.Stat_t
	if err := unix.Fstat(src.fd, &st); err != nil {
		return fmt.Errorf("stat %s: %w", b.Source, err)
	}
	makeTarget := makeFile
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		makeTarget = makeDir
	}
	at, err := makeTarget(target)
	if err != nil {
		return err
	}
	defer at.close()
	flags := uintptr(unix.MS_BIND)
	if b.Recursive {
		flags |= unix.MS_REC
	}
	if err := unix.Mount(src.path(), at.path(), "", flags, ""); err != nil {
		return fmt.Errorf("bind %s: %w", b.Source, err)
	}
	if opts.flags != 0 { // a bind takes its flags from a second call
		if err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|opts.flags, ""); err != nil {
			unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
			return fmt.Errorf("set flags of bind %s: %w", b.Source, err)
		}
	}
	return finish(target, opts)
}
