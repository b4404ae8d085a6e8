// SPDX-License-Identifier: Apache-2.0

package guesttest

import (
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/testenv"
)

// BusyboxDisk makes an ext4 image with the host's static busybox in it.
func BusyboxDisk(tb testing.TB) string {
	tb.Helper()
	busybox := testenv.NeedTool(tb, "busybox")
	dir := tb.TempDir()
	root := filepath.Join(dir, "root")
	for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "tmp", "mnt", "root"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	data, err := os.ReadFile(busybox)
	if err != nil {
		tb.Fatal(err)
	}
	write(tb, filepath.Join(root, "bin/busybox"), string(data), 0o755)
	write(tb, filepath.Join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n", 0o644)
	write(tb, filepath.Join(root, "etc/noexec"), "#!/bin/sh\n", 0o644)
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		tb.Fatal(err)
	}
	for a := range strings.FieldsSeq(string(applets)) {
		if a == "busybox" {
			continue
		}
		if err := os.Link(filepath.Join(root, "bin/busybox"), filepath.Join(root, "bin", a)); err != nil {
			tb.Fatal(err)
		}
	}
	image := filepath.Join(dir, "layer.ext4")
	mkfs(tb, image, "16M", "-O", "^has_journal", "-d", root)
	return image
}

// EmptyDisk makes an ext4 image without content.
func EmptyDisk(tb testing.TB, size string) string {
	tb.Helper()
	image := filepath.Join(tb.TempDir(), "empty.ext4")
	mkfs(tb, image, size)
	return image
}

// ScratchDisk copies the image's scratch template, holes and all.
func ScratchDisk(tb testing.TB) string {
	tb.Helper()
	image := filepath.Join(tb.TempDir(), "scratch.ext4")
	out, err := exec.Command("cp", "--sparse=always", filepath.Join(ImageDir(tb), "scratch.ext4"), image).CombinedOutput()
	if err != nil {
		tb.Fatalf("copy scratch template: %v: %s", err, out)
	}
	return image
}

func mkfs(tb testing.TB, image, size string, more ...string) {
	tb.Helper()
	args := append([]string{"-q", "-F", "-t", "ext4"}, more...)
	cmd := exec.Command("mke2fs", append(args, image, size)...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("mke2fs: %v: %s", err, out)
	}
	e2fs(tb, "debugfs", "-w", "-R", "rmdir lost+found", image)
}

func write(tb testing.TB, name, text string, mode os.FileMode) {
	tb.Helper()
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		tb.Fatal(err)
	}
}

// Spec is an OCI specification as the engine makes it, for a command.
func Spec(args ...string) *specs.Spec {
	caps := []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETUID", "CAP_SETGID",
		"CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_MKNOD"}
	return &specs.Spec{
		Version: specs.Version,
		Process: &specs.Process{
			Args: args, Cwd: "/", Env: []string{"PATH=/bin"},
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
		},
		Root:     &specs.Root{Path: "rootfs"},
		Hostname: "box",
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.CgroupNamespace},
			},
			Resources: &specs.LinuxResources{
				Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
			},
		},
	}
}

// MountRoot mounts a container's root file system: an overlay of the layer at
// LUN 0 and the scratch disk at LUN 1, both mounted before or by this call.
func (m *Machine) MountRoot(id string) {
	m.tb.Helper()
	disks := guestapi.RuntimeDir + "/disks/"
	mounts := []*guestapi.Mount{}
	if !m.disks {
		m.disks = true
		mounts = append(mounts,
			&guestapi.Mount{Target: disks + "0", ReadOnly: true, Source: disk(0, "ext4")},
			&guestapi.Mount{Target: disks + "1", Source: disk(1, "ext4")})
	}
	mounts = append(mounts, &guestapi.Mount{
		Target: guestapi.ContainerDir(id) + "/rootfs",
		Source: &guestapi.Mount_Overlay{Overlay: &guestapi.Overlay{
			Lower: []string{disks + "0"}, Upper: disks + "1/" + id, Work: disks + "1/" + id + ".work",
		}},
	})
	if _, err := m.Guest.Mount(m.Context(), &guestapi.MountRequest{Mounts: mounts}); err != nil {
		m.tb.Fatalf("mount root of %s: %v", id, err)
	}
}

func disk(lun uint32, fstype string) *guestapi.Mount_Disk {
	return &guestapi.Mount_Disk{Disk: &guestapi.Disk{Lun: lun, Fstype: fstype}}
}

// Process is a process in a container with its streams.
type Process struct {
	m          *Machine
	ID, ExecID string
	Stdin      net.Conn

	wg sync.WaitGroup
	mu sync.Mutex
	// stdout and stderr are what was written so far. Guarded by mu.
	stdout, stderr strings.Builder
}

// Create makes a container of the specification whose streams are collected.
func (m *Machine) Create(id string, spec *specs.Spec) (*Process, error) {
	m.tb.Helper()
	raw, err := json.Marshal(spec)
	if err != nil {
		m.tb.Fatal(err)
	}
	opts, err := anypb.New(&guestapi.CreateOptions{Spec: raw})
	if err != nil {
		m.tb.Fatal(err)
	}
	p := &Process{m: m, ID: id}
	p.open(id, spec.Process.Terminal)
	r := &taskapi.CreateTaskRequest{
		ID: id, Terminal: spec.Process.Terminal, Options: opts,
		Stdin: id + "/stdin", Stdout: id + "/stdout",
	}
	if !spec.Process.Terminal {
		r.Stderr = id + "/stderr"
	}
	_, err = m.Task.Create(m.Context(), r)
	return p, err
}

// open opens the streams and collects the outputs.
func (p *Process) open(prefix string, terminal bool) {
	p.m.tb.Helper()
	p.Stdin = p.stream(prefix + "/stdin")
	p.collect(prefix+"/stdout", &p.stdout)
	if !terminal {
		p.collect(prefix+"/stderr", &p.stderr)
	}
}

func (p *Process) stream(name string) net.Conn {
	p.m.tb.Helper()
	c, err := p.m.Stream(guestapi.PortStdio, name)
	if err != nil {
		p.m.tb.Fatalf("open stream %s: %v", name, err)
	}
	return c
}

func (p *Process) collect(name string, into *strings.Builder) {
	p.m.tb.Helper()
	c := p.stream(name)
	p.wg.Go(func() {
		defer c.Close()
		io.Copy(guarded{p, into}, c)
	})
}

// Exec adds a process to a running container.
func (m *Machine) Exec(id, execID string, args ...string) *Process {
	m.tb.Helper()
	raw, err := json.Marshal(Spec(args...).Process)
	if err != nil {
		m.tb.Fatal(err)
	}
	p := &Process{m: m, ID: id, ExecID: execID}
	_, err = m.Task.Exec(m.Context(), &taskapi.ExecProcessRequest{
		ID: id, ExecID: execID, Stdin: execID + "/stdin", Stdout: execID + "/stdout", Stderr: execID + "/stderr",
		Spec: &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process", Value: raw},
	})
	if err != nil {
		m.tb.Fatalf("exec: %v", err)
	}
	p.open(execID, false)
	return p
}

// Start starts the process.
func (p *Process) Start() error {
	_, err := p.m.Task.Start(p.m.Context(), &taskapi.StartRequest{ID: p.ID, ExecID: p.ExecID})
	return err
}

// CloseInput ends the process's standard input behind what was written.
func (p *Process) CloseInput() {
	p.m.tb.Helper()
	p.Stdin.Close()
	_, err := p.m.Task.CloseIO(p.m.Context(), &taskapi.CloseIORequest{ID: p.ID, ExecID: p.ExecID, Stdin: true})
	if err != nil {
		p.m.tb.Fatalf("close input: %v", err)
	}
}

// Wait returns the exit code.
func (p *Process) Wait() int {
	p.m.tb.Helper()
	r, err := p.m.Task.Wait(p.m.Context(), &taskapi.WaitRequest{ID: p.ID, ExecID: p.ExecID})
	if err != nil {
		p.m.tb.Fatalf("wait: %v", err)
	}
	return int(r.ExitStatus)
}

// Delete deletes the ended process and returns all that it wrote.
func (p *Process) Delete() (stdout, stderr string) {
	p.m.tb.Helper()
	_, err := p.m.Task.Delete(p.m.Context(), &taskapi.DeleteRequest{ID: p.ID, ExecID: p.ExecID})
	if err != nil {
		p.m.tb.Fatalf("delete: %v", err)
	}
	p.Stdin.Close()
	p.wg.Wait()
	return p.stdout.String(), p.stderr.String()
}

// Kill signals the process.
func (p *Process) Kill(signal uint32, all bool) {
	p.m.tb.Helper()
	_, err := p.m.Task.Kill(p.m.Context(), &taskapi.KillRequest{ID: p.ID, ExecID: p.ExecID, Signal: signal, All: all})
	if err != nil {
		p.m.tb.Fatalf("kill: %v", err)
	}
}

// Run mounts, creates and starts a container.
func (m *Machine) Run(id string, spec *specs.Spec) *Process {
	m.tb.Helper()
	m.MountRoot(id)
	p, err := m.Create(id, spec)
	if err != nil {
		m.tb.Fatalf("create %s: %v", id, err)
	}
	if err := p.Start(); err != nil {
		m.tb.Fatalf("start %s: %v", id, err)
	}
	return p
}

// Output returns what the process has written to standard output so far.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stdout.String()
}

// AwaitOutput waits until standard output contains text.
func (p *Process) AwaitOutput(text string) {
	p.m.tb.Helper()
	for end := time.Now().Add(30 * time.Second); !strings.Contains(p.Output(), text); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			p.m.tb.Fatalf("no %q in output %q", text, p.Output())
		}
	}
}

// guarded collects an output under its process's lock.
type guarded struct {
	p    *Process
	into *strings.Builder
}

func (g guarded) Write(b []byte) (int, error) {
	g.p.mu.Lock()
	defer g.p.mu.Unlock()
	return g.into.Write(b)
}

// ExecTo adds a process whose standard output is a stream that the test has
// opened itself; it has no others.
func (m *Machine) ExecTo(id, execID, stdout string, args ...string) *Process {
	m.tb.Helper()
	raw, err := json.Marshal(Spec(args...).Process)
	if err != nil {
		m.tb.Fatal(err)
	}
	_, err = m.Task.Exec(m.Context(), &taskapi.ExecProcessRequest{
		ID: id, ExecID: execID, Stdout: stdout,
		Spec: &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process", Value: raw},
	})
	if err != nil {
		m.tb.Fatalf("exec: %v", err)
	}
	return &Process{m: m, ID: id, ExecID: execID}
}
