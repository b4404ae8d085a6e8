// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/usernet"
)

func errNotRunning(id string) error {
	return errdefs.ErrConflict.WithMessage(fmt.Sprintf("container %s is not running", id))
}

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

func conflict(format string, args ...any) error {
	return errdefs.ErrConflict.WithMessage(fmt.Sprintf(format, args...))
}

// Exit codes of containers that could not be started, as in dockerd.
const (
	exitCannotInvoke = 126
	exitNotFound     = 127
	exitUnknown      = 128
	// exitLost is that of a container whose machine went while nobody looked.
	exitLost = 255
)

// startError puts a failed start in the words by which Docker's CLI knows the
// exit codes, and returns the code that the process gets. prefix is put before
// what the runtime said.
func startError(err error, prefix string) (error, int) {
	text := runtimeText(err.Error())
	lower := strings.ToLower(text)
	has := func(s string) bool { return strings.Contains(lower, s) }
	switch {
	case errdefs.IsInvalidArgument(err) && strings.Contains(text, "unable to find "):
		// A user or group that the image has not; the rest is how it came here.
		text = text[strings.Index(text, "unable to find "):]
		return invalid("%s", strings.TrimSuffix(text, ": "+errdefs.ErrInvalidArgument.Error())), exitUnknown
	case errdefs.IsInvalidArgument(err) && !has("runc"), errors.Is(err, usernet.ErrPortInUse):
		// The request is at fault, or the host: no runtime was asked.
		return err, exitUnknown
	case has("permission denied"):
		return invalid("%s%s", prefix, text), exitCannotInvoke
	case has("is a directory"):
		return invalid("%s%s: permission denied", prefix, text), exitCannotInvoke
	case has("executable file not found"), has("no such file or directory"):
		return invalid("%s%s", prefix, text), exitNotFound
	}
	return fmt.Errorf("%s%w", prefix, err), exitUnknown
}

// runtimeText leaves of an error what the OCI runtime said, if it said
// anything: the rest is how it came here.
func runtimeText(text string) string {
	if i := strings.Index(text, "runc create failed"); i >= 0 {
		return "failed to create shim task: OCI runtime create failed: " + text[i:]
	}
	if i := strings.Index(text, "exec failed: "); i >= 0 {
		return "OCI runtime exec failed: " + text[i:]
	}
	return text
}
