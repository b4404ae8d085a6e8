// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/sandbox"
	"byre.dev/byre/internal/shimapi"
)

// api is the Shim service: what byre's engine asks beyond the Task API.
type api struct{ s *Service }

var _ shimapi.ShimService = (*api)(nil)

// Info describes the sandbox and its machine; of one that is still being
// started it tells the stages so far.
func (a *api) Info(ctx context.Context, _ *shimapi.InfoRequest) (*shimapi.InfoResponse, error) {
	c := a.s.claim
	r := &shimapi.InfoResponse{Build: c.cfg.Build, Pid: uint32(os.Getpid()), SandboxId: c.id}
	for _, span := range c.timeline.Spans() {
		r.Stages = append(r.Stages, &shimapi.Stage{
			Name: span.Name, BeginNs: span.Begin.Nanoseconds(), TookNs: span.Took.Nanoseconds(),
		})
	}
	sb := c.ready()
	if sb == nil {
		return r, nil
	}
	m := sb.Machine()
	info := m.Info()
	r.Driver, r.Accel, r.Cloned, r.MachinePid = info.Driver, info.Accel, info.Cloned, uint32(info.PID)
	for _, st := range info.Stages {
		r.Stages = append(r.Stages, &shimapi.Stage{Name: "machine/" + st.Name, TookNs: st.Took.Nanoseconds()})
	}
	r.Kernel, r.Features = sb.Kernel()
	r.Memory, r.Containers = m.Memory(), sb.Containers()
	if mem, err := sb.Memory(ctx); err == nil {
		r.MemoryAvailable = mem.GetAvailable()
	}
	r.Shares = sharesOf(sb)
	return r, nil
}

// Shares lists the shares at work.
func (a *api) Shares(context.Context, *shimapi.SharesRequest) (*shimapi.SharesResponse, error) {
	r := &shimapi.SharesResponse{}
	if sb := a.s.claim.ready(); sb != nil {
		r.Shares = sharesOf(sb)
	}
	return r, nil
}

func sharesOf(sb *sandbox.Sandbox) []*shimapi.Share {
	var list []*shimapi.Share
	for _, sh := range sb.Shares() {
		list = append(list, &shimapi.Share{
			ContainerId: sh.Container, Source: sh.Source, Destination: sh.Dest,
			ReadOnly: sh.ReadOnly, Cache: sh.Cache, Transport: sh.Transport,
			Unwatched: uint64(sh.Unwatched), Untracked: uint64(sh.Untracked),
			Requests: sh.Requests, Told: sh.Told,
		})
	}
	return list
}

// Console returns the tail of the machine's console.
func (a *api) Console(ctx context.Context, _ *shimapi.ConsoleRequest) (*shimapi.ConsoleResponse, error) {
	sb, err := a.s.claim.wait(ctx)
	if err != nil {
		return nil, toStatus(err)
	}
	return &shimapi.ConsoleResponse{Tail: sb.Machine().Console()}, nil
}

// SetNetwork changes how the sandbox is connected.
func (a *api) SetNetwork(ctx context.Context, r *shimapi.SetNetworkRequest) (*shimapi.SetNetworkResponse, error) {
	n := &shimapi.Network{}
	err := json.Unmarshal(r.GetNetwork(), n)
	if err == nil {
		err = n.Check()
	}
	if err != nil {
		return nil, toStatus(fmt.Errorf("change network: %w: %w", err, errdefs.ErrInvalidArgument))
	}
	sb, err := a.s.claim.wait(ctx)
	if err != nil {
		return nil, toStatus(err)
	}
	return &shimapi.SetNetworkResponse{}, toStatus(sb.SetNetwork(ctx, n))
}

// Discard says that a container's root file system is not read again.
func (a *api) Discard(_ context.Context, r *shimapi.DiscardRequest) (*shimapi.DiscardResponse, error) {
	c, err := a.s.container(r.GetContainerId())
	if err != nil {
		return nil, toStatus(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.discarded = true
	return &shimapi.DiscardResponse{}, nil
}

// box returns the sandbox of a container that we know.
func (a *api) box(ctx context.Context, id string) (*sandbox.Sandbox, error) {
	if _, err := a.s.container(id); err != nil {
		return nil, err
	}
	return a.s.claim.wait(ctx)
}

// StatPath looks a path of a container up.
func (a *api) StatPath(ctx context.Context, r *shimapi.StatPathRequest) (*shimapi.StatPathResponse, error) {
	sb, err := a.box(ctx, r.GetContainerId())
	if err != nil {
		return nil, toStatus(err)
	}
	st, err := sb.StatPath(ctx, r.GetContainerId(), r.GetPath())
	if err != nil {
		return nil, toStatus(err)
	}
	return &shimapi.StatPathResponse{
		Name: st.GetName(), Size: st.GetSize(), Mode: st.GetMode(), MtimeNs: st.GetMtimeNs(), LinkTarget: st.GetLinkTarget(),
	}, nil
}

// ReadArchive streams a tar of a container's path.
func (a *api) ReadArchive(ctx context.Context, r *shimapi.ReadArchiveRequest, out shimapi.Shim_ReadArchiveServer) error {
	sb, err := a.box(ctx, r.GetContainerId())
	if err != nil {
		return toStatus(err)
	}
	return toStatus(sb.ReadArchive(ctx, r.GetContainerId(), r.GetPath(), chunkWriter{out}))
}

// ReadRoot streams a tar of a container's root file system.
func (a *api) ReadRoot(ctx context.Context, r *shimapi.ReadRootRequest, out shimapi.Shim_ReadRootServer) error {
	sb, err := a.box(ctx, r.GetContainerId())
	if err != nil {
		return toStatus(err)
	}
	return toStatus(sb.ReadRoot(ctx, r.GetContainerId(), r.GetChanged(), chunkWriter{out}))
}

// Processes streams what the guest's kernel says of a container's processes.
func (a *api) Processes(ctx context.Context, r *shimapi.ProcessesRequest, out shimapi.Shim_ProcessesServer) error {
	sb, err := a.box(ctx, r.GetContainerId())
	if err != nil {
		return toStatus(err)
	}
	return toStatus(sb.Processes(ctx, r.GetContainerId(), func(p *guestapi.ProcessesResponse) error {
		return out.Send(&shimapi.ProcessesResponse{
			Pid: p.GetPid(), Stat: p.GetStat(), Status: p.GetStatus(), Cmdline: p.GetCmdline(),
			UptimeMs: p.GetUptimeMs(), MemoryBytes: p.GetMemoryBytes(),
		})
	}))
}

// Changes streams what a container has changed.
func (a *api) Changes(ctx context.Context, r *shimapi.ChangesRequest, out shimapi.Shim_ChangesServer) error {
	sb, err := a.box(ctx, r.GetContainerId())
	if err != nil {
		return toStatus(err)
	}
	return toStatus(sb.Changes(ctx, r.GetContainerId(), func(changes []*guestapi.PathChange) error {
		resp := &shimapi.ChangesResponse{}
		for _, c := range changes {
			resp.Changes = append(resp.Changes, &shimapi.Change{Kind: uint32(c.GetKind()), Path: c.GetPath()})
		}
		return out.Send(resp)
	}))
}

// chunkWriter sends what is written in chunks.
type chunkWriter struct {
	out interface {
		Send(*shimapi.ArchiveChunk) error
	}
}

func (w chunkWriter) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		part := b[:min(len(b), shimapi.ChunkSize)]
		if err := w.out.Send(&shimapi.ArchiveChunk{Data: part}); err != nil {
			return n, err
		}
		n += len(part)
		b = b[len(part):]
	}
	return n, nil
}

// WriteArchive unpacks a tar into a container's directory.
func (a *api) WriteArchive(ctx context.Context, in shimapi.Shim_WriteArchiveServer) (*shimapi.WriteArchiveResponse, error) {
	first, err := in.Recv()
	if err != nil {
		return nil, toStatus(err)
	}
	t := first.GetTarget()
	if t == nil {
		return nil, toStatus(fmt.Errorf("the first chunk names no target: %w", errdefs.ErrInvalidArgument))
	}
	sb, err := a.box(ctx, t.GetContainerId())
	if err != nil {
		return nil, toStatus(err)
	}
	n, err := sb.WriteArchive(ctx, &guestapi.ArchiveRequest{
		ContainerId: t.GetContainerId(), Path: t.GetPath(),
		NoOverwriteDirNonDir: t.GetNoOverwriteDirNonDir(), CopyUidGid: t.GetCopyUidGid(),
	}, &chunkReader{in: in, rest: first.GetData()})
	if err != nil {
		return nil, toStatus(err)
	}
	return &shimapi.WriteArchiveResponse{Bytes: n}, nil
}

// chunkReader reads what arrives in chunks.
type chunkReader struct {
	in   shimapi.Shim_WriteArchiveServer
	rest []byte
}

func (r *chunkReader) Read(b []byte) (int, error) {
	for len(r.rest) == 0 {
		chunk, err := r.in.Recv()
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		if err != nil {
			return 0, err
		}
		r.rest = chunk.GetData()
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
