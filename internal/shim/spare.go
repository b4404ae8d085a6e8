// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"byre.dev/byre/internal/sandbox"
	"byre.dev/byre/internal/shimapi"
	"byre.dev/byre/internal/vm"
)

// warmLimit bounds the making of a spare machine, which has a low priority.
const warmLimit = 5 * time.Minute

// errNeedless says that a spare machine would gain nothing on this host.
var errNeedless = errors.New("machines are not emulated here: none is kept warm")

// takeRequest is what "start" asks a spare shim for: to be the shim of a bundle.
// The listener of the bundle's socket goes with it.
type takeRequest struct {
	Identity  string `json:"identity"`
	Namespace string `json:"namespace"`
	ID        string `json:"id"`
	Bundle    string `json:"bundle"`
	Address   string `json:"address"`
	Socket    string `json:"socket"`
	Events    string `json:"events"`
	Debug     bool   `json:"debug"`
	// Began is when "start" began, in nanoseconds of Unix time.
	Began int64 `json:"began"`
}

// takeAnswer is the spare shim's: its process, or why it will not.
type takeAnswer struct {
	PID     int    `json:"pid"`
	Refusal string `json:"refusal,omitempty"`
}

// standard tells whether a container takes a machine as spare ones are.
func standard(s shimapi.Settings) bool { return s.CPUs == 0 && s.MaxMemory == 0 }

// identity names everything that a machine of this program's depends on but its
// container: spare machines of another are not taken. Empty means that the
// driver cannot tell.
func (c *call) identity(driver vm.Driver, scratch string) (string, error) {
	d, ok := driver.(vm.Identified)
	if !ok {
		return "", nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	fi, err := os.Stat(self)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %d %d %s %s %s %s", self, fi.Size(), fi.ModTime().UnixNano(),
		c.cfg.Build, c.cfg.SidecarDir, scratch, d.Identity()), nil
}

// warm makes a spare machine, which has rehearsed the container whose bundle is
// the call's.
func (c *call) warm(ctx context.Context, log *slog.Logger) (_ *sandbox.Spare, identity string, err error) {
	ctx, cancel := context.WithTimeout(ctx, warmLimit)
	defer cancel()
	spec, settings, err := readBundle(c.bundle)
	if err != nil {
		return nil, "", err
	}
	driver, scratch, err := c.cfg.Driver(log)
	if err != nil {
		return nil, "", err
	}
	if identity, err = c.identity(driver, scratch); err != nil || identity == "" {
		return nil, "", errors.Join(err, errNeedless)
	}
	converted, err := c.rehearsal(spec, settings)
	if err != nil {
		return nil, "", err
	}
	spare, err := sandbox.Warm(ctx, sandbox.Config{
		ID: c.id, Driver: driver, Scratch: scratch, Dir: c.bundle, Build: c.cfg.Build, Log: log,
	}, converted)
	if err != nil {
		return nil, "", err
	}
	if !c.always && spare.Info().Accel != "tcg" {
		return nil, "", errors.Join(errNeedless, spare.Close())
	}
	return spare, identity, nil
}

func (c *call) rehearsal(spec *specs.Spec, settings shimapi.Settings) (sandbox.Converted, error) {
	converted, err := sandbox.Convert(sandbox.ConvertInput{ID: c.id, Spec: spec, Settings: settings, Inspect: inspect})
	if err != nil {
		return converted, err
	}
	if len(converted.Shares)+len(converted.Volumes) > 0 {
		return converted, errors.New("a rehearsal has nothing of the host's")
	}
	return converted, nil
}
