// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/testenv"
)

func ext4() *guestapi.Mount_Disk {
	return &guestapi.Mount_Disk{Disk: &guestapi.Disk{Fstype: "ext4"}}
}

func TestOptionsBecomeFlagsAndData(t *testing.T) {
	o, err := parseOptions(&guestapi.Mount{Source: ext4(), ReadOnly: true, Options: []string{
		"nosuid", "nodev", "dev", "noatime", "rshared", "discard", "commit=30", "defaults",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if want := uintptr(unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NOATIME); o.flags != want {
		t.Errorf("flags %#x, want %#x", o.flags, want)
	}
	if o.propagation != unix.MS_SHARED|unix.MS_REC {
		t.Errorf("propagation %#x", o.propagation)
	}
	if got := o.join("first"); got != "first,discard,commit=30" {
		t.Errorf("data %q", got)
	}
	if o, err := parseOptions(&guestapi.Mount{Source: ext4(), ReadOnly: true, Options: []string{"rw"}}); err != nil || !o.readOnly() {
		t.Errorf("an option undoes what the request says: %+v, %v", o, err)
	}
}

func TestOptionsOfAnotherKindOfMountAreRefused(t *testing.T) {
	for option, source := range map[string]*guestapi.Mount{
		"discard":         {Source: &guestapi.Mount_Tmpfs{Tmpfs: &guestapi.Tmpfs{}}},
		"size=1k":         {Source: ext4()},
		"lowerdir=/":      {Source: &guestapi.Mount_Overlay{Overlay: &guestapi.Overlay{}}},
		"bind":            {Source: ext4()},
		"trans=tcp":       {Source: &guestapi.Mount_Share{Share: &guestapi.Share{}}},
		"access=any":      {Source: &guestapi.Mount_Share{Share: &guestapi.Share{}}},
		"commit=1,data=x": {Source: ext4()},
		"commit":          {Source: ext4()},
		"":                {Source: ext4()},
	} {
		source.Options = []string{option}
		if _, err := parseOptions(source); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", option, err)
		}
	}
}

func TestTargetsStayBelowTheRuntimeDirectory(t *testing.T) {
	good := guestapi.RuntimeDir + "/disks/0"
	if got, err := confined(good); err != nil || got != good {
		t.Errorf("%s: %v", good, err)
	}
	for _, p := range []string{"", "/", "/etc", guestapi.RuntimeDir, guestapi.RuntimeDir + "/", guestapi.RuntimeDir + "/../etc",
		guestapi.RuntimeDir + "/a/./b", guestapi.RuntimeDir + "x/a", strings.TrimPrefix(good, "/")} {
		if _, err := confined(p); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", p, err)
		}
	}
}

func TestPlacesAreReachedByNoSymlink(t *testing.T) {
	dir := t.TempDir()
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "real"), 0o755), os.Mkdir(filepath.Join(dir, "real", "sub"), 0o755), os.Symlink("real", filepath.Join(dir, "way"))); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"way", "way/sub"} {
		if pl, err := openPlace(filepath.Join(dir, p)); !errors.Is(err, unix.ELOOP) {
			pl.close()
			t.Errorf("%s: %v", p, err)
		}
	}
	pl, err := openPlace(filepath.Join(dir, "real"))
	if err != nil {
		t.Fatal(err)
	}
	defer pl.close()
	// The place stays the directory that it was, whatever its name is now.
	if err := os.Rename(filepath.Join(dir, "real"), filepath.Join(dir, "renamed")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.Readlink(pl.path()); err != nil || got != filepath.Join(dir, "renamed") {
		t.Errorf("the place is %s, %v", got, err)
	}
}

// The links within a volume are a container's: one that leads out of it would
// show the guest's own files.
func TestSubpathsAreReachedByNoLinkOutOfTheWhole(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	err = errors.Join(os.MkdirAll(at("vol/sub"), 0o755), os.WriteFile(at("secret"), nil, 0o600), os.MkdirAll(at("vol/hack"), 0o755),
		os.Symlink("../sub", at("vol/hack/good")), os.Symlink("/", at("vol/hack/root")), os.Symlink("../../secret", at("vol/hack/bad")))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := openPlace(at("vol"))
	if err != nil {
		t.Fatal(err)
	}
	defer whole.close()
	for sub, want := range map[string]string{
		"sub": "", "hack/good": "", "hack/root": "escapes the base directory", "hack/bad": "escapes the base directory",
		"../secret": "escapes the base directory", "none": "cannot access path",
	} {
		got, err := openBeneath(whole, sub)
		if err == nil {
			got.close()
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", sub, err, want)
		}
	}
}

func TestSharesAreMountedAsAskedAndNotOtherwise(t *testing.T) {
	s := &guestapi.Share{Name: "share-1.a_B", Cache: "loose", Msize: 512 << 10}
	got, err := shareOptions(s)
	want := []string{"trans=fd", "version=9p2000.L", "aname=share-1.a_B", "cache=loose", "msize=524288", "locktimeout=1", "access=user"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	s.PosixAcl = true
	if got, err = shareOptions(s); err != nil || !slices.Contains(got, "posixacl") || !slices.Contains(got, "access=client") {
		t.Errorf("with ACLs: %v, %v", got, err)
	}
	for name, bad := range map[string]*guestapi.Share{
		"no name":          {Cache: "none", Msize: 8192},
		"an option inside": {Name: "a,trans=tcp", Cache: "none", Msize: 8192},
		"mmap":             {Name: "a", Cache: "mmap", Msize: 8192},
		"small frames":     {Name: "a", Cache: "none", Msize: 4095},
		"large frames":     {Name: "a", Cache: "none", Msize: 1<<20 + 1},
	} {
		if _, err := shareOptions(bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOverlaysThatCannotBeAreRefused(t *testing.T) {
	for name, o := range map[string]*guestapi.Overlay{
		"nothing below":   {},
		"too much below":  {Lower: make([]string, 501)},
		"work is missing": {Lower: []string{"/x"}, Upper: "/y"},
		"no upper":        {Lower: []string{"/x"}, Work: "/y"},
	} {
		if err := mountOverlay(guestapi.RuntimeDir+"/x", o, options{}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFlagsOfMountTwoAreThoseOfFsmount(t *testing.T) {
	got := mountAttr(unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME)
	want := unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NOATIME
	if got != want {
		t.Errorf("%#x, want %#x", got, want)
	}
}

func TestTheSizeOfAnExt4IsReadFromItsSuperblock(t *testing.T) {
	mkfs := testenv.NeedTool(t, "mkfs.ext4", "/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4")
	for _, c := range []struct {
		options  []string
		size     string
		count, b uint64
	}{
		{[]string{"-b", "1024"}, "8M", 8192, 1024},
		{[]string{"-b", "4096"}, "64M", 16384, 4096},
		{[]string{"-b", "4096", "-O", "64bit"}, "64M", 16384, 4096},
	} {
		image := filepath.Join(t.TempDir(), "fs")
		args := append(append([]string{"-q", "-F"}, c.options...), image, c.size)
		if out, err := exec.Command(mkfs, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		f, err := os.Open(image)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if count, size, err := ext4Blocks(f); err != nil || count != c.count || size != c.b {
			t.Errorf("%v: %d blocks of %d, %v", c.options, count, size, err)
		}
	}
	// Over 2^32 blocks the upper half counts.
	var sb [2048]byte
	binary.LittleEndian.PutUint32(sb[1024+0x60:], 0x80)
	binary.LittleEndian.PutUint32(sb[1024+0x150:], 2)
	binary.LittleEndian.PutUint32(sb[1024+0x18:], 2)
	path := filepath.Join(t.TempDir(), "sb")
	if err := os.WriteFile(path, sb[:], 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if count, _, err := ext4Blocks(f); err != nil || count != 2<<32 {
		t.Errorf("%d blocks, %v", count, err)
	}
	if _, _, err := ext4Blocks(func() *os.File { f, _ := os.Open(os.DevNull); return f }()); err == nil {
		t.Error("an empty device has a superblock")
	}
}

func TestDisksAreFoundByTheirLUNAlone(t *testing.T) {
	sys := t.TempDir()
	for _, d := range []string{"2:0:0:7/block/null", "2:0:0:17/block/zero", "2:0:0:8/block/no-such-node"} {
		if err := os.MkdirAll(filepath.Join(sys, "bus", "scsi", "devices", d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for lun, want := range map[uint32]string{7: "/dev/null", 17: "/dev/zero", 8: "", 1: ""} {
		if got := diskAt(sys, lun); got != want {
			t.Errorf("LUN %d is %q, want %q", lun, got, want)
		}
	}
	if !live("/dev/null") {
		t.Error("a device that opens is not live")
	}
}

func TestDisksThatCannotBeMountedAreRefusedBeforeTheyAreWaitedFor(t *testing.T) {
	begin := time.Now()
	for name, c := range map[string]struct {
		disk  *guestapi.Disk
		flags uintptr
	}{
		"of another kind":     {&guestapi.Disk{Fstype: "vfat"}, 0},
		"growing erofs":       {&guestapi.Disk{Fstype: "erofs", Grow: true}, 0},
		"growing a read-only": {&guestapi.Disk{Fstype: "ext4", Grow: true}, unix.MS_RDONLY},
	} {
		err := mountDisk(context.Background(), guestapi.RuntimeDir+"/x", c.disk, options{flags: c.flags})
		if !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if took := time.Since(begin); took > deviceWait/2 {
		t.Errorf("after %v", took)
	}
}
