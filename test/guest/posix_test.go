// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guest_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/opencontainers/runtime-spec/specs-go"

	"byre.dev/byre/internal/guest/guesttest"
	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/hostfs"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/testenv"
)

// TestSharesKeepTheContractInAGuest runs the suite of p9test inside a guest,
// in a container, over mounted shares of the host.
func TestSharesKeepTheContractInAGuest(t *testing.T) {
	testenv.NeedRoot(t, "pass owners through")
	cases := []struct{ name, cache string }{{"passthrough", "loose"}, {"mapped", "loose"}, {"sidecar", "loose"}}
	var names []string
	for _, c := range cases {
		names = append(names, c.name)
	}
	m := guesttest.Boot(t, guesttest.Config{
		Disks:  []guesttest.Disk{{Path: guesttest.BusyboxDisk(t), ReadOnly: true}, {Path: guesttest.ScratchDisk(t)}},
		Shares: names,
	})
	m.Connect()
	m.Greet()
	m.Renew()
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait) // before what ends them is registered, so after it runs
	suite := buildSuite(t)
	for _, c := range cases {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(suite)); err != nil {
			t.Fatal(err)
		}
		fs, err := hostfs.Open(hostfs.Config{
			Path: dir, Mapped: c.name != "passthrough", SidecarOnly: c.name == "sidecar", Sidecar: filepath.Join(t.TempDir(), "side"),
		})
		if err != nil {
			t.Fatal(err)
		}
		conn := m.SharePort(c.name)
		wg.Go(func() {
			root := fs.Root()
			(&p9srv.Server{Root: root}).Serve(context.WithoutCancel(t.Context()), conn)
			root.Release()
			fs.Close()
		})
		t.Cleanup(func() { conn.Close() })
		t.Run(c.name, func(t *testing.T) { runSuite(t, m, c.name, c.cache) })
	}
	m.Session.Close()
}

// buildSuite makes a directory that holds the suite as a program.
func buildSuite(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("go", "test", "-c", "-o", filepath.Join(dir, "suite"), "byre.dev/byre/internal/p9/p9test")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the suite: %v\n%s", err, out)
	}
	if err := os.Chmod(filepath.Join(dir, "suite"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func runSuite(t *testing.T, m *guesttest.Machine, name, cache string) {
	target := guestapi.RuntimeDir + "/shares/" + name
	share := &guestapi.Share{
		Name: name, Transport: guestapi.Share_VIRTIO_PORT, Cache: cache, Msize: 512 << 10, PosixAcl: true,
	}
	if _, err := m.Guest.Mount(m.Context(), &guestapi.MountRequest{Mounts: []*guestapi.Mount{
		{Target: target, Source: &guestapi.Mount_Share{Share: share}},
	}}); err != nil {
		t.Fatal(err)
	}
	m.MountRoot("suite" + name)
	spec := guesttest.Spec("sh", "-c", "mkdir /mnt/work && cd /mnt && P9TEST_DIR=/mnt/work P9TEST_SLOW=1 ./suite -test.run='LocalFileSystem|Rename|Room|FileWithout' -test.timeout=300s 2>&1")
	all := []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_MKNOD", "CAP_SETFCAP", "CAP_SYS_ADMIN"}
	c := spec.Process.Capabilities
	c.Bounding, c.Effective, c.Permitted = all, all, all
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/mnt", Type: "bind", Source: target, Options: []string{"rbind"}})
	p, err := m.Create("suite"+name, spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	// An emulated machine beside others needs minutes for it.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if _, err := m.Task.Wait(ctx, &taskapi.WaitRequest{ID: p.ID}); err != nil {
		t.Fatalf("wait for the suite over %s, cache=%s: %v\n%s", name, cache, err, p.Output())
	}
	out, errs := p.Delete()
	if !strings.HasSuffix(strings.TrimSpace(out), "PASS") {
		t.Errorf("the suite over %s, cache=%s:\n%s%s", name, cache, out, errs)
	}
	if _, err := m.Guest.Unmount(m.Context(), &guestapi.UnmountRequest{Targets: []string{target}, Sync: true}); err != nil {
		t.Error(err)
	}
}
