// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"byre.dev/byre/internal/engine/ps"
	"byre.dev/byre/internal/shimapi"
)

// Top lists the processes of a container as ps(1) with those arguments does;
// their numbers are the machine's. The image needs no ps.
func (e *Engine) Top(ctx context.Context, ref, args string) (container.TopResponse, error) {
	var resp container.TopResponse
	format, err := ps.Parse(args)
	if err != nil {
		return resp, err
	}
	c, err := e.containers.get(ref)
	if err != nil {
		return resp, err
	}
	switch s := c.snapshot().State; {
	case s.Restarting:
		return resp, conflict("Container %s is restarting, wait until the container is running", c.id)
	case !s.Running:
		return resp, errNotRunning(c.id)
	}
	list, err := e.processes(ctx, c)
	if errdefs.IsNotImplemented(err) {
		err = conflict("its machine was started by an older byre, which cannot tell: restart the container")
	}
	if err != nil {
		return resp, fmt.Errorf("list processes of container %s: %w", short(c.id), err)
	}
	e.publish(c, events.ActionTop, nil)
	return format.Table(list, time.Now()), nil
}

// processes asks the machine of a running container for its processes.
func (e *Engine) processes(ctx context.Context, c *Container) (list []ps.Process, err error) {
	err = e.callShim(ctx, c, func(ctx context.Context, shim *shimapi.Client) error {
		stream, err := shim.Processes(ctx, &shimapi.ProcessesRequest{ContainerId: c.id})
		if err != nil {
			return err
		}
		for {
			r, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			p, err := ps.Read(ps.Texts{
				Stat: r.GetStat(), Status: r.GetStatus(), Cmdline: r.GetCmdline(),
				Uptime: time.Duration(r.GetUptimeMs()) * time.Millisecond, Memory: r.GetMemoryBytes(),
			})
			if err != nil {
				return err
			}
			list = append(list, p)
		}
	})
	err = errgrpc.ToNative(err)
	slices.SortFunc(list, func(a, b ps.Process) int { return int(a.PID - b.PID) })
	return list, err
}
