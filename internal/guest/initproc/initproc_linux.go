// SPDX-License-Identifier: Apache-2.0

package initproc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guestapi"
)

// Exit codes of a command that could not be started, as a shell's.
const (
	exitNotRun   = 126
	exitNotFound = 127
)

// Main runs the command in args, which an element "--" may precede, and returns
// the exit code that the process is to have: the command's, or 128+n when signal
// n ended it.
func Main(args []string) int {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, guestapi.InitName+": no command")
		return exitNotRun
	}
	// Room for a burst: a full channel drops signals.
	signals := make(chan os.Signal, 128)
	signal.Notify(signals)
	pid, err := start(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "[FATAL %s (%d)] exec %s failed: %v\n", guestapi.InitName, os.Getpid(), args[0], err)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
			return exitNotFound
		}
		return exitNotRun
	}
	for sig := range signals {
		s, ok := sig.(syscall.Signal)
		switch {
		case ok && s == unix.SIGCHLD:
			if code, done := reap(pid); done {
				return code
			}
		case ok && forwarded(s):
			_ = unix.Kill(pid, s) // one that has just ended is reaped next
		}
	}
	return exitNotRun // not reached: nobody closes the channel
}

// start starts the command in a process group of its own, which gets the
// terminal if there is one.
func start(args []string) (int, error) {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return 0, err
	}
	_, err = unix.IoctlGetTermios(0, unix.TCGETS)
	attr := &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{Setpgid: true, Foreground: err == nil},
	}
	return syscall.ForkExec(path, args, attr)
}

// forwarded says which signals are the command's: all but those that this
// program's own runtime and its terminal make.
func forwarded(s syscall.Signal) bool {
	return !slices.Contains([]syscall.Signal{unix.SIGURG, unix.SIGCHLD, unix.SIGTTIN, unix.SIGTTOU}, s)
}

// reap takes the exits of all children that have ended; done says that the
// command, pid, was among them.
func reap(pid int) (code int, done bool) {
	for {
		var st unix.WaitStatus
		got, err := unix.Wait4(-1, &st, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || got <= 0:
			return code, done
		case got == pid && st.Signaled():
			code, done = 128+int(st.Signal()), true
		case got == pid && st.Exited():
			code, done = st.ExitStatus(), true
		}
	}
}
