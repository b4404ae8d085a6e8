// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guestapi"
)

// options are a mount's options, split as mount(2) wants them.
type options struct {
	flags uintptr
	// propagation is a flag for a second call, 0 for none.
	propagation uintptr
	data        []string
}

func (o options) readOnly() bool { return o.flags&unix.MS_RDONLY != 0 }

// join returns the data with more in front of it.
func (o options) join(more ...string) string {
	return strings.Join(append(more, o.data...), ",")
}

// flagOptions are the options that every file system knows.
var flagOptions = map[string]struct {
	clear bool
	flag  uintptr
}{
	"ro": {false, unix.MS_RDONLY}, "rw": {true, unix.MS_RDONLY},
	"nosuid": {false, unix.MS_NOSUID}, "suid": {true, unix.MS_NOSUID},
	"nodev": {false, unix.MS_NODEV}, "dev": {true, unix.MS_NODEV},
	"noexec": {false, unix.MS_NOEXEC}, "exec": {true, unix.MS_NOEXEC},
	"noatime": {false, unix.MS_NOATIME}, "atime": {true, unix.MS_NOATIME},
	"nodiratime": {false, unix.MS_NODIRATIME}, "diratime": {true, unix.MS_NODIRATIME},
	"relatime": {false, unix.MS_RELATIME}, "norelatime": {true, unix.MS_RELATIME},
	"strictatime": {false, unix.MS_STRICTATIME}, "lazytime": {false, unix.MS_LAZYTIME},
	"sync": {false, unix.MS_SYNCHRONOUS}, "async": {true, unix.MS_SYNCHRONOUS},
	"dirsync": {false, unix.MS_DIRSYNC}, "defaults": {},
}

var propagationOptions = map[string]uintptr{
	"private": unix.MS_PRIVATE, "rprivate": unix.MS_PRIVATE | unix.MS_REC,
	"shared": unix.MS_SHARED, "rshared": unix.MS_SHARED | unix.MS_REC,
	"slave": unix.MS_SLAVE, "rslave": unix.MS_SLAVE | unix.MS_REC,
	"unbindable": unix.MS_UNBINDABLE, "runbindable": unix.MS_UNBINDABLE | unix.MS_REC,
}

// knownData are the options that a kind of mount takes besides; a name that
// ends in "=" wants a value.
func knownData(mnt *guestapi.Mount) []string {
	switch s := mnt.Source.(type) {
	case *guestapi.Mount_Disk:
		if s.Disk.GetFstype() == "ext4" {
			return []string{"discard", "nodiscard", "noload", "norecovery", "barrier=", "nobarrier",
				"commit=", "data=", "errors=", "delalloc", "nodelalloc", "init_itable=", "noinit_itable",
				"journal_async_commit", "journal_checksum", "usrquota", "grpquota", "prjquota"}
		}
		return []string{"user_xattr", "acl", "noacl", "cache_strategy=", "dax="}
	case *guestapi.Mount_Overlay:
		return []string{"index=", "metacopy=", "redirect_dir=", "xino=", "volatile", "userxattr", "nfs_export=", "uuid="}
	case *guestapi.Mount_Share:
		return []string{"noxattr", "ignoreqv", "afid=", "dfltuid=", "dfltgid=", "cachetag="}
	case *guestapi.Mount_Tmpfs:
		return []string{"size=", "mode=", "uid=", "gid=", "nr_inodes=", "nr_blocks=", "huge=", "noswap"}
	}
	return nil
}

func parseOptions(mnt *guestapi.Mount) (options, error) {
	var o options
	known := knownData(mnt)
	_, bind := mnt.Source.(*guestapi.Mount_Bind)
	for _, opt := range mnt.Options {
		name, _, valued := strings.Cut(opt, "=")
		if valued {
			name += "="
		}
		f, isFlag := flagOptions[opt]
		prop := propagationOptions[opt]
		switch {
		case isFlag && f.clear:
			o.flags &^= f.flag
		case isFlag:
			o.flags |= f.flag
		case prop != 0:
			o.propagation = prop
		case bind && (opt == "bind" || opt == "rbind"):
		case slices.Contains(known, name) && !strings.Contains(opt, ","):
			o.data = append(o.data, opt)
		default:
			return options{}, fmt.Errorf("unknown mount option %q: %w", opt, errdefs.ErrInvalidArgument)
		}
	}
	if mnt.ReadOnly {
		o.flags |= unix.MS_RDONLY
	}
	return o, nil
}
