// SPDX-License-Identifier: Apache-2.0

package task_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"byre.dev/byre/internal/ctrd"
	"byre.dev/byre/internal/engine/task"
)

// runner runs tasks with the shim in a directory: package ctrd's small one, that
// runs nothing and ends with code 7.
func runner(t *testing.T, shims string) (*task.Runner, *ctrd.Server, context.Context) {
	t.Helper()
	dir := t.TempDir()
	template := filepath.Join(dir, "template")
	if err := os.WriteFile(template, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	srv, err := ctrd.Start(t.Context(), ctrd.Config{
		Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state"), Template: template, ShimDir: shims,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	return task.NewRunner(srv.Client(), "byre"), srv, namespaces.WithNamespace(t.Context(), ctrd.Namespace)
}

func buildShim(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "containerd-shim-byre-v1"), "byre.dev/byre/internal/ctrd/testdata/shim")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build shim: %v\n%s", err, out)
	}
	return dir
}

func TestATaskRunsFromItsSnapshotToItsExit(t *testing.T) {
	r, srv, ctx := runner(t, buildShim(t))
	if err := r.Prepare(ctx, "c1", "", 0); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Usage(ctx, "c1"); err != nil || n < 0 {
		t.Errorf("usage %d, %v", n, err)
	}
	pid, err := r.Create(ctx, "c1", &specs.Spec{Version: specs.Version}, task.Stdio{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Create(ctx, "c1", &specs.Spec{}, task.Stdio{}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a second task of the container: %v", err)
	}
	if started, err := r.Start(ctx, "c1", ""); err != nil || started != pid {
		t.Errorf("started %d, created %d, %v", started, pid, err)
	}
	if st, err := r.Status(ctx, "c1"); err != nil || !st.Running || st.Paused || st.PID != int(pid) || st.Exit != nil {
		t.Errorf("status %+v, %v", st, err)
	}
	if pids, err := r.PIDs(ctx, "c1"); err != nil || len(pids) != 1 || pids[0] != pid {
		t.Errorf("processes %v, %v", pids, err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := r.Wait(short, "c1", ""); !errdefs.IsDeadlineExceeded(err) {
		t.Errorf("wait that is given up: %v", err)
	}
	if err := r.Kill(ctx, "c1", "", syscall.SIGTERM, false); err != nil {
		t.Fatal(err)
	}
	if exit, err := r.Wait(ctx, "c1", ""); err != nil || exit.Code != 7 {
		t.Errorf("exit %+v, %v", exit, err)
	}
	if st, err := r.Status(ctx, "c1"); err != nil || st.Running || st.Exit == nil || st.Exit.Code != 7 {
		t.Errorf("status %+v, %v", st, err)
	}
	expectGone(t, r, srv, ctx)
}

// expectGone deletes the task twice and its snapshot twice: what is gone is no
// error.
func expectGone(t *testing.T, r *task.Runner, srv *ctrd.Server, ctx context.Context) {
	t.Helper()
	for range 2 {
		if err := r.Delete(ctx, "c1"); err != nil {
			t.Error(err)
		}
		if err := r.Discard(ctx, "c1"); err != nil {
			t.Error(err)
		}
	}
	if _, err := r.Status(ctx, "c1"); !errdefs.IsNotFound(err) {
		t.Errorf("status of a task that is gone: %v", err)
	}
	if list, err := srv.Client().Containers(ctx); err != nil || len(list) != 0 {
		t.Errorf("containers left: %v, %v", list, err)
	}
}

func TestCleanEndsATaskThatRuns(t *testing.T) {
	r, srv, ctx := runner(t, buildShim(t))
	if err := r.Prepare(ctx, "c1", "", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Create(ctx, "c1", &specs.Spec{}, task.Stdio{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Start(ctx, "c1", ""); err != nil {
		t.Fatal(err)
	}
	r.Clean(ctx, "c1")
	r.Clean(ctx, "never-seen")
	expectGone(t, r, srv, ctx)
}

func TestATaskThatCannotBeMadeLeavesItsSnapshotAndNothingElse(t *testing.T) {
	shims := t.TempDir()
	broken := filepath.Join(shims, "containerd-shim-byre-v1")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\necho 'no machine today' >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	r, srv, ctx := runner(t, shims)
	if _, err := r.Create(ctx, "c1", &specs.Spec{}, task.Stdio{}); !errdefs.IsNotFound(err) {
		t.Errorf("without a snapshot: %v", err)
	}
	if err := r.Prepare(ctx, "c1", "", 0); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second try meets nothing of the first
		if _, err := r.Create(ctx, "c1", &specs.Spec{}, task.Stdio{}); err == nil || errdefs.IsAlreadyExists(err) {
			t.Errorf("with a shim that fails: %v", err)
		}
	}
	if _, err := r.Usage(ctx, "c1"); err != nil {
		t.Errorf("the snapshot: %v", err)
	}
	if err := r.Discard(ctx, "c1"); err != nil {
		t.Error(err)
	}
	expectGone(t, r, srv, ctx)
}

func TestCallsForWhatIsNotThereSaySo(t *testing.T) {
	r, _, ctx := runner(t, t.TempDir())
	for name, call := range map[string]func() error{
		"start":   func() error { _, err := r.Start(ctx, "x", ""); return err },
		"wait":    func() error { _, err := r.Wait(ctx, "x", ""); return err },
		"kill":    func() error { return r.Kill(ctx, "x", "", syscall.SIGKILL, true) },
		"pause":   func() error { return r.Pause(ctx, "x") },
		"resume":  func() error { return r.Resume(ctx, "x") },
		"resize":  func() error { return r.Resize(ctx, "x", "", 80, 24) },
		"stdin":   func() error { return r.CloseStdin(ctx, "x", "") },
		"update":  func() error { return r.Update(ctx, "x", &specs.LinuxResources{}) },
		"exec":    func() error { return r.AddExec(ctx, "x", "e", &specs.Process{}, task.Stdio{}) },
		"pids":    func() error { _, err := r.PIDs(ctx, "x"); return err },
		"metrics": func() error { _, err := r.Metrics(ctx, "x"); return err },
		"usage":   func() error { _, err := r.Usage(ctx, "x"); return err },
	} {
		if err := call(); !errdefs.IsNotFound(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := r.DeleteExec(ctx, "x", "e"); err != nil {
		t.Errorf("deleting an exec that is not there: %v", err)
	}
}
