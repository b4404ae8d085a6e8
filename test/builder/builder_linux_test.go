// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"byre.dev/byre/internal/builder"
	"byre.dev/byre/internal/ctrd"
	"byre.dev/byre/internal/daemonapi"
	"byre.dev/byre/internal/engine"
	"byre.dev/byre/internal/home"
)

// rig is a daemon without its API.
type rig struct {
	bin  string
	home home.Dir
	// engine is the user's.
	engine  *engine.Engine
	builder *builder.Builder
	stop    func()
}

func newRig(t *testing.T) *rig {
	t.Helper()
	bin := os.Getenv("BYRE_BIN")
	if bin == "" {
		bin = filepath.Join("..", "..", "bin")
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(bin, "guest", "builder.tar")); err != nil {
		t.Fatalf("%v: run make first", err)
	}
	// Short: socket paths below it must fit sun_path.
	dir, err := os.MkdirTemp("/tmp", "byre-bld.")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{bin: bin, home: home.Dir(dir), stop: func() {}}
	t.Setenv(home.Env, dir)
	if err := r.home.Prepare(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.stop()
		r.noProcesses(t)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return r
}

// start opens what a daemon consists of.
func (r *rig) start(t *testing.T, idle time.Duration) {
	t.Helper()
	scratch := filepath.Join(r.bin, "guest", "scratch.ext4")
	store, err := ctrd.Start(t.Context(), ctrd.Config{
		Root: r.home.Path("containerd"), State: r.home.Path("run"), ShimDir: r.bin, Template: scratch,
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := engine.Config{
		Home: string(r.home), Containerd: store.Client(), NetworkCommand: []string{filepath.Join(r.bin, daemonapi.Program), daemonapi.Network},
		ShimState: r.home.Path("run", "io.containerd.runtime.v2.task"), ScratchTemplate: scratch,
	}
	if r.engine, err = engine.New(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	cfg.Home = r.home.Path("builder")
	r.builder = builder.New(builder.Config{
		Engine: cfg, Archive: filepath.Join(r.bin, "guest", "builder.tar"), Images: builder.ImagesOf(r.engine), Idle: idle,
	})
	r.stop = func() {
		r.stop = func() {}
		for _, end := range []func(context.Context) error{r.builder.Close, r.engine.Close} {
			if err := end(context.Background()); err != nil {
				t.Error(err)
			}
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}

// noProcesses ends the builder's switch, which outlives its daemon, and finds
// nothing else left.
func (r *rig) noProcesses(t *testing.T) {
	var left string
	for range 100 {
		left = ""
		for pid, cmd := range r.processes() {
			if strings.Contains(cmd, daemonapi.Network) {
				_ = syscall.Kill(pid, syscall.SIGTERM)
			}
			left += cmd + "\n"
		}
		if left == "" {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("left behind:\n%s", left)
}

// processes returns the command lines of processes that name the home.
func (r *rig) processes() map[int]string {
	found := map[int]string{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		cmd, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err == nil && pid != os.Getpid() && bytes.Contains(cmd, []byte(r.home)) {
			found[pid] = string(bytes.ReplaceAll(cmd, []byte{0}, []byte{' '}))
		}
	}
	return found
}

// shim returns the process of the builder's shim, 0 for none.
func (r *rig) shim() int {
	for pid, cmd := range r.processes() {
		if strings.Contains(cmd, "-namespace byre-builder") {
			return pid
		}
	}
	return 0
}

// machine returns the process of the builder's machine.
func (r *rig) machine(t *testing.T) int {
	t.Helper()
	shim := strconv.Itoa(r.shim())
	children, err := os.ReadFile("/proc/" + shim + "/task/" + shim + "/children")
	tasks, _ := filepath.Glob("/proc/" + shim + "/task/*/children")
	for _, name := range tasks {
		more, _ := os.ReadFile(name)
		children = append(children, more...)
	}
	for _, s := range strings.Fields(string(children)) {
		if cmd, _ := os.ReadFile("/proc/" + s + "/cmdline"); bytes.Contains(cmd, []byte("qemu-system")) {
			pid, _ := strconv.Atoi(s)
			return pid
		}
	}
	t.Fatalf("shim %s has no machine: error %v", shim, err)
	return 0
}

// dial connects to BuildKit.
func dial(t *testing.T, b *builder.Builder) *grpc.ClientConn {
	t.Helper()
	conn, err := b.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client, err := grpc.NewClient("passthrough:builder", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return conn, nil }))
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// info asks BuildKit what it is.
func info(t *testing.T, b *builder.Builder) {
	t.Helper()
	client := dial(t, b)
	defer client.Close()
	reply := &emptypb.Empty{}
	if err := client.Invoke(t.Context(), "/moby.buildkit.v1.Control/Info", &emptypb.Empty{}, reply); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(reply.ProtoReflect().GetUnknown(), []byte("github.com/moby/buildkit")) {
		t.Errorf("answer of BuildKit: %q", reply.ProtoReflect().GetUnknown())
	}
}

func TestTheBuilderComesWithAConnectionAndGoesWithoutOne(t *testing.T) {
	r := newRig(t)
	r.start(t, builder.DefaultIdle)
	if n := r.builder.DiskUsage(); n != 0 || r.builder.Running() {
		t.Fatalf("before the first connection: %d bytes, running %t", n, r.builder.Running())
	}
	began := time.Now()
	info(t, r.builder)
	t.Logf("BuildKit answers %s after the first connection", time.Since(began).Round(100*time.Millisecond))
	if n := r.builder.DiskUsage(); n == 0 || !r.builder.Running() {
		t.Errorf("with a builder: %d bytes, running %t", n, r.builder.Running())
	}
	hidden(t, r.engine)

	// A machine that is killed breaks its connections; the next one has another.
	conn, err := r.builder.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first := r.machine(t)
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Logf("connection of a killed machine: %v", err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	info(t, r.builder)
	if second := r.machine(t); second == first {
		t.Error("the machine that was killed is there")
	}

	// A daemon that ends takes the builder along; the next has the cache.
	r.stop()
	if pid := r.shim(); pid != 0 {
		t.Errorf("shim %d is there without a daemon", pid)
	}
	r.start(t, 2*time.Second)
	if n := r.builder.DiskUsage(); n == 0 || r.builder.Running() {
		t.Errorf("after a restart: %d bytes, running %t", n, r.builder.Running())
	}
	info(t, r.builder)
	for range 300 {
		if !r.builder.Running() && r.shim() == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Error("the builder is there half a minute after the last connection")
}

// A kill can leave a database of BuildKit's in pieces, which ends it whenever it
// is started. What it holds is a cache.
func TestADamagedCacheIsMadeAnew(t *testing.T) {
	r := newRig(t)
	r.start(t, builder.DefaultIdle)
	info(t, r.builder)
	if err := syscall.Kill(r.machine(t), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.stop()
	damage(t, r.home.Path("builder"), "/data/history.db")
	r.start(t, builder.DefaultIdle)
	info(t, r.builder)
}

// damage empties a database of BuildKit's but for its first two pages, by which
// bbolt takes it for whole.
func damage(t *testing.T, home, name string) {
	t.Helper()
	disks, err := filepath.Glob(filepath.Join(home, "volumes", "cache", "*.ext4"))
	if err != nil || len(disks) != 1 {
		t.Fatalf("the cache's disk is none of %v: %v", disks, err)
	}
	if out, err := exec.Command("e2fsck", "-fy", disks[0]).CombinedOutput(); err != nil && !bytes.Contains(out, []byte("journal")) {
		t.Fatalf("e2fsck: %v: %s", err, out)
	}
	db := filepath.Join(t.TempDir(), "db")
	debugfs := func(command string) {
		t.Helper()
		if out, err := exec.Command("debugfs", "-w", "-R", command, disks[0]).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
	debugfs("dump " + name + " " + db)
	b, err := os.ReadFile(db)
	if err != nil || len(b) < 4<<12 {
		t.Fatalf("%s has %d bytes: %v", name, len(b), err)
	}
	clear(b[2<<12:])
	if err := os.WriteFile(db, b, 0o600); err != nil {
		t.Fatal(err)
	}
	debugfs("rm " + name)
	debugfs("write " + db + " " + name)
}

func TestABuildsTraceIsInItsHistoryRecord(t *testing.T) {
	r := newRig(t)
	r.start(t, builder.DefaultIdle)
	conn := dial(t, r.builder)
	defer conn.Close()
	client := controlapi.NewControlClient(conn)
	const ref = "traced"
	if _, err := client.Solve(t.Context(), &controlapi.SolveRequest{Ref: ref, Definition: &pb.Definition{}}); err != nil {
		t.Fatal(err)
	}
	// BuildKit adds the trace when the build's last span has ended.
	for range 60 {
		records, err := client.ListenBuildHistory(t.Context(), &controlapi.BuildHistoryRequest{Ref: ref, EarlyExit: true})
		if err != nil {
			t.Fatal(err)
		}
		event, err := records.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if trace := event.GetRecord().GetTrace(); trace != nil {
			return
		}
		time.Sleep(500 * time.Millisecond)
	}
	t.Error("the build's record has no trace after half a minute")
}

// hidden wants nothing of the builder among what the user has.
func hidden(t *testing.T, eng *engine.Engine) {
	t.Helper()
	ctx := eng.Context(t.Context())
	containers, err := eng.List(ctx, engine.ListOptions{All: true})
	if err != nil || len(containers) > 0 {
		t.Errorf("containers: %v, error %v", containers, err)
	}
	images, err := eng.Images.List(ctx, nil)
	if err != nil || len(images) > 0 {
		t.Errorf("images: %v, error %v", images, err)
	}
	if volumes := eng.Volumes.List(); len(volumes) > 0 {
		t.Errorf("volumes: %v", volumes)
	}
}
