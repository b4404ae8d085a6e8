// SPDX-License-Identifier: Apache-2.0

package localsock

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"strings"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"
)

// pipeName derives the pipe from the socket file's path, so that each state
// directory has a door of its own.
func pipeName(path string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(path)))
	return `\\.\pipe\byre-` + hex.EncodeToString(sum[:6])
}

func address(path string) string {
	return "npipe://" + strings.ReplaceAll(pipeName(path), `\`, "/")
}

func listen(path string) (net.Listener, error) {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, fmt.Errorf("find own account for the pipe's access list: %w", err)
	}
	name := pipeName(path)
	// Protected: full access for the own account and for SYSTEM, nobody else.
	sd := "D:P(A;;GA;;;SY)(A;;GA;;;" + user.User.Sid.String() + ")"
	l, err := winio.ListenPipe(name, &winio.PipeConfig{SecurityDescriptor: sd})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", name, err)
	}
	return l, nil
}

func dial(ctx context.Context, path string) (net.Conn, error) {
	return winio.DialPipeContext(ctx, pipeName(path))
}
