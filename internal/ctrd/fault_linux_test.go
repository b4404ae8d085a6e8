// SPDX-License-Identifier: Apache-2.0

package ctrd_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"byre.dev/byre/internal/ctrd"
	"byre.dev/byre/internal/testenv"
)

// childEnv makes the test binary a daemon that does one thing and waits for its
// death.
const childEnv = "CTRD_TEST_CHILD"

type childTask struct {
	Config ctrd.Config
	// Pull is an image to pull; Run one to run, unpacked before.
	Pull, Run string
}

func TestMain(m *testing.M) {
	if v := os.Getenv(childEnv); v != "" {
		if err := child(v); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(v string) error {
	var task childTask
	if err := json.Unmarshal([]byte(v), &task); err != nil {
		return err
	}
	ctx := namespaces.WithNamespace(context.Background(), ctrd.Namespace)
	s, err := ctrd.Start(ctx, task.Config)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	if task.Pull != "" {
		if _, err := s.Client().Pull(ctx, task.Pull, resolver(), client.WithPullUnpack); err != nil {
			return err
		}
		fmt.Println("pulled")
	}
	if task.Run != "" {
		if err := run(ctx, s.Client(), task.Run); err != nil {
			return err
		}
		fmt.Println("running")
	}
	select {}
}

// run starts a task of an image in the container c1.
func run(ctx context.Context, c *client.Client, ref string) error {
	img, err := c.GetImage(ctx, ref)
	if err != nil {
		return err
	}
	ctr, err := c.NewContainer(ctx, "c1", client.WithNewSnapshot("c1", img), client.WithNewSpec(oci.WithProcessArgs("x")))
	if err != nil {
		return err
	}
	t, err := ctr.NewTask(ctx, cio.NullIO)
	if err != nil {
		return err
	}
	return t.Start(ctx)
}

// startChild starts a daemon in a process of its own and returns once it has
// said word. The caller kills and waits for it.
func startChild(t *testing.T, task childTask, word string) *exec.Cmd {
	t.Helper()
	task.Config.Log = nil
	b, err := json.Marshal(task)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(b))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	buf := make([]byte, 4096)
	var said strings.Builder
	for !strings.Contains(said.String(), word) {
		n, err := out.Read(buf)
		said.Write(buf[:n])
		if err != nil {
			t.Fatalf("child said %q, not %q: %v", said.String(), word, err)
		}
	}
	return cmd
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
}

// randomImage has layers that do not compress.
func randomImage(t testing.TB, layers, size int) v1.Image {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	var list []v1.Layer
	for i := range layers {
		b := make([]byte, size)
		for j := range b {
			b[j] = byte(r.Uint32())
		}
		list = append(list, tarLayer(t, map[string]string{fmt.Sprintf("file%d", i): string(b)}))
	}
	return appendLayers(t, list...)
}

func TestKilledDaemonLeavesAStoreThatOpens(t *testing.T) {
	cfg := config(t)
	ref := serve(t, randomImage(t, 4, 6<<20))
	for i := range 6 {
		cmd := startChild(t, childTask{Config: cfg, Pull: ref}, "ready")
		time.Sleep(time.Duration(i*i) * 12 * time.Millisecond)
		kill(t, cmd)
	}
	s := start(t, cfg)
	img := pull(t, s, ref)
	if list := layerImages(t, cfg); len(list) != 4 {
		t.Errorf("layer images after kills: %v", list)
	}
	for _, l := range layerImages(t, cfg) {
		if out, err := exec.Command("e2fsck", "-fn", l).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", l, err, out)
		}
	}
	if _, err := s.Client().SnapshotService(ctrd.Snapshotter).View(byre(t), "v", chainID(t, img)); err != nil {
		t.Error(err)
	}
	if err := s.Client().SnapshotService(ctrd.Snapshotter).Remove(byre(t), "v"); err != nil {
		t.Error(err)
	}
	expectEmptied(t, s, cfg, ref)
}

// expectEmptied removes an image and expects that nothing of it is left.
func expectEmptied(t *testing.T, s *ctrd.Server, cfg ctrd.Config, ref string) {
	t.Helper()
	ctx := byre(t)
	// Leases of killed pulls keep what they made until they run out; remove
	// them, as time would.
	list, err := s.Client().LeasesService().List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		if err := s.Client().LeasesService().Delete(ctx, l); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Client().ImageService().Delete(ctx, ref, images.SynchronousDelete()); err != nil {
		t.Fatal(err)
	}
	if left := layerImages(t, cfg); len(left) != 0 {
		t.Errorf("layer images left: %v", left)
	}
	base := filepath.Join(cfg.Root, "io.containerd.snapshotter.v1.byre", "snapshots")
	if left, err := os.ReadDir(base); err != nil || len(left) != 0 {
		t.Errorf("snapshots left: %v, %v", left, err)
	}
	blobs, _ := filepath.Glob(filepath.Join(cfg.Root, "io.containerd.content.v1.content", "blobs", "sha256", "*"))
	if len(blobs) != 0 {
		t.Errorf("content left: %v", blobs)
	}
}

func TestInterruptedPullGoesOnWhereItEnded(t *testing.T) {
	cfg := config(t)
	s := start(t, cfg)
	inner := newRegistry()
	var ranged atomic.Int32
	var stuck atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			if rg := r.Header.Get("Range"); rg != "" && rg != "bytes=0-" {
				ranged.Add(1)
			}
			if stuck.Load() {
				w = &stuckWriter{w, r.Context(), 5 << 20}
			}
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	ref := strings.TrimPrefix(srv.URL, "http://") + "/test/big:latest"
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, randomImage(t, 1, 8<<20)); err != nil {
		t.Fatal(err)
	}

	// What keeps the part that came is a lease, as the engine takes one.
	leased, done, err := s.Client().WithLease(byre(t), leases.WithRandomID(), leases.WithExpiration(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	defer done(byre(t))
	stuck.Store(true)
	ctx, cancel := context.WithCancel(leased)
	defer cancel()
	go func() { // ends with the pull, which its cancel ends
		for ctx.Err() == nil && arrived(ctx, s) < 1<<20 {
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
	}()
	if _, err = s.Client().Pull(ctx, ref, resolver(), client.WithPullUnpack); err == nil {
		t.Fatal("a pull given up succeeded")
	}
	stuck.Store(false)
	if _, err := s.Client().Pull(leased, ref, resolver(), client.WithPullUnpack); err != nil {
		t.Fatal(err)
	}
	if ranged.Load() == 0 {
		t.Error("the second pull began from the start")
	}
}

// arrived is how much content is there of what is being pulled.
func arrived(ctx context.Context, s *ctrd.Server) (n int64) {
	list, _ := s.Client().ContentStore().ListStatuses(ctx)
	for _, st := range list {
		n += st.Offset
	}
	return n
}

// stuckWriter stops after some bytes of the body until its reader gives up.
type stuckWriter struct {
	http.ResponseWriter
	ctx  context.Context
	left int
}

func (c *stuckWriter) Write(b []byte) (int, error) {
	if len(b) <= c.left {
		c.left -= len(b)
		return c.ResponseWriter.Write(b)
	}
	c.ResponseWriter.Write(b[:c.left])
	c.ResponseWriter.(http.Flusher).Flush()
	<-c.ctx.Done()
	panic(http.ErrAbortHandler)
}

func TestFullDiskIsSaidAndLeavesTheStoreIntact(t *testing.T) {
	testenv.NeedRoot(t, "mount a small file system")
	cfg := config(t)
	dir := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=40m"); err != nil {
		testenv.Skip(t, testenv.FileSystem, "mount tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	cfg.Root = filepath.Join(dir, "root")
	s, err := ctrd.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	// The content fits, its image does not.
	ref := serve(t, appendLayers(t, tarLayer(t, map[string]string{"zeros": strings.Repeat("\x00", 64<<20)})))
	_, err = s.Client().Pull(byre(t), ref, resolver(), client.WithPullUnpack)
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("err = %v", err)
	}
	if list := layerImages(t, cfg); len(list) != 0 {
		t.Errorf("left behind: %v", list)
	}
	pull(t, s, serve(t, testImage(t)))
}

// buildShim builds the runtime of testdata/shim and returns its directory.
func buildShim(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "containerd-shim-byre-v1"), "./testdata/shim")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build shim: %v\n%s", err, out)
	}
	return dir
}

func TestTaskOutlivesAKilledDaemon(t *testing.T) {
	cfg := config(t)
	cfg.ShimDir = buildShim(t)
	ref := serve(t, testImage(t))
	cmd := startChild(t, childTask{Config: cfg, Pull: ref, Run: ref}, "running")
	kill(t, cmd)

	s := start(t, cfg)
	ctx := byre(t)
	ctr, err := s.Client().LoadContainer(ctx, "c1")
	if err != nil {
		t.Fatal(err)
	}
	task, err := ctr.Task(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := task.Status(ctx); err != nil || st.Status != client.Running {
		t.Fatalf("status = %v, %v", st, err)
	}
	expectUntouchedMounts(t, s, cfg)
	exit, err := task.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Kill(ctx, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if st := <-exit; st.ExitCode() != 7 {
		t.Errorf("exit = %v", st)
	}
	if _, err := task.Delete(ctx); err != nil {
		t.Error(err)
	}
	if err := ctr.Delete(ctx, client.WithSnapshotCleanup); err != nil {
		t.Error(err)
	}
}

// expectUntouchedMounts compares what the shim was given with the snapshot's own.
func expectUntouchedMounts(t *testing.T, s *ctrd.Server, cfg ctrd.Config) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(cfg.State, "io.containerd.runtime.v2.task", ctrd.Namespace, "c1", "rootfs.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got []mount.Mount
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	want, err := s.Client().SnapshotService(ctrd.Snapshotter).Mounts(byre(t), "c1")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("mounts that the shim got (-want +got):\n%s", d)
	}
}
