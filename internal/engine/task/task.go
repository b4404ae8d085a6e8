// SPDX-License-Identifier: Apache-2.0

// Package task runs containers in the embedded containerd: the few calls of
// its tasks service that the engine needs, made directly, because every
// container start pays for each of them.
package task

import (
	"context"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"

	"byre.dev/byre/internal/shimapi"
)

// Runner runs tasks. It is safe for concurrent use.
type Runner struct {
	client      *containerd.Client
	snapshotter string
}

// NewRunner returns a Runner on a containerd.
func NewRunner(client *containerd.Client, snapshotter string) *Runner {
	return &Runner{client: client, snapshotter: snapshotter}
}

func (r *Runner) tasks() tasks.TasksClient { return r.client.TaskService() }

func (r *Runner) snapshots() snapshots.Snapshotter { return r.client.SnapshotService(r.snapshotter) }

// Prepare makes the writable snapshot of a container on top of its image's, with
// size bytes for what is written, or 0 for the usual. It stays until Discard.
func (r *Runner) Prepare(ctx context.Context, id, parent string, size int64) error {
	labels := kept()
	if size != 0 {
		labels[snapshots.LabelSnapshotMaxSize] = strconv.FormatInt(size, 10)
	}
	if _, err := r.snapshots().Prepare(ctx, id, parent, snapshots.WithLabels(labels)); err != nil {
		return fmt.Errorf("prepare snapshot %s: %w", id, err)
	}
	return nil
}

// kept are the labels of a snapshot that stays although nothing refers to it
// while its container does not run.
func kept() map[string]string {
	return map[string]string{"containerd.io/gc.root": time.Now().UTC().Format(time.RFC3339)}
}

// Discard removes the snapshots of a container.
func (r *Runner) Discard(ctx context.Context, id string) error {
	views := 0
	for r.hasView(ctx, id, views) {
		views++
	}
	// The last goes first: what a kill leaves is found by the same count.
	for i := range views {
		if err := r.remove(ctx, viewKey(id, views-1-i)); err != nil {
			return err
		}
	}
	return r.remove(ctx, id)
}

func (r *Runner) remove(ctx context.Context, key string) error {
	if err := r.snapshots().Remove(ctx, key); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove snapshot %s: %w", key, err)
	}
	return nil
}

// Usage returns the disk space of a container's writable snapshot.
func (r *Runner) Usage(ctx context.Context, id string) (int64, error) {
	u, err := r.snapshots().Usage(ctx, id)
	return u.Size, err
}

// Stdio names the FIFOs of a process.
type Stdio struct {
	// Stdin, Stdout and Stderr are paths; empty means no such stream.
	Stdin, Stdout, Stderr string
	// Terminal gives the process a terminal.
	Terminal bool
}

// Create creates the task of a container that is to run by spec; the process
// is ready to be started. When it fails nothing is left behind.
func (r *Runner) Create(ctx context.Context, id string, spec *specs.Spec, io Stdio) (pid uint32, err error) {
	mounts, err := r.snapshots().Mounts(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("find disks of container: %w", err)
	}
	encoded, err := typeurl.MarshalAny(spec)
	if err != nil {
		return 0, fmt.Errorf("encode specification: %w", err)
	}
	if err := r.describe(ctx, id, encoded); err != nil {
		return 0, fmt.Errorf("describe container: %w", err)
	}
	resp, err := r.tasks().Create(ctx, &tasks.CreateTaskRequest{
		ContainerID: id, Rootfs: mount.ToProto(mounts),
		Stdin: io.Stdin, Stdout: io.Stdout, Stderr: io.Stderr, Terminal: io.Terminal,
	})
	if err != nil {
		err = errgrpc.ToNative(err)
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		r.Clean(cleanup, id)
		return 0, err
	}
	return resp.Pid, nil
}

// describe tells containerd of the container. What is left of an earlier run,
// whose shim was killed or whose start a kill of the daemon cut off, goes first.
func (r *Runner) describe(ctx context.Context, id string, spec typeurl.Any) error {
	c := containers.Container{
		ID: id, Spec: spec, SnapshotKey: id, Snapshotter: r.snapshotter,
		Runtime: containers.RuntimeInfo{Name: shimapi.Runtime},
	}
	_, err := r.client.ContainerService().Create(ctx, c)
	if !errdefs.IsAlreadyExists(err) {
		return err
	}
	if st, stErr := r.Status(ctx, id); stErr == nil && st.Exit == nil {
		return err // it lives
	}
	r.Clean(ctx, id)
	_, err = r.client.ContainerService().Create(ctx, c)
	return err
}

// cleanupTimeout bounds the clearing away after a failure.
const cleanupTimeout = 30 * time.Second

// cleanTimeout bounds the end of a task that is not wanted.
const cleanTimeout = 2 * time.Minute

// Start starts a created process; an empty exec is the container's first.
func (r *Runner) Start(ctx context.Context, id, exec string) (uint32, error) {
	resp, err := r.tasks().Start(ctx, &tasks.StartRequest{ContainerID: id, ExecID: exec})
	if err != nil {
		return 0, errgrpc.ToNative(err)
	}
	return resp.Pid, nil
}

// Exit is how a process ended.
type Exit struct {
	// Code is the exit code, 128+n for signal n.
	Code int
	// At is when it ended.
	At time.Time
	// OOMKilled says that the kernel killed a process of the container for want
	// of memory. It is the engine's to fill in.
	OOMKilled bool
}

// Wait waits for the end of a process.
func (r *Runner) Wait(ctx context.Context, id, exec string) (Exit, error) {
	resp, err := r.tasks().Wait(ctx, &tasks.WaitRequest{ContainerID: id, ExecID: exec})
	if err != nil {
		return Exit{}, errgrpc.ToNative(err)
	}
	return Exit{Code: int(resp.ExitStatus), At: resp.ExitedAt.AsTime()}, nil
}

// Status is what a task does at present.
type Status struct {
	// Running and Paused say that its first process lives.
	Running, Paused bool
	// PID is the first process's, in the guest.
	PID int
	// Exit is set when the process has ended.
	Exit *Exit
}

// Status looks a task up; errdefs' ErrNotFound means that there is none.
func (r *Runner) Status(ctx context.Context, id string) (Status, error) {
	resp, err := r.tasks().Get(ctx, &tasks.GetRequest{ContainerID: id})
	if err != nil {
		return Status{}, errgrpc.ToNative(err)
	}
	p := resp.Process
	switch p.Status {
	case tasktypes.Status_RUNNING:
		return Status{Running: true, PID: int(p.Pid)}, nil
	case tasktypes.Status_PAUSED, tasktypes.Status_PAUSING:
		return Status{Running: true, Paused: true, PID: int(p.Pid)}, nil
	case tasktypes.Status_STOPPED:
		return Status{Exit: &Exit{Code: int(p.ExitStatus), At: p.ExitedAt.AsTime()}}, nil
	}
	return Status{PID: int(p.Pid)}, nil
}

// Kill sends a signal to a process, or to all processes of the container.
func (r *Runner) Kill(ctx context.Context, id, exec string, sig syscall.Signal, all bool) error {
	_, err := r.tasks().Kill(ctx, &tasks.KillRequest{ContainerID: id, ExecID: exec, Signal: uint32(sig), All: all})
	return errgrpc.ToNative(err)
}

// Pause stops all processes of a container where they are.
func (r *Runner) Pause(ctx context.Context, id string) error {
	_, err := r.tasks().Pause(ctx, &tasks.PauseTaskRequest{ContainerID: id})
	return errgrpc.ToNative(err)
}

// Resume undoes Pause.
func (r *Runner) Resume(ctx context.Context, id string) error {
	_, err := r.tasks().Resume(ctx, &tasks.ResumeTaskRequest{ContainerID: id})
	return errgrpc.ToNative(err)
}

// Resize sets the size of a process's terminal.
func (r *Runner) Resize(ctx context.Context, id, exec string, width, height uint32) error {
	_, err := r.tasks().ResizePty(ctx, &tasks.ResizePtyRequest{ContainerID: id, ExecID: exec, Width: width, Height: height})
	return errgrpc.ToNative(err)
}

// CloseStdin ends the standard input of a process.
func (r *Runner) CloseStdin(ctx context.Context, id, exec string) error {
	_, err := r.tasks().CloseIO(ctx, &tasks.CloseIORequest{ContainerID: id, ExecID: exec, Stdin: true})
	return errgrpc.ToNative(err)
}

// Update changes the limits of a running container.
func (r *Runner) Update(ctx context.Context, id string, limits *specs.LinuxResources) error {
	encoded, err := typeurl.MarshalAnyToProto(limits)
	if err != nil {
		return fmt.Errorf("encode limits: %w", err)
	}
	_, err = r.tasks().Update(ctx, &tasks.UpdateTaskRequest{ContainerID: id, Resources: encoded})
	return errgrpc.ToNative(err)
}

// Delete removes a task that has ended, and its container in containerd.
func (r *Runner) Delete(ctx context.Context, id string) error {
	if err := r.deleteTask(ctx, id); err != nil {
		return fmt.Errorf("delete task: %w", err)
	}
	if err := r.client.ContainerService().Delete(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("delete description of container: %w", err)
	}
	return nil
}

// goneWait bounds the wait for containerd to see that a shim is gone.
const goneWait = 10 * time.Second

// deleteTask removes a task. When its shim is killed meanwhile, containerd
// removes it by itself, and is waited for.
func (r *Runner) deleteTask(ctx context.Context, id string) error {
	for end := time.Now().Add(goneWait); ; {
		_, err := r.tasks().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
		err = errgrpc.ToNative(err)
		if err == nil || errdefs.IsNotFound(err) {
			return nil
		}
		// A process that runs stays so.
		if errdefs.IsFailedPrecondition(err) || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Clean kills and removes whatever there is of a task; one that does not end in
// time is left.
func (r *Runner) Clean(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, cleanTimeout)
	defer cancel()
	if st, err := r.Status(ctx, id); err == nil && st.Exit == nil {
		_ = r.Kill(ctx, id, "", syscall.SIGKILL, true)
		_, _ = r.Wait(ctx, id, "")
	}
	_ = r.Delete(ctx, id)
}
