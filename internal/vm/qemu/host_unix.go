// SPDX-License-Identifier: Apache-2.0

//go:build unix

package qemu

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// socketPair returns our end of a pair of connected sockets, and the end to be
// inherited by QEMU.
func socketPair(name string) (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make %s socket: %w", name, err)
	}
	unix.CloseOnExec(fds[0])
	unix.CloseOnExec(fds[1])
	ours, theirs := os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name)
	conn, err := net.FileConn(ours)
	if err := errors.Join(err, ours.Close()); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make %s socket: %w", name, err), theirs.Close())
	}
	return conn, theirs, nil
}

// dialSwitch connects to a switch's endpoint; the connection is QEMU's. A switch
// that has sockets of packets is asked for one: there QEMU writes no part of a
// frame, which its hub would put another frame behind.
func dialSwitch(path string) (*os.File, error) {
	conn, err := net.Dial("unixpacket", path)
	if errors.Is(err, unix.EPROTOTYPE) || errors.Is(err, unix.EPROTONOSUPPORT) {
		conn, err = net.Dial("unix", path)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to switch: %w", err)
	}
	// Some frames may wait in it; the host's bound on the wish is no error.
	_ = conn.(*net.UnixConn).SetWriteBuffer(1 << 20)
	f, err := conn.(*net.UnixConn).File()
	if err := errors.Join(err, conn.Close()); err != nil {
		return nil, fmt.Errorf("connect to switch: %w", err)
	}
	return f, nil
}

// writeWithFile sends b and a descriptor with it.
func writeWithFile(conn net.Conn, b []byte, file *os.File) error {
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.ErrUnsupported
	}
	n, _, err := uc.WriteMsgUnix(b, syscall.UnixRights(int(file.Fd())), nil)
	if err == nil && n < len(b) {
		_, err = uc.Write(b[n:])
	}
	return err
}

// inherited is the path by which QEMU opens a descriptor that it inherited.
func inherited(fd int) string { return fmt.Sprintf("/dev/fd/%d", fd) }

// allocated returns how much of a memory file is in use, in bytes; -1 when it
// does not tell.
func allocated(f *os.File) int64 {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return -1
	}
	return st.Blocks * 512
}
