// SPDX-License-Identifier: Apache-2.0

package task

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// consoleSocket is where runc sends the master of a terminal that it made.
type consoleSocket struct {
	dir string
	l   *net.UnixListener
}

// newConsoleSocket listens in a directory of its own with a short name: a
// socket's path is bounded to 107 bytes.
func newConsoleSocket(parent string) (*consoleSocket, error) {
	dir, err := os.MkdirTemp(parent, "pty")
	if err != nil {
		return nil, fmt.Errorf("make console socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("make console socket: %w", err)
	}
	return &consoleSocket{dir: dir, l: l}, nil
}

func (c *consoleSocket) path() string { return filepath.Join(c.dir, "s") }

// receive takes the master; runc has sent it by the time it exits.
func (c *consoleSocket) receive() (*os.File, error) {
	c.l.SetDeadline(time.Now().Add(5 * time.Second))
	conn, err := c.l.AcceptUnix()
	if err != nil {
		return nil, fmt.Errorf("await terminal from runc: %w", err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	name, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(name, oob)
	if err != nil {
		return nil, fmt.Errorf("receive terminal from runc: %w", err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return nil, errors.New("runc sent no terminal")
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.New("runc sent no terminal")
	}
	unix.CloseOnExec(fds[0])
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		return nil, fmt.Errorf("prepare terminal: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "ptmx"), nil
}

func (c *consoleSocket) close() {
	c.l.Close()
	os.RemoveAll(c.dir)
}

// resize sets a terminal's size.
func resize(pty *os.File, width, height uint32) error {
	rc, err := pty.SyscallConn()
	if err != nil {
		return err
	}
	var ierr error
	err = rc.Control(func(fd uintptr) {
		ierr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ,
			&unix.Winsize{Row: uint16(height), Col: uint16(width)})
	})
	return errors.Join(err, ierr)
}
