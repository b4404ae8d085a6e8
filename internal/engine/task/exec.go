// SPDX-License-Identifier: Apache-2.0

package task

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// AddExec adds a process to a running container; Start starts it.
func (r *Runner) AddExec(ctx context.Context, id, exec string, p *specs.Process, io Stdio) error {
	encoded, err := typeurl.MarshalAnyToProto(p)
	if err != nil {
		return fmt.Errorf("encode process: %w", err)
	}
	_, err = r.tasks().Exec(ctx, &tasks.ExecProcessRequest{
		ContainerID: id, ExecID: exec, Spec: encoded,
		Stdin: io.Stdin, Stdout: io.Stdout, Stderr: io.Stderr, Terminal: io.Terminal,
	})
	return errgrpc.ToNative(err)
}

// DeleteExec removes an added process that has ended or was not started.
func (r *Runner) DeleteExec(ctx context.Context, id, exec string) error {
	_, err := r.tasks().DeleteProcess(ctx, &tasks.DeleteProcessRequest{ContainerID: id, ExecID: exec})
	if err = errgrpc.ToNative(err); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("delete exec: %w", err)
	}
	return nil
}

// PIDs returns the processes of a container, by their numbers in the guest.
func (r *Runner) PIDs(ctx context.Context, id string) ([]uint32, error) {
	resp, err := r.tasks().ListPids(ctx, &tasks.ListPidsRequest{ContainerID: id})
	if err != nil {
		return nil, errgrpc.ToNative(err)
	}
	pids := make([]uint32, 0, len(resp.Processes))
	for _, p := range resp.Processes {
		pids = append(pids, p.Pid)
	}
	return pids, nil
}

// Metrics returns a container's measurements as its shim gives them.
func (r *Runner) Metrics(ctx context.Context, id string) (any, error) {
	resp, err := r.tasks().Metrics(ctx, &tasks.MetricsRequest{Filters: []string{"id==" + id}})
	if err != nil {
		return nil, errgrpc.ToNative(err)
	}
	for _, m := range resp.Metrics {
		if m.ID == id && m.Data != nil {
			return typeurl.UnmarshalAny(m.Data)
		}
	}
	return nil, fmt.Errorf("measurements of %s: %w", id, errdefs.ErrNotFound)
}
