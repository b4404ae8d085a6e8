// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"os"
	"path/filepath"
	"testing"
)

// TestCtrRunsOnTheDisksOfByresOwnSnapshotter drives the containerd inside byre's
// daemon over its private socket, in a namespace that the engine does not look
// at: images become one ext4 image a layer, and each container has a scratch disk.
func TestCtrRunsOnTheDisksOfByresOwnSnapshotter(t *testing.T) {
	needRoot(t)
	c := &containerd{t: t, bins: build(t, "containerd", "github.com/containerd/containerd/v2/cmd/ctr"), dir: shortDir(t)}
	template := filepath.Join(sharedHome(t), "template")
	if err := os.MkdirAll(template, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"template": template, "c.sock": "run/s/containerd.sock"} {
		if err := os.Symlink(target, filepath.Join(c.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	serve(t, c.dir, c.dir, filepath.Join(binDir(t), "byre"), "serve")
	await(t, filepath.Join(c.dir, "byre.log"), func() error {
		_, err := c.try("version")
		return err
	})
	own := func(args ...string) []string { return append([]string{"-n", "other"}, args...) }
	c.ctr(own("images", "import", "--snapshotter", "byre", busyboxArchive(t))...)
	run := func(name, script string) result {
		t.Helper()
		r, err := c.try(own("run", "--rm", "--snapshotter", "byre", "--fifo-dir", c.dir+"/fifo", "--runtime", runtime, image, name, "sh", "-c", script)...)
		if r.code < 0 {
			t.Fatal(err)
		}
		return r
	}
	r := run("one", "grep -c '^overlay / ' /proc/mounts; echo made >/new; sync; cat /new; exit 5")
	if r.stdout != "1\nmade\n" || r.code != 5 {
		t.Errorf("got %+v, want an overlay, the new file and exit code 5", r)
	}
	if r := run("two", "ls /new"); r.code == 0 {
		t.Error("what one container wrote is in the next one's root")
	}
	layers, err := filepath.Glob(filepath.Join(c.dir, "containerd", "io.containerd.snapshotter.v1.byre", "layers", "sha256", "*"))
	if err != nil || len(layers) == 0 {
		t.Errorf("no layer images: %v", err)
	}
	c.ctr(own("images", "rm", "--sync", image)...)
	if left := c.ctr(own("containers", "ls", "-q")...) + c.ctr(own("snapshots", "--snapshotter", "byre", "ls")...); left != "KEY PARENT KIND \n" {
		t.Errorf("left: %q", left)
	}
}
