// SPDX-License-Identifier: Apache-2.0

package task

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// maxAccounts bounds what is read of an image's passwd and group files.
const maxAccounts = 8 << 20

// specUser is process.user of an OCI specification. Username is Windows' in the
// specification; here it carries a user that the host could not resolve, as
// Docker writes one: "user[:group]", each a name or a number, with the names of
// further groups behind it, a comma before each.
type specUser struct {
	UID            uint32   `json:"uid"`
	GID            uint32   `json:"gid"`
	Umask          *uint32  `json:"umask,omitempty"`
	AdditionalGids []uint32 `json:"additionalGids,omitempty"`
	Username       string   `json:"username,omitempty"`
}

// resolveUser replaces a process's user name by the numbers that it has in the
// container's own passwd and group files, found below root. A process without
// a user name is left alone.
func resolveUser(process object, root string) error {
	var u specUser
	if err := process.get("user", &u); err != nil || u.Username == "" {
		return err
	}
	found, err := lookupUser(u.Username, root)
	if err != nil {
		return err
	}
	u.UID, u.GID, u.Username = uint32(found.Uid), uint32(found.Gid), ""
	// The group itself is among them, as under dockerd: a file that the group
	// may not read stays so for a process that gives its group away.
	u.AdditionalGids = append([]uint32{u.GID}, u.AdditionalGids...)
	for _, g := range found.Sgids {
		u.AdditionalGids = append(u.AdditionalGids, uint32(g))
	}
	process.set("user", u)
	return nil
}

// LookupUser finds a user, written as Docker writes one, in the account files
// of the container whose root file system is at root.
func LookupUser(name, root string) (uid, gid uint32, err error) {
	found, err := lookupUser(name, root)
	if err != nil {
		return 0, 0, err
	}
	return uint32(found.Uid), uint32(found.Gid), nil
}

func lookupUser(username, root string) (*user.ExecUser, error) {
	passwd, err := openAccounts(root, "etc/passwd")
	if err != nil {
		return nil, err
	}
	defer passwd.Close()
	group, err := openAccounts(root, "etc/group")
	if err != nil {
		return nil, err
	}
	defer group.Close()
	name, more, _ := strings.Cut(username, ",")
	var groups bytes.Buffer // read twice
	found, err := user.GetExecUser(name, nil, passwd, io.TeeReader(group, &groups))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if more == "" {
		return found, nil
	}
	if _, err := io.Copy(&groups, group); err != nil {
		return nil, fmt.Errorf("read groups: %w", err)
	}
	gids, err := user.GetAdditionalGroups(strings.Split(more, ","), &groups)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	slices.Sort(gids) // they come in no order
	found.Sgids = append(found.Sgids, gids...)
	return found, nil
}

// resolveExecUser does the same for an exec's process.
func resolveExecUser(raw []byte, root string) ([]byte, error) {
	process := object{}
	if err := json.Unmarshal(raw, &process); err != nil {
		return nil, fmt.Errorf("read exec's process: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if err := resolveUser(process, root); err != nil {
		return nil, err
	}
	return json.Marshal(process)
}

// openAccounts opens a file of a container without leaving its root, whatever
// its symlinks say. A file that is missing is empty.
func openAccounts(root, name string) (io.ReadCloser, error) {
	dir, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open root file system: %w", err)
	}
	defer dir.Close()
	fd, err := unix.Openat2(int(dir.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return io.NopCloser(io.LimitReader(nothing{}, 0)), nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: "/" + name, Err: err}
	}
	f := os.NewFile(uintptr(fd), "/"+name)
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("/%s is no file: %w", name, errdefs.ErrInvalidArgument), err, f.Close())
	}
	return accounts{io.LimitReader(f, maxAccounts), f}, nil
}

// accounts is a bounded file.
type accounts struct {
	io.Reader
	io.Closer
}

// nothing reads nothing.
type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, io.EOF }
