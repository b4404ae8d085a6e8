// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/proto"

	"byre.dev/byre/internal/sandbox"
	"byre.dev/byre/internal/shimapi"
)

// maxParams bounds what containerd writes to standard input.
const maxParams = 10 << 20

// groupLabels are annotations whose value names a sandbox that several
// containers share; containerd's own shim knows the same.
var groupLabels = []string{shimapi.AnnotationGroup, "io.kubernetes.cri.sandbox-id"}

// start opens the shim's socket, spawns the shim proper with it and answers
// where it is. It waits for nothing: the shim begins to claim its machine
// meanwhile.
func (c *call) start() error {
	params, err := c.bootstrap()
	if err != nil {
		return err
	}
	spec, settings, err := readBundle(c.bundle)
	if err != nil {
		return err
	}
	group := c.id
	for _, label := range groupLabels {
		if g := spec.Annotations[label]; g != "" {
			group = g
			break
		}
	}
	l, running, err := listenSocket(params.GetSocketDir(), c.address, c.namespace, group)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	if running == "" {
		running = l.address
		if c.takeSpare(params.GetSocketDir(), settings, l) {
			return c.answerStart(params != nil, running)
		}
		if err := c.spawn(l); err != nil {
			return errors.Join(fmt.Errorf("start shim: %w", err), l.remove())
		}
	}
	return c.answerStart(params != nil, running)
}

// bootstrap reads the parameters of containerd 2.3 and later. Before that the
// runtime's options, or nothing, came the same way: then there are none.
func (c *call) bootstrap() (*bootapi.BootstrapParams, error) {
	b, err := io.ReadAll(io.LimitReader(c.stdin, maxParams))
	if err != nil {
		return nil, fmt.Errorf("read parameters: %w", err)
	}
	p := &bootapi.BootstrapParams{}
	if err := proto.Unmarshal(b, p); err != nil || p.GetInstanceID() != c.id || p.GetNamespace() != c.namespace {
		return nil, nil //nolint:nilerr // options of an older containerd, which we have no use for
	}
	if p.GetLogLevel() <= bootapi.LogLevel_LOG_LEVEL_DEBUG {
		c.debug = true
	}
	return p, nil
}

func (c *call) answerStart(modern bool, address string) error {
	if !modern {
		return json.NewEncoder(c.stdout).Encode(map[string]any{"version": 3, "address": address, "protocol": "ttrpc"})
	}
	result := &bootapi.BootstrapResult{Version: 3, Address: address, Protocol: "ttrpc"}
	mountTypes, transforms := sandbox.Claims()
	if err := result.AddExtension(&types.MountCapabilities{Types: mountTypes, Transforms: transforms}); err != nil {
		return fmt.Errorf("encode mount capabilities: %w", err)
	}
	return c.answer(result)
}

// spawn starts the shim proper: this program again, without an action.
func (c *call) spawn(l *socket) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{"-namespace", c.namespace, "-id", c.id, "-address", c.address, "-socket", l.path}
	if c.debug {
		args = append(args, "-debug")
	}
	cmd := exec.Command(self, args...) //nolint:noctx // it outlives us
	cmd.Dir = c.bundle
	detach(cmd)
	if err := l.handOver(cmd); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := easeOOMScore(cmd.Process.Pid); err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}
	if err := l.ready(); err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}
	return cmd.Process.Release()
}

// socketName is the same for the same containerd, namespace and sandbox.
func socketName(address, namespace, group string) string {
	sum := sha256.Sum256([]byte(filepath.Join(address, namespace, group)))
	return hex.EncodeToString(sum[:])
}
