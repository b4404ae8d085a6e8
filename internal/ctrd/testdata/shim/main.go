// SPDX-License-Identifier: Apache-2.0

// Command shim is a runtime for tests: its tasks are nothing but a record of
// how they were made. It claims the mounts that byre's shim claims and writes
// those it gets into its bundle.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"io"
)

func main() {
	var err error
	switch action := os.Args[len(os.Args)-1]; action {
	case "start":
		err = start()
	case "serve":
		err = serve()
	case "delete":
		err = put(&task.DeleteResponse{ExitStatus: 137, ExitedAt: timestamppb.Now()})
	case "-info":
		err = put(&types.RuntimeInfo{Name: "io.containerd.byre.v1"})
	default:
		err = fmt.Errorf("action %q", action)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func put(m proto.Message) error {
	b, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(b)
	return err
}

func start() error {
	in, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	var params bootapi.BootstrapParams
	if err := proto.Unmarshal(in, &params); err != nil {
		return err
	}
	path := filepath.Join(params.GetSocketDir(), "test-"+params.InstanceID)
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	f, err := l.(*net.UnixListener).File()
	if err != nil {
		return err
	}
	cmd := exec.Command(os.Args[0], "serve")
	cmd.ExtraFiles = []*os.File{f}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	result := &bootapi.BootstrapResult{Version: 3, Address: "unix://" + path, Protocol: "ttrpc"}
	if err := result.AddExtension(&types.MountCapabilities{
		Transforms: []string{"format", "mkdir", "mkfs"},
		Types:      []string{"ext4", "erofs", "loop", "overlay", "bind"},
	}); err != nil {
		return err
	}
	return put(result)
}

func serve() error {
	l, err := net.FileListener(os.NewFile(3, "socket"))
	if err != nil {
		return err
	}
	s, err := ttrpc.NewServer()
	if err != nil {
		return err
	}
	task.RegisterTTRPCTaskService(s, &service{socket: l.Addr().String(), exit: make(chan struct{})})
	// No test leaves a process behind, whatever happens to it.
	time.AfterFunc(time.Minute, func() { os.Exit(1) })
	return s.Serve(context.Background(), l)
}

type service struct {
	task.TTRPCTaskService
	id     string
	socket string
	exit   chan struct{}
}

func (s *service) Create(_ context.Context, r *task.CreateTaskRequest) (*task.CreateTaskResponse, error) {
	s.id = r.ID
	b, err := json.Marshal(r.Rootfs)
	if err != nil {
		return nil, err
	}
	return &task.CreateTaskResponse{Pid: uint32(os.Getpid())}, os.WriteFile("rootfs.json", b, 0o600)
}

func (s *service) Start(context.Context, *task.StartRequest) (*task.StartResponse, error) {
	return &task.StartResponse{Pid: uint32(os.Getpid())}, nil
}

func (s *service) Connect(context.Context, *task.ConnectRequest) (*task.ConnectResponse, error) {
	return &task.ConnectResponse{ShimPid: uint32(os.Getpid()), TaskPid: uint32(os.Getpid())}, nil
}

func (s *service) Pids(context.Context, *task.PidsRequest) (*task.PidsResponse, error) {
	return &task.PidsResponse{Processes: []*tasktypes.ProcessInfo{{Pid: uint32(os.Getpid())}}}, nil
}

func (s *service) State(context.Context, *task.StateRequest) (*task.StateResponse, error) {
	status := tasktypes.Status_RUNNING
	select {
	case <-s.exit:
		status = tasktypes.Status_STOPPED
	default:
	}
	return &task.StateResponse{ID: s.id, Pid: uint32(os.Getpid()), Status: status, ExitStatus: 7}, nil
}

func (s *service) Wait(ctx context.Context, _ *task.WaitRequest) (*task.WaitResponse, error) {
	select {
	case <-s.exit:
		return &task.WaitResponse{ExitStatus: 7, ExitedAt: timestamppb.Now()}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *service) Kill(context.Context, *task.KillRequest) (*emptypb.Empty, error) {
	close(s.exit)
	return &emptypb.Empty{}, nil
}

func (s *service) Delete(context.Context, *task.DeleteRequest) (*task.DeleteResponse, error) {
	return &task.DeleteResponse{Pid: uint32(os.Getpid()), ExitStatus: 7, ExitedAt: timestamppb.Now()}, nil
}

func (s *service) Shutdown(context.Context, *task.ShutdownRequest) (*emptypb.Empty, error) {
	os.Remove(s.socket)
	time.AfterFunc(50*time.Millisecond, func() { os.Exit(0) })
	return &emptypb.Empty{}, nil
}
