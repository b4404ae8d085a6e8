// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostfs

import (
	"bytes"
	"strings"

	"byre.dev/byre/internal/linux"
)

// hostXattr is the host's name for a guest's attribute. Where metadata is
// mapped, what only root may set is kept under a name of ours, and the names
// that we keep things under are not the guest's to use.
func (fs *FS) hostXattr(name string) (string, linux.Errno) {
	class, _, ok := strings.Cut(name, ".")
	if !ok {
		return "", linux.EOPNOTSUPP
	}
	switch class {
	case "user":
		if fs.cfg.Mapped && ours(name) {
			return "", linux.EPERM
		}
		return name, 0
	case "trusted", "security":
	case "system":
		if name != "system.posix_acl_access" && name != "system.posix_acl_default" {
			return "", linux.EOPNOTSUPP
		}
	default:
		return "", linux.EOPNOTSUPP
	}
	if fs.cfg.Mapped {
		return attrHidden + name, 0
	}
	return name, 0
}

func ours(name string) bool {
	return name == attrOverride || strings.HasPrefix(name, attrHidden)
}

// guestXattr is the guest's name for a host's attribute; false if the guest
// is not to see it.
func (fs *FS) guestXattr(name string) (string, bool) {
	if !fs.cfg.Mapped {
		return name, true
	}
	if rest, ok := strings.CutPrefix(name, attrHidden); ok {
		return rest, strings.Contains(rest, ".")
	}
	return name, strings.HasPrefix(name, "user.") && name != attrOverride
}

// Getxattr returns an attribute's value.
func (n *node) Getxattr(name string) ([]byte, linux.Errno) {
	host, e := n.fs.hostXattr(name)
	if e == linux.EPERM {
		return nil, linux.ENODATA
	}
	if e != 0 {
		return nil, e
	}
	h, e := n.fs.acquire(n.ino)
	if e != 0 {
		return nil, e
	}
	defer n.fs.unpin(n.ino)
	v, err := getxattr(h, "", host)
	return v, n.fs.errno(err)
}

// Listxattr returns the names that the guest may see.
func (n *node) Listxattr() ([]byte, linux.Errno) {
	h, e := n.fs.acquire(n.ino)
	if e != 0 {
		return nil, e
	}
	defer n.fs.unpin(n.ino)
	list, err := listxattr(h)
	if err != nil {
		e := n.fs.errno(err)
		if e == linux.EOPNOTSUPP {
			e = 0
		}
		return nil, e
	}
	var names []byte
	for name := range bytes.SplitSeq(list, []byte{0}) {
		if g, ok := n.fs.guestXattr(string(name)); ok && g != "" {
			names = append(append(names, g...), 0)
		}
	}
	return names, 0
}

// Setxattr sets an attribute.
func (n *node) Setxattr(name string, value []byte, flags uint32) linux.Errno {
	h, host, e := n.beginXattr(name)
	if e != 0 {
		return e
	}
	defer n.fs.unpin(n.ino)
	return n.fs.errno(setxattr(h, host, value, int(flags)))
}

// Removexattr removes an attribute.
func (n *node) Removexattr(name string) linux.Errno {
	h, host, e := n.beginXattr(name)
	if e != 0 {
		return e
	}
	defer n.fs.unpin(n.ino)
	return n.fs.errno(removexattr(h, host))
}

func (n *node) beginXattr(name string) (int, string, linux.Errno) {
	if e := n.fs.writable(); e != 0 {
		return -1, "", e
	}
	host, e := n.fs.hostXattr(name)
	if e != 0 {
		return -1, "", e
	}
	h, e := n.fs.acquire(n.ino)
	return h, host, e
}
