// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"byre.dev/byre/internal/sandbox"
	"byre.dev/byre/internal/shimapi"
	"byre.dev/byre/internal/vm"
)

// Config is what the program gives the shim.
type Config struct {
	// Driver makes the driver that starts machines, and names the template of
	// scratch disks that goes with its guest image.
	Driver func(log *slog.Logger) (driver vm.Driver, scratch string, err error)
	// SidecarDir is sandbox.Config's.
	SidecarDir string
	// Watches is sandbox.Config's.
	Watches int
	// Build is the version of the program.
	Build string
}

// call is one invocation by containerd.
type call struct {
	cfg       Config
	began     time.Time
	namespace string
	id        string
	socket    string
	bundle    string
	address   string
	debug     bool
	// idle is how long a spare shim stays; always keeps one also where it gains
	// nothing.
	idle   time.Duration
	always bool
	stdin  io.Reader
	stdout io.Writer
}

// Main does what the arguments, without the program's name, ask for. The error
// is to be shown on standard error; containerd passes it on to its client.
func Main(ctx context.Context, args []string, cfg Config, stdin io.Reader, stdout io.Writer) error {
	c := &call{cfg: cfg, began: time.Now(), stdin: stdin, stdout: stdout}
	flags := flag.NewFlagSet("containerd-shim-byre-v1", flag.ContinueOnError)
	flags.StringVar(&c.namespace, "namespace", "", "namespace of the container")
	flags.StringVar(&c.id, "id", "", "ID of the task")
	flags.StringVar(&c.socket, "socket", "", "socket that the shim serves")
	flags.StringVar(&c.bundle, "bundle", "", "bundle, when it is not the working directory")
	flags.StringVar(&c.address, "address", "", "containerd's gRPC address")
	flags.String("publish-binary", "", "taken for older containerds and not used: events go to containerd's ttrpc socket")
	flags.BoolVar(&c.debug, "debug", false, "log more")
	flags.DurationVar(&c.idle, "idle", 10*time.Minute, "how long a spare shim stays")
	flags.BoolVar(&c.always, "always", false, "keep a spare machine also where machines are not emulated")
	info := flags.Bool("info", false, "describe the runtime and exit")
	version := flags.Bool("version", false, "show the version and exit")
	flags.BoolVar(version, "v", false, "show the version and exit")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case *version:
		_, err := fmt.Fprintf(stdout, "containerd-shim-byre-v1 %s\n", cfg.Build)
		return err
	case *info:
		return c.info()
	}
	return c.do(ctx, flags.Arg(0))
}

func (c *call) do(ctx context.Context, action string) error {
	if c.namespace == "" || c.id == "" {
		return errors.New("-namespace and -id are needed: containerd starts this program, as runtime " + shimapi.Runtime)
	}
	if c.bundle == "" {
		dir, err := os.Getwd()
		if err != nil {
			return fmt.Errorf("find bundle: %w", err)
		}
		c.bundle = dir
	}
	switch action {
	case "start":
		return c.start()
	case "delete":
		return c.delete()
	case "spare":
		return c.spawnSpare()
	case "rehearse":
		return c.rehearse(ctx)
	case "":
		return c.serve(ctx)
	}
	return fmt.Errorf("action %q is not known", action)
}

// info writes the runtime's description, from which containerds without the
// bootstrap extension learn which mounts to leave to us.
func (c *call) info() error {
	mountTypes, transforms := sandbox.Claims()
	var allow []string
	for _, t := range transforms {
		allow = append(allow, t+"/*")
	}
	for _, t := range mountTypes {
		if !strings.Contains(t, "/") {
			allow = append(allow, t)
		}
	}
	return c.answer(&types.RuntimeInfo{
		Name:        shimapi.Runtime,
		Version:     &types.RuntimeVersion{Version: c.cfg.Build},
		Annotations: map[string]string{"containerd.io/runtime-allow-mounts": strings.Join(allow, ",")},
	})
}

func (c *call) answer(m proto.Message) error {
	b, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	if _, err := c.stdout.Write(b); err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	return nil
}

// delete cleans up after a shim that is gone. Its machine went with it; what is
// left are files, mounts and perhaps a shim that nobody can reach any more.
func (c *call) delete() error {
	err := errors.Join(
		endShim(c.bundle),
		removeNetDir(c.bundle),
		unmountRoot(c.bundle+string(os.PathSeparator)+"rootfs"),
		removeSocket(c.bundle),
	)
	if err != nil {
		return fmt.Errorf("clean up after shim of %s: %w", c.id, err)
	}
	return c.answer(&taskapi.DeleteResponse{ExitStatus: killed, ExitedAt: timestamppb.Now()})
}
