// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"fmt"
	"net"
	"os/exec"
	"syscall"
	"time"

	"github.com/Microsoft/go-winio"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/windows"
)

// socket is the named pipe that the shim will serve.
type socket struct{ address, path string }

// listenSocket names the pipe of a sandbox. When a shim is serving it already
// it returns that shim's address instead.
func listenSocket(_, address, namespace, group string) (s *socket, running string, err error) {
	path := `\\.\pipe\byre-shim-` + socketName(address, namespace, group)
	timeout := 100 * time.Millisecond
	if c, err := winio.DialPipe(path, &timeout); err == nil {
		return nil, path, c.Close()
	}
	return &socket{address: path, path: path}, "", nil
}

func (s *socket) handOver(*exec.Cmd) error { return nil }

// pipeReady bounds the time until the shim serves its pipe.
const pipeReady = 5 * time.Second

// ready waits until the shim serves the pipe, which it makes itself.
func (s *socket) ready() error {
	for deadline := time.Now().Add(pipeReady); ; time.Sleep(5 * time.Millisecond) {
		timeout := time.Second
		c, err := winio.DialPipe(s.path, &timeout)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("await pipe %s: %w", s.path, err)
		}
	}
}

func (s *socket) remove() error { return nil }

// serveSocket makes the pipe, for the own account and SYSTEM alone.
func serveSocket(path string) (net.Listener, error) {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, fmt.Errorf("find own account for the pipe's access list: %w", err)
	}
	sd := "D:P(A;;GA;;;SY)(A;;GA;;;" + user.User.Sid.String() + ")"
	return winio.ListenPipe(path, &winio.PipeConfig{SecurityDescriptor: sd})
}

func serverOptions() []ttrpc.ServerOpt { return nil }

// removeSocket has nothing to remove: a pipe ends with its server.
func removeSocket(string) error { return nil }

func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		CreationFlags: windows.CREATE_NEW_PROCESS_GROUP | windows.DETACHED_PROCESS, HideWindow: true,
	}
}

// markShim, moveMark, unmarkShim and endShim have no part here: the machine and what serves it end
// with the shim's job object, and containerd knows the shim by its pipe.
func markShim(string) error { return nil }

func moveMark(string, string) error { return nil }

func unmarkShim(string) error { return nil }

func endShim(string) error { return nil }
