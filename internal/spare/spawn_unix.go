// SPDX-License-Identifier: Apache-2.0

//go:build unix

package spare

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// spawn runs the shim's program in dir and returns the connection to the spare
// shim that it started.
func spawn(program string, args []string, dir string) (_ net.Conn, err error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("connect spare shim: %w", err)
	}
	defer func() { err = errors.Join(err, theirs.Close()) }()
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	cmd := exec.Command(program, args...) //nolint:noctx // it starts another and ends
	cmd.Dir = dir
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = log
	if err := cmd.Run(); err != nil {
		return nil, errors.Join(fmt.Errorf("start spare shim: %w", err), ours.Close())
	}
	return ours, nil
}

func socketPair() (ours net.Conn, theirs *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, err
	}
	f := os.NewFile(uintptr(fds[0]), "spare shim")
	theirs = os.NewFile(uintptr(fds[1]), "owner")
	ours, err = net.FileConn(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return ours, theirs, nil
}
