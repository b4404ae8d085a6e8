// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guest_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/opencontainers/runtime-spec/specs-go"

	"byre.dev/byre/internal/guest/guesttest"
	"byre.dev/byre/internal/guestapi"
)

const disks = guestapi.RuntimeDir + "/disks/"

func diskMount(lun uint32, more ...string) *guestapi.Mount {
	return &guestapi.Mount{
		Target: fmt.Sprint(disks, lun), Options: more,
		Source: &guestapi.Mount_Disk{Disk: &guestapi.Disk{Lun: lun, Fstype: "ext4"}},
	}
}

func TestMounts(t *testing.T) {
	grown := guesttest.EmptyDisk(t, "64M")
	if err := os.Truncate(grown, 512<<20); err != nil {
		t.Fatal(err)
	}
	m := guesttest.Start(t, guesttest.Config{Disks: []guesttest.Disk{
		{Path: guesttest.BusyboxDisk(t), ReadOnly: true}, {Path: guesttest.ScratchDisk(t)}, {Path: grown},
	}})
	m.MountRoot("box")
	p, err := m.Create("box", guesttest.Spec("sleep", "1000"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	for name, run := range map[string]func(*testing.T, *guesttest.Machine){
		"bad requests are refused and leave nothing": badMounts,
		"a disk grows to its device":                 growDisk,
		"many layers stack":                          manyLayers,
		"tmpfs and binds":                            tmpfsAndBind,
		"a scratch disk shows no lost+found":         noLostAndFound,
		"what was read is given back":                trimMemory,
	} {
		t.Run(name, func(t *testing.T) { run(t, m) })
	}
}

func badMounts(t *testing.T, m *guesttest.Machine) {
	tmpfs := &guestapi.Mount_Tmpfs{Tmpfs: &guestapi.Tmpfs{}}
	for name, mnt := range map[string]*guestapi.Mount{
		"target outside":    {Target: "/etc/x", Source: tmpfs},
		"target with dots":  {Target: guestapi.RuntimeDir + "/../x", Source: tmpfs},
		"no source":         {Target: disks + "x"},
		"unknown option":    {Target: disks + "x", Source: tmpfs, Options: []string{"frobnicate"}},
		"unknown fstype":    {Target: disks + "x", Source: &guestapi.Mount_Disk{Disk: &guestapi.Disk{Lun: 0, Fstype: "vfat"}}},
		"overlay of none":   {Target: disks + "x", Source: &guestapi.Mount_Overlay{Overlay: &guestapi.Overlay{}}},
		"share cache=mmap":  {Target: disks + "x", Source: &guestapi.Mount_Share{Share: &guestapi.Share{Name: "a", Cache: "mmap", Msize: 65536}}},
		"share name a path": {Target: disks + "x", Source: &guestapi.Mount_Share{Share: &guestapi.Share{Name: "a,b", Cache: "none", Msize: 65536}}},
	} {
		first := &guestapi.Mount{Target: disks + "first", Source: tmpfs}
		_, err := m.Guest.Mount(m.Context(), &guestapi.MountRequest{Mounts: []*guestapi.Mount{first, mnt}})
		if !errdefs.IsInvalidArgument(errgrpc.ToNative(err)) || !strings.Contains(err.Error(), "mount 1 at") {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := m.Guest.Unmount(m.Context(), &guestapi.UnmountRequest{Targets: []string{disks + "first", disks + "never"}})
	if err != nil {
		t.Errorf("unmount of what is not mounted: %v", err)
	}
}

func growDisk(t *testing.T, m *guesttest.Machine) {
	mnt := diskMount(2)
	mnt.GetDisk().Grow = true
	root := &guestapi.Mount{Target: guestapi.ContainerDir("box") + "/rootfs/mnt", Source: &guestapi.Mount_Bind{Bind: &guestapi.Bind{Source: disks + "2"}}}
	if _, err := m.Guest.Mount(m.Context(), &guestapi.MountRequest{Mounts: []*guestapi.Mount{mnt, root}}); err != nil {
		t.Fatal(err)
	}
	st, err := m.Guest.StatPath(m.Context(), &guestapi.StatPathRequest{ContainerId: "grown", Path: "/"})
	if err == nil {
		t.Errorf("stat of a container that is not there: %v", st)
	}
	trim, err := m.Guest.Trim(m.Context(), &guestapi.TrimRequest{Disks: true})
	if err != nil || trim.DiskBytes < 400<<20 {
		t.Errorf("trim of a disk that grew to 512 MiB: %v, %v", trim, err)
	}
	_, err = m.Guest.Unmount(m.Context(), &guestapi.UnmountRequest{Targets: []string{root.Target, mnt.Target}, Sync: true})
	if err != nil {
		t.Error(err)
	}
}

func trimMemory(t *testing.T, m *guesttest.Machine) {
	if _, err := m.Guest.Trim(m.Context(), &guestapi.TrimRequest{Memory: true}); err != nil {
		t.Fatal(err)
	}
	free := func() uint64 {
		r, err := m.Guest.Memory(m.Context(), &guestapi.MemoryRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return r.GetFree()
	}
	before := free()
	mnt := diskMount(2)
	root := &guestapi.Mount{Target: guestapi.ContainerDir("read") + "/rootfs", Source: &guestapi.Mount_Overlay{Overlay: &guestapi.Overlay{
		Upper: disks + "2/up", Work: disks + "2/work", Lower: []string{disks + "0"},
	}}}
	if _, err := m.Guest.Mount(m.Context(), &guestapi.MountRequest{Mounts: []*guestapi.Mount{mnt, root}}); err != nil {
		t.Fatal(err)
	}
	p, err := m.Create("read", guesttest.Spec("sh", "-c", "head -c 16777216 /dev/zero >/f && sync"))
	if err != nil {
		t.Fatal(err)
	}
	p.Start()
	if code := p.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	p.Delete()
	cached := free()
	if before-min(before, cached) < 12<<20 {
		t.Errorf("16 MiB were written and %d bytes are free, of %d before", cached, before)
	}
	if _, err := m.Guest.Trim(m.Context(), &guestapi.TrimRequest{Memory: true}); err != nil {
		t.Fatal(err)
	}
	if after := free(); after < cached+12<<20 {
		t.Errorf("%d bytes are free, %d before they were given back", after, cached)
	}
	_, err = m.Guest.Unmount(m.Context(), &guestapi.UnmountRequest{Targets: []string{root.Target, mnt.Target}, Sync: true})
	if err != nil {
		t.Error(err)
	}
}

func manyLayers(t *testing.T, m *guesttest.Machine) {
	const n = 120
	var mounts []*guestapi.Mount
	overlay := &guestapi.Overlay{Upper: disks + "1/many", Work: disks + "1/many.work"}
	for i := range n {
		target := fmt.Sprintf("%s%064d", guestapi.RuntimeDir+"/layers/sha256-", i)
		mounts = append(mounts, &guestapi.Mount{Target: target, Source: &guestapi.Mount_Tmpfs{Tmpfs: &guestapi.Tmpfs{SizeBytes: 1 << 20}}})
		overlay.Lower = append(overlay.Lower, target)
	}
	overlay.Lower = append(overlay.Lower, disks+"0")
	mounts = append(mounts, &guestapi.Mount{
		Target: guestapi.ContainerDir("many") + "/rootfs", Source: &guestapi.Mount_Overlay{Overlay: overlay},
	})
	if _, err := m.Guest.Mount(m.Context(), &guestapi.MountRequest{Mounts: mounts}); err != nil {
		t.Fatal(err)
	}
	p, err := m.Create("many", guesttest.Spec("sh", "-c", "echo x >/new; ls /bin/busybox"))
	if err != nil {
		t.Fatal(err)
	}
	p.Start()
	if code := p.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	p.Delete()
}

func tmpfsAndBind(t *testing.T, m *guesttest.Machine) {
	tmp := guestapi.RuntimeDir + "/tmpfs/one"
	_, err := m.Guest.Mount(m.Context(), &guestapi.MountRequest{Mounts: []*guestapi.Mount{
		{Target: tmp, Source: &guestapi.Mount_Tmpfs{Tmpfs: &guestapi.Tmpfs{SizeBytes: 1 << 20, Mode: 0o1777}}, Options: []string{"nosuid"}},
		{Target: guestapi.RuntimeDir + "/bound", ReadOnly: true, Source: &guestapi.Mount_Bind{Bind: &guestapi.Bind{Source: tmp}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.Guest.WriteFile(m.Context(), &guestapi.WriteFileRequest{Name: "tmpfs/one/file", Data: []byte("text"), Mode: 0o600})
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.Guest.WriteFile(m.Context(), &guestapi.WriteFileRequest{Name: "bound/file", Data: []byte("text")})
	if err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("write to a read-only bind: %v", err)
	}
	_, err = m.Guest.WriteFile(m.Context(), &guestapi.WriteFileRequest{Name: "../../etc/passwd", Data: []byte("x")})
	if !errdefs.IsInvalidArgument(errgrpc.ToNative(err)) {
		t.Errorf("write outside of the runtime directory: %v", err)
	}
	m.MountRoot("tmp")
	spec := guesttest.Spec("sh", "-c", "stat -c '%a %s' /mnt/file; cat /mnt/file")
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/mnt", Type: "bind", Source: tmp, Options: []string{"bind", "ro"}})
	p, err := m.Create("tmp", spec)
	if err != nil {
		t.Fatal(err)
	}
	p.Start()
	p.Wait()
	if out, _ := p.Delete(); out != "600 4\ntext" {
		t.Errorf("output %q", out)
	}
}

func noLostAndFound(t *testing.T, m *guesttest.Machine) {
	e := m.Exec("box", "lf", "ls", "-A", "/")
	e.Start()
	e.Wait()
	if out, _ := e.Delete(); strings.Contains(out, "lost+found") {
		t.Errorf("the container's root shows %q", out)
	}
	if got := guesttest.ListDisk(t, guesttest.ScratchDisk(t), "/"); strings.Contains(got, "lost+found") {
		t.Errorf("the scratch template shows %q", got)
	}
}
