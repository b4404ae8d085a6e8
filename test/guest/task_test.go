// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guest_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/cgroups/v3/cgroup2/stats"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"byre.dev/byre/internal/guest/guesttest"
	"byre.dev/byre/internal/guestapi"
)

func start(t *testing.T) *guesttest.Machine {
	t.Helper()
	return guesttest.Start(t, guesttest.Config{Disks: []guesttest.Disk{
		{Path: guesttest.BusyboxDisk(t), ReadOnly: true},
		{Path: guesttest.ScratchDisk(t)},
	}})
}

// TestContainers runs all its cases in one machine.
func TestContainers(t *testing.T) {
	m := start(t)
	for _, c := range []struct {
		name string
		run  func(*testing.T, *guesttest.Machine)
	}{
		{"output and exit code come back", outputAndExitCode},
		{"no byte of output is lost when the process exits at once", bigOutput},
		{"input ends by CloseIO behind its last byte", inputEndsByCloseIO},
		{"the end of the input stream alone does not end the input", inputOutlivesStream},
		{"a signal gives 128 and its number", signalExit},
		{"a signal behind the start meets the program", signalAtOnce},
		{"failures to start carry runc's words", startFailures},
		{"execs have their own streams and exit codes", execs},
		{"an exec that ends at once is not lost", quickExecs},
		{"a daemon that holds an exec's output does not block its deletion", daemonizedExec},
		{"a terminal has a size and echoes", terminal},
		{"pause stops and resume goes on", pauseAndResume},
		{"limits hold and can be updated", limits},
		{"memory over the limit kills and is reported", outOfMemory},
		{"wrong requests are refused by kind", refusals},
		{"archives go in and out and stay in the root", archives},
		{"changes are listed and packed as a layer", changesAndLayers},
		{"zombies of a container are reaped", orphans},
		{"processes are told in the kernel's words", processes},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, m) })
	}
}

func outputAndExitCode(t *testing.T, m *guesttest.Machine) {
	begin := time.Now()
	p := m.Run("plain", guesttest.Spec("sh", "-c", "echo out; echo err >&2; exit 7"))
	if code := p.Wait(); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
	t.Logf("mount to exit: %v", time.Since(begin))
	stdout, stderr := p.Delete()
	if stdout != "out\n" || stderr != "err\n" {
		t.Errorf("stdout %q, stderr %q", stdout, stderr)
	}
}

func bigOutput(t *testing.T, m *guesttest.Machine) {
	const size = 8 << 20
	p := m.Run("big", guesttest.Spec("sh", "-c", "head -c 8388608 /dev/zero; echo end >&2; exit 3"))
	if code := p.Wait(); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	stdout, stderr := p.Delete()
	if len(stdout) != size || strings.Trim(stdout, "\x00") != "" || stderr != "end\n" {
		t.Errorf("%d bytes of stdout, want %d zeros; stderr %q", len(stdout), size, stderr)
	}
}

func inputEndsByCloseIO(t *testing.T, m *guesttest.Machine) {
	p := m.Run("cat", guesttest.Spec("sh", "-c", "wc -c"))
	data := strings.Repeat("0123456789abcdef", 64<<10) // 1 MiB
	if _, err := io.WriteString(p.Stdin, data); err != nil {
		t.Fatal(err)
	}
	p.CloseInput()
	if code := p.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if stdout, _ := p.Delete(); strings.TrimSpace(stdout) != fmt.Sprint(len(data)) {
		t.Errorf("the process read %q bytes, want %d", stdout, len(data))
	}
}

func inputOutlivesStream(t *testing.T, m *guesttest.Machine) {
	p := m.Run("again", guesttest.Spec("sh", "-c", "read a; echo got $a; read b; echo got $b"))
	io.WriteString(p.Stdin, "one\n")
	p.Stdin.Close()
	time.Sleep(300 * time.Millisecond)
	if s := state(t, m, "again", ""); s.Status != task.Status_RUNNING {
		t.Fatalf("status %v after the stream's end, want running", s.Status)
	}
	again, err := m.Stream(guestapi.PortStdio, "again/stdin")
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	io.WriteString(again, "two\n")
	p.Wait()
	if stdout, _ := p.Delete(); stdout != "got one\ngot two\n" {
		t.Errorf("stdout %q", stdout)
	}
}

func state(t *testing.T, m *guesttest.Machine, id, execID string) *taskapi.StateResponse {
	t.Helper()
	s, err := m.Task.State(m.Context(), &taskapi.StateRequest{ID: id, ExecID: execID})
	if err != nil {
		t.Fatalf("state of %s %s: %v", id, execID, err)
	}
	return s
}

func signalExit(t *testing.T, m *guesttest.Machine) {
	for _, c := range []struct {
		signal unix.Signal
		all    bool
		want   int
	}{{unix.SIGKILL, false, 137}, {unix.SIGTERM, false, 143}, {unix.SIGKILL, true, 137}} {
		id := fmt.Sprintf("signal%d%v", c.signal, c.all)
		p := m.Run(id, guesttest.Spec("sh", "-c", "trap 'trap - TERM; kill -TERM $$; exit 143' TERM; while :; do sleep 0.1; done"))
		time.Sleep(200 * time.Millisecond)
		p.Kill(uint32(c.signal), c.all)
		if code := p.Wait(); code != c.want {
			t.Errorf("%v (all %v): exit code %d, want %d", c.signal, c.all, code, c.want)
		}
		p.Delete()
		if _, err := m.Task.Kill(m.Context(), &taskapi.KillRequest{ID: id, Signal: 9}); !errdefs.IsNotFound(errgrpc.ToNative(err)) {
			t.Errorf("kill of a deleted container: %v, want not found", err)
		}
	}
}

// signalAtOnce wants a signal that comes right behind the start to meet the
// container's program, which as a namespace's first process ignores it, and not
// what executes that program.
func signalAtOnce(t *testing.T, m *guesttest.Machine) {
	for i := range 3 {
		p := m.Run(fmt.Sprintf("atonce%d", i), guesttest.Spec("sh", "-c", "sleep 0.5; echo ran; exit 7"))
		p.Kill(uint32(unix.SIGTERM), false)
		code := p.Wait()
		if stdout, _ := p.Delete(); code != 7 || stdout != "ran\n" {
			t.Errorf("exit code %d, stdout %q; want what the program did", code, stdout)
		}
	}
}

func startFailures(t *testing.T, m *guesttest.Machine) {
	for id, c := range map[string]struct{ command, want string }{
		"nocmd":  {"no-such-command", "executable file not found in $PATH"},
		"nopath": {"/no/such/file", "no such file or directory"},
		"noexec": {"/etc/noexec", "permission denied"},
		"isdir":  {"/etc", "is a directory"},
	} {
		m.MountRoot(id)
		_, err := m.Create(id, guesttest.Spec(c.command))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("create with %s: %v, want %q", c.command, err, c.want)
		}
		_, err = m.Task.State(m.Context(), &taskapi.StateRequest{ID: id})
		if !errdefs.IsNotFound(errgrpc.ToNative(err)) {
			t.Errorf("a failed create left its container: %v", err)
		}
	}
	p := m.Run("execfail", guesttest.Spec("sleep", "1000"))
	e := m.Exec("execfail", "x1", "no-such-command")
	if err := e.Start(); err == nil || !strings.Contains(err.Error(), "executable file not found in $PATH") {
		t.Errorf("exec of a missing command: %v", err)
	}
	p.Kill(9, false)
	p.Wait()
	p.Delete()
}

func execs(t *testing.T, m *guesttest.Machine) {
	p := m.Run("execs", guesttest.Spec("sleep", "1000"))
	var all []*guesttest.Process
	for i := range 4 {
		e := m.Exec("execs", fmt.Sprintf("e%d", i), "sh", "-c", fmt.Sprintf("read x; echo $x %d; exit %d", i, i))
		if err := e.Start(); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	pids, err := m.Task.Pids(m.Context(), &taskapi.PidsRequest{ID: "execs"})
	if err != nil || len(pids.Processes) != 5 {
		t.Errorf("pids %v, %v; want five", pids, err)
	}
	for i, e := range all {
		io.WriteString(e.Stdin, "in\n")
		if code := e.Wait(); code != i {
			t.Errorf("exec %d: exit code %d", i, code)
		}
		if stdout, _ := e.Delete(); stdout != fmt.Sprintf("in %d\n", i) {
			t.Errorf("exec %d: stdout %q", i, stdout)
		}
	}
	p.Kill(9, false)
	p.Wait()
	p.Delete()
}

func quickExecs(t *testing.T, m *guesttest.Machine) {
	p := m.Run("quick", guesttest.Spec("sleep", "1000"))
	for i := range 5 {
		e := m.Exec("quick", fmt.Sprintf("q%d", i), "sh", "-c", "exit 42")
		if err := e.Start(); err != nil {
			t.Fatal(err)
		}
		if code := e.Wait(); code != 42 {
			t.Errorf("exit code %d, want 42", code)
		}
		e.Delete()
	}
	p.Kill(9, false)
	p.Wait()
	p.Delete()
}

func daemonizedExec(t *testing.T, m *guesttest.Machine) {
	p := m.Run("daemon", guesttest.Spec("sleep", "1000"))
	e := m.Exec("daemon", "d1", "sh", "-c", "echo before; sleep 1000 & exit 0")
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	e.Wait()
	begin := time.Now()
	if stdout, _ := e.Delete(); stdout != "before\n" {
		t.Errorf("stdout %q", stdout)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("deletion took %v", took)
	}
	p.Kill(9, false)
	p.Wait()
	p.Delete()
}

func terminal(t *testing.T, m *guesttest.Machine) {
	spec := guesttest.Spec("sh", "-c", "stty size; read x; stty size; echo [$x]; test -t 0 && exit 5")
	spec.Process.Terminal = true
	spec.Process.ConsoleSize = &specs.Box{Height: 24, Width: 80}
	p := m.Run("tty", spec)
	p.AwaitOutput("24 80")
	_, err := m.Task.ResizePty(m.Context(), &taskapi.ResizePtyRequest{ID: "tty", Width: 132, Height: 43})
	if err != nil {
		t.Fatalf("resize: %v", err)
	}
	io.WriteString(p.Stdin, "hello\n")
	if code := p.Wait(); code != 5 {
		t.Errorf("exit code %d, want 5", code)
	}
	stdout, _ := p.Delete()
	for _, want := range []string{"24 80\r\n", "hello\r\n", "43 132\r\n", "[hello]\r\n"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("output %q lacks %q", stdout, want)
		}
	}
}

func pauseAndResume(t *testing.T, m *guesttest.Machine) {
	p := m.Run("pause", guesttest.Spec("sh", "-c", "while :; do echo x; sleep 0.02; done"))
	p.AwaitOutput("x\n")
	if _, err := m.Task.Pause(m.Context(), &taskapi.PauseRequest{ID: "pause"}); err != nil {
		t.Fatalf("pause: %v", err)
	}
	if s := state(t, m, "pause", ""); s.Status != task.Status_PAUSED {
		t.Errorf("status %v, want paused", s.Status)
	}
	time.Sleep(200 * time.Millisecond)
	before := p.Output()
	time.Sleep(300 * time.Millisecond)
	if after := p.Output(); after != before {
		t.Errorf("a paused container wrote %d bytes", len(after)-len(before))
	}
	if _, err := m.Task.Resume(m.Context(), &taskapi.ResumeRequest{ID: "pause"}); err != nil {
		t.Fatalf("resume: %v", err)
	}
	time.Sleep(300 * time.Millisecond)
	if p.Output() == before {
		t.Error("a resumed container writes nothing")
	}
	p.Kill(9, false)
	p.Wait()
	p.Delete()
}

func limits(t *testing.T, m *guesttest.Machine) {
	spec := guesttest.Spec("sleep", "1000")
	memory, pids, quota, period := int64(64<<20), int64(20), int64(50000), uint64(100000)
	spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &memory}
	spec.Linux.Resources.Pids = &specs.LinuxPids{Limit: &pids}
	spec.Linux.Resources.CPU = &specs.LinuxCPU{Quota: &quota, Period: &period, Cpus: "1"}
	p := m.Run("limits", spec)
	cat := func(id, file string) string {
		e := m.Exec("limits", id, "cat", "/sys/fs/cgroup/"+file)
		if err := e.Start(); err != nil {
			t.Fatal(err)
		}
		e.Wait()
		out, _ := e.Delete()
		return strings.TrimSpace(out)
	}
	for i, c := range []struct{ file, want string }{
		{"memory.max", "67108864"}, {"pids.max", "20"}, {"cpu.max", "50000 100000"}, {"cpuset.cpus", "1"},
	} {
		if got := cat(fmt.Sprintf("c%d", i), c.file); got != c.want {
			t.Errorf("%s is %q, want %q", c.file, got, c.want)
		}
	}
	_, err := m.Task.Update(m.Context(), &taskapi.UpdateTaskRequest{ID: "limits", Resources: &anypb.Any{
		TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources",
		Value:   []byte(`{"memory":{"limit":134217728},"pids":{"limit":30}}`),
	}})
	if err != nil {
		t.Fatalf("update: %v", err)
	}
	s := metrics(t, m, "limits")
	if s.Memory.UsageLimit != 128<<20 || s.Pids.Limit != 30 || s.Pids.Current == 0 || s.CPU.UsageUsec == 0 {
		t.Errorf("metrics %v", s)
	}
	p.Kill(9, false)
	p.Wait()
	p.Delete()
}

func processes(t *testing.T, m *guesttest.Machine) {
	p := m.Run("crew", guesttest.Spec("sh", "-c", "sleep 1001 & echo ready; exec sleep 1002"))
	list := func() (commands []string) {
		stream, err := m.Guest.Processes(m.Context(), &guestapi.ProcessesRequest{ContainerId: "crew"})
		if err != nil {
			t.Fatal(err)
		}
		for {
			r, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				slices.Sort(commands)
				return commands
			}
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(string(r.Stat), fmt.Sprintf("%d (", r.Pid)) || !strings.Contains(string(r.Status), "Uid:") || r.UptimeMs == 0 || r.MemoryBytes == 0 {
				t.Errorf("process %v", r)
			}
			commands = append(commands, strings.ReplaceAll(string(r.Cmdline), "\x00", " "))
		}
	}
	want := []string{"sleep 1001 ", "sleep 1002 "}
	for range 200 {
		if slices.Equal(list(), want) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if got := list(); !slices.Equal(got, want) {
		t.Errorf("processes %q, want %q: those of this container alone", got, want)
	}
	p.Kill(9, true)
	p.Wait()
	p.Delete()
	stream, err := m.Guest.Processes(m.Context(), &guestapi.ProcessesRequest{ContainerId: "crew"})
	if err == nil {
		_, err = stream.Recv()
	}
	if err = errgrpc.ToNative(err); !errdefs.IsNotFound(err) {
		t.Errorf("of a container that is gone: error %v", err)
	}
}

func metrics(t *testing.T, m *guesttest.Machine, id string) *stats.Metrics {
	t.Helper()
	r, err := m.Task.Stats(m.Context(), &taskapi.StatsRequest{ID: id})
	if err != nil {
		t.Fatalf("stats: %v", err)
	}
	s := &stats.Metrics{}
	if r.Stats.TypeUrl != "io.containerd.cgroups.v2.Metrics" {
		t.Errorf("stats of type %q", r.Stats.TypeUrl)
	}
	if err := proto.Unmarshal(r.Stats.Value, s); err != nil {
		t.Fatal(err)
	}
	return s
}

func outOfMemory(t *testing.T, m *guesttest.Machine) {
	events, err := m.Guest.Events(t.Context(), &guestapi.EventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	spec := guesttest.Spec("sh", "-c", "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo survived")
	limit := int64(16 << 20)
	spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit, Swap: &limit}
	spec.Mounts[1].Options = append(spec.Mounts[1].Options, "nr_inodes=1k")
	p := m.Run("oom", spec)
	if code := p.Wait(); code != 137 {
		t.Errorf("exit code %d, want 137", code)
	}
	e, err := events.Recv()
	if err != nil || e.GetOom().GetContainerId() != "oom" {
		t.Errorf("event %v, %v; want one for the container", e, err)
	}
	p.Delete()
}

func refusals(t *testing.T, m *guesttest.Machine) {
	p := m.Run("refuse", guesttest.Spec("sleep", "1000"))
	is := func(what string, err error, kind func(error) bool) {
		t.Helper()
		if err == nil || !kind(errgrpc.ToNative(err)) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := m.Task.Delete(m.Context(), &taskapi.DeleteRequest{ID: "refuse"})
	is("delete of a running container", err, errdefs.IsFailedPrecondition)
	_, err = m.Task.Start(m.Context(), &taskapi.StartRequest{ID: "refuse"})
	is("second start", err, errdefs.IsFailedPrecondition)
	_, err = m.Create("refuse", guesttest.Spec("true"))
	is("second create", err, errdefs.IsAlreadyExists)
	_, err = m.Task.Create(m.Context(), &taskapi.CreateTaskRequest{ID: "../x"})
	is("id that is a path", err, errdefs.IsInvalidArgument)
	_, err = m.Task.Checkpoint(m.Context(), &taskapi.CheckpointTaskRequest{ID: "refuse"})
	is("checkpoint", err, errdefs.IsNotImplemented)
	_, err = m.Task.ResizePty(m.Context(), &taskapi.ResizePtyRequest{ID: "refuse", Width: 1, Height: 1})
	is("resize without a terminal", err, errdefs.IsFailedPrecondition)
	_, err = m.Task.Wait(m.Context(), &taskapi.WaitRequest{ID: "refuse", ExecID: "none"})
	is("wait for an unknown exec", err, errdefs.IsNotFound)
	p.Kill(9, false)
	p.Wait()
	p.Delete()
}

func orphans(t *testing.T, m *guesttest.Machine) {
	p := m.Run("orphans", guesttest.Spec("sh", "-c", "for i in 1 2 3 4 5; do (sleep 0.05 &); done; sleep 1000"))
	time.Sleep(500 * time.Millisecond)
	// Inside its pid namespace the container's own init collects its orphans;
	// what it leaves when it is killed is the guest's PID 1's.
	p.Kill(9, false)
	p.Wait()
	p.Delete()
	for end := time.Now().Add(5 * time.Second); ; {
		mem, err := m.Guest.Memory(m.Context(), &guestapi.MemoryRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if mem.Total > 0 && mem.Available <= mem.Total {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("memory %v", mem)
		}
	}
}
