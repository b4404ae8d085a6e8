// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guestapi"
)

// maxLower is overlayfs' own limit (OVL_MAX_STACK).
const maxLower = 500

// mountOverlay stacks directories. Layers are given to the kernel one by one
// (lowerdir+), so that no page-sized option string bounds their number, and as
// open directories, so that no character of a path needs escaping.
func mountOverlay(target string, o *guestapi.Overlay, opts options) error {
	switch {
	case len(o.Lower) == 0 || len(o.Lower) > maxLower:
		return fmt.Errorf("%d lower directories, not 1 to %d: %w", len(o.Lower), maxLower, errdefs.ErrInvalidArgument)
	case (o.Upper == "") != (o.Work == ""):
		return fmt.Errorf("upper and work go together: %w", errdefs.ErrInvalidArgument)
	}
	fsfd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open overlay: %w", err)
	}
	defer unix.Close(fsfd)
	cfg := overlayConfig{fsfd: fsfd}
	defer cfg.close()
	for _, l := range o.Lower {
		cfg.dir("lowerdir+", l, openSource)
	}
	if o.Upper != "" {
		cfg.dir("upperdir", o.Upper, makeSource)
		cfg.dir("workdir", o.Work, makeSource)
	}
	cfg.set("source", "overlay")
	for _, d := range opts.data {
		name, value, _ := strings.Cut(d, "=")
		cfg.set(name, value)
	}
	if cfg.err != nil {
		return cfg.err
	}
	if o.Upper != "" {
		giveBack, err := lendReserve(cfg.places[len(cfg.places)-1].fd)
		if err != nil {
			return fmt.Errorf("make room on a full disk: %w", err)
		}
		defer giveBack()
	}
	if err := unix.FsconfigCreate(fsfd); err != nil {
		return fmt.Errorf("create overlay of %d layers: %w%s", len(o.Lower), err, kernelSays(fsfd))
	}
	return attachNew(fsfd, target, opts)
}

func makeSource(p string) (place, error) {
	p, err := confined(p)
	if err != nil {
		return place{}, err
	}
	if err := os.Mkdir(p, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return place{}, err
	}
	return openPlace(p)
}

// overlayConfig collects fsconfig calls and keeps the first error.
type overlayConfig struct {
	fsfd   int
	places []place
	err    error
}

func (c *overlayConfig) dir(key, path string, open func(string) (place, error)) {
	if c.err != nil {
		return
	}
	p, err := open(path)
	if err != nil {
		c.err = fmt.Errorf("%s: %w", key, err)
		return
	}
	c.places = append(c.places, p)
	c.set(key, p.path())
}

func (c *overlayConfig) set(key, value string) {
	if c.err != nil {
		return
	}
	var err error
	if value == "" {
		err = unix.FsconfigSetFlag(c.fsfd, key)
	} else {
		err = unix.FsconfigSetString(c.fsfd, key, value)
	}
	if err != nil {
		c.err = fmt.Errorf("set %s: %w%s", key, err, kernelSays(c.fsfd))
	}
}

func (c *overlayConfig) close() {
	for _, p := range c.places {
		p.close()
	}
}

// kernelSays reads the messages that the kernel left on a file system context.
func kernelSays(fsfd int) string {
	var out strings.Builder
	buf := make([]byte, 1024)
	for range 8 {
		n, err := unix.Read(fsfd, buf)
		if err != nil || n <= 0 {
			break
		}
		out.WriteString(" (" + strconv.Quote(string(buf[:n])) + ")")
	}
	return out.String()
}

// attachNew turns a configured file system context into a mount at target.
func attachNew(fsfd int, target string, opts options) error {
	mfd, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, mountAttr(opts.flags))
	if err != nil {
		return fmt.Errorf("make mount: %w", err)
	}
	defer unix.Close(mfd)
	at, err := makeDir(target)
	if err != nil {
		return err
	}
	defer at.close()
	flags := unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH
	if err := unix.MoveMount(mfd, "", at.fd, "", flags); err != nil {
		return fmt.Errorf("attach mount: %w", err)
	}
	return finish(target, opts)
}

// mountAttr translates mount(2) flags to those of fsmount(2).
func mountAttr(flags uintptr) int {
	attrs := 0
	for _, t := range []struct {
		flag uintptr
		attr int
	}{
		{unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY},
		{unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID},
		{unix.MS_NODEV, unix.MOUNT_ATTR_NODEV},
		{unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC},
		{unix.MS_NOATIME, unix.MOUNT_ATTR_NOATIME},
		{unix.MS_NODIRATIME, unix.MOUNT_ATTR_NODIRATIME},
		{unix.MS_STRICTATIME, unix.MOUNT_ATTR_STRICTATIME},
	} {
		if flags&t.flag != 0 {
			attrs |= t.attr
		}
	}
	return attrs
}
