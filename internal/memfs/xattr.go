// SPDX-License-Identifier: Apache-2.0

package memfs

import (
	"maps"
	"slices"
	"strings"

	"byre.dev/byre/internal/linux"
)

func checkXattr(name string) linux.Errno {
	switch class, _, _ := strings.Cut(name, "."); {
	case class == "user", class == "trusted", class == "security":
		return 0
	case name == "system.posix_acl_access", name == "system.posix_acl_default":
		return 0
	}
	return linux.EOPNOTSUPP
}

// Getxattr returns an attribute's value.
func (n *node) Getxattr(name string) ([]byte, linux.Errno) {
	if e := checkXattr(name); e != 0 {
		return nil, e
	}
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	v, ok := n.ino.xattr[name]
	if !ok {
		return nil, linux.ENODATA
	}
	return slices.Clone(v), 0
}

// Listxattr returns the names of all.
func (n *node) Listxattr() ([]byte, linux.Errno) {
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	var list []byte
	for _, name := range slices.Sorted(maps.Keys(n.ino.xattr)) {
		list = append(append(list, name...), 0)
	}
	return list, 0
}

// Setxattr sets an attribute.
func (n *node) Setxattr(name string, value []byte, flags uint32) linux.Errno {
	if e := checkXattr(name); e != 0 {
		return e
	}
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	_, ok := n.ino.xattr[name]
	switch {
	case ok && flags&linux.XattrCreate != 0:
		return linux.EEXIST
	case !ok && flags&linux.XattrReplace != 0:
		return linux.ENODATA
	}
	if n.ino.xattr == nil {
		n.ino.xattr = make(map[string][]byte)
	}
	n.ino.xattr[name] = slices.Clone(value)
	n.ino.ctime = n.fs.clock()
	return 0
}

// Removexattr removes an attribute.
func (n *node) Removexattr(name string) linux.Errno {
	if e := checkXattr(name); e != 0 {
		return e
	}
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	if _, ok := n.ino.xattr[name]; !ok {
		return linux.ENODATA
	}
	delete(n.ino.xattr, name)
	n.ino.ctime = n.fs.clock()
	return 0
}
