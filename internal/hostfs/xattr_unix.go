// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostfs

import (
	"bytes"
	"maps"
	"slices"
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

// beside says whether an attribute of a file is kept in the sidecar. Of
// symbolic links that are mapped everything is, but for what no link has.
func (n *node) beside(name string) (bool, linux.Errno) {
	if !n.fs.cfg.Mapped {
		return false, 0
	}
	if n.ino.kind.IsSymlink() {
		switch class, _, _ := strings.Cut(name, "."); class {
		case "user":
			return true, linux.EPERM
		case "system":
			return true, linux.EOPNOTSUPP
		}
		return true, 0
	}
	return n.fs.cfg.SidecarOnly, 0
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
	beside, e := n.beside(name)
	if e != 0 {
		return nil, linux.ENODATA
	}
	if beside {
		return n.besideXattr(name)
	}
	h, e := n.fs.acquire(n.ino)
	if e != 0 {
		return nil, e
	}
	defer n.fs.unpin(n.ino)
	v, err := getxattr(h, "", host)
	if e = n.fs.errno(err); e == linux.EOPNOTSUPP && n.fs.cfg.Mapped {
		return n.besideXattr(name)
	}
	return v, e
}

func (n *node) besideXattr(name string) ([]byte, linux.Errno) {
	if m := n.fs.side.get(n.ino.id); m != nil {
		if v, ok := m.attrs[name]; ok {
			return v, 0
		}
	}
	return nil, linux.ENODATA
}

// Listxattr returns the names that the guest may see.
func (n *node) Listxattr() ([]byte, linux.Errno) {
	var names []byte
	if n.fs.cfg.Mapped {
		if m := n.fs.side.get(n.ino.id); m != nil {
			for _, name := range slices.Sorted(maps.Keys(m.attrs)) {
				names = append(append(names, name...), 0)
			}
		}
	}
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
		return names, e
	}
	for name := range bytes.SplitSeq(list, []byte{0}) {
		if g, ok := n.fs.guestXattr(string(name)); ok && g != "" {
			names = append(append(names, g...), 0)
		}
	}
	return names, 0
}

// Setxattr sets an attribute.
func (n *node) Setxattr(name string, value []byte, flags uint32) linux.Errno {
	return n.changeXattr(name, func(h int, host string) error {
		return setxattr(h, host, value, int(flags))
	}, func(there bool) ([]record, linux.Errno) {
		switch {
		case there && flags&linux.XattrCreate != 0:
			return nil, linux.EEXIST
		case !there && flags&linux.XattrReplace != 0:
			return nil, linux.ENODATA
		}
		return []record{attrRecord(name, value)}, 0
	})
}

// Removexattr removes an attribute.
func (n *node) Removexattr(name string) linux.Errno {
	return n.changeXattr(name, removexattr, func(there bool) ([]record, linux.Errno) {
		if !there {
			return nil, linux.ENODATA
		}
		return []record{noneRecord(name)}, 0
	})
}

// changeXattr changes an attribute on the host, or in the sidecar where that
// is its place; changes says how, given whether the attribute is there.
func (n *node) changeXattr(name string, onHost func(h int, host string) error, changes func(there bool) ([]record, linux.Errno)) linux.Errno {
	if e := n.fs.writable(); e != 0 {
		return e
	}
	host, e := n.fs.hostXattr(name)
	if e != 0 {
		return e
	}
	beside, e := n.beside(name)
	if e != 0 {
		return e
	}
	if !beside {
		h, e := n.fs.acquire(n.ino)
		if e != 0 {
			return e
		}
		defer n.fs.unpin(n.ino)
		if e = n.fs.errno(onHost(h, host)); e != linux.EOPNOTSUPP || !n.fs.cfg.Mapped {
			return e
		}
	}
	n.fs.metaMu.Lock()
	defer n.fs.metaMu.Unlock()
	m, there := n.fs.side.get(n.ino.id), false
	if m != nil {
		_, there = m.attrs[name]
	}
	list, e := changes(there)
	if e != 0 {
		return e
	}
	return n.fs.errno(n.fs.side.put(n.ino.id, list...))
}
