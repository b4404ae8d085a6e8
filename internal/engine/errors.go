// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
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
// exit codes, and returns the code that the container gets.
func startError(err error) (error, int) {
	text := err.Error()
	lower := strings.ToLower(text)
	has := func(s string) bool { return strings.Contains(lower, s) }
	prefix := "failed to create task for container: "
	switch {
	case errdefs.IsInvalidArgument(err) && strings.HasPrefix(text, "byre does not support"):
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
