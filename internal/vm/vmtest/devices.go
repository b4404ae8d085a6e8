// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/testenv"
	"byre.dev/byre/internal/vm"
)

func diskAt(lun uint32) string { return fmt.Sprintf("%s/disks/%d", guestapi.RuntimeDir, lun) }

func diskMount(lun uint32, readOnly bool) *guestapi.Mount {
	return &guestapi.Mount{
		Target: diskAt(lun), ReadOnly: readOnly,
		Source: &guestapi.Mount_Disk{Disk: &guestapi.Disk{Lun: lun, Fstype: "ext4"}},
	}
}

func (s *suite) attach(t testing.TB, m *machine, d vm.Disk) uint32 {
	t.Helper()
	lun, err := m.AttachDisk(bounded(t), d)
	if err != nil {
		t.Fatal(err)
	}
	return lun
}

func (s *suite) disks(t *testing.T) {
	m := s.start(t, vm.Config{})
	path := s.cfg.NewDisk(t)
	first := s.attach(t, m, vm.Disk{Path: path})
	second := s.attach(t, m, vm.Disk{Path: s.cfg.NewDisk(t)})
	if first == second {
		t.Fatalf("two disks at LUN %d", first)
	}
	if err := m.mount(t, diskMount(first, false), diskMount(second, false)); err != nil {
		t.Fatal(err)
	}
	m.unmount(t, diskAt(second), diskAt(first))
	for _, lun := range []uint32{first, second} {
		if err := m.DetachDisk(bounded(t), lun); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.DetachDisk(bounded(t), first); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("second DetachDisk = %v, want not found", err)
	}
	again := s.attach(t, m, vm.Disk{Path: path, ReadOnly: true})
	if err := m.mount(t, diskMount(again, false)); err == nil {
		t.Error("a read-only disk can be mounted for writing")
	}
	if err := m.mount(t, diskMount(again, true)); err != nil {
		t.Errorf("mount of a disk that was plugged in again: %v", err)
	}
}

func (s *suite) sharedDisks(t *testing.T) {
	a, b := s.start(t, vm.Config{}), s.start(t, vm.Config{})
	shared, owned := s.cfg.NewDisk(t), s.cfg.NewDisk(t)
	for _, m := range []*machine{a, b} {
		lun := s.attach(t, m, vm.Disk{Path: shared, ReadOnly: true})
		if err := m.mount(t, diskMount(lun, true)); err != nil {
			t.Error(err)
		}
	}
	s.attach(t, a, vm.Disk{Path: owned})
	missing := filepath.Join(t.TempDir(), "missing")
	for name, d := range map[string]vm.Disk{
		"a second writer":          {Path: owned},
		"a reader beside a writer": {Path: owned, ReadOnly: true},
		"a writer beside readers":  {Path: shared},
		"a missing image":          {Path: missing},
	} {
		if _, err := b.AttachDisk(bounded(t), d); err == nil || !strings.Contains(err.Error(), d.Path) {
			t.Errorf("AttachDisk for %s = %v, want an error that names it", name, err)
		}
	}
	// What failed leaves nothing in the way.
	if lun, err := b.AttachDisk(bounded(t), vm.Disk{Path: s.cfg.NewDisk(t)}); err != nil {
		t.Error(err)
	} else if err := b.mount(t, diskMount(lun, false)); err != nil {
		t.Error(err)
	}
}

func (s *suite) manyDisks(t *testing.T) {
	m := s.start(t, vm.Config{})
	path := s.cfg.NewDisk(t)
	var last uint32
	for n := range s.cfg.Disks {
		lun, err := m.AttachDisk(bounded(t), vm.Disk{Path: path, ReadOnly: true})
		if err != nil {
			t.Fatalf("disk %d: %v", n, err)
		}
		last = max(last, lun)
	}
	if err := m.mount(t, diskMount(last, true)); err != nil {
		t.Fatalf("disk at LUN %d: %v", last, err)
	}
}

// ports lets the guest mount a share over a port: its first message arrives.
func (s *suite) ports(t *testing.T) {
	m := s.start(t, vm.Config{})
	for round := range 2 {
		name := "round"
		conn, err := m.AddPort(bounded(t), guestapi.SharePortPrefix+name)
		if errors.Is(err, errdefs.ErrNotImplemented) {
			testenv.Skip(t, testenv.Feature, "the driver has no ports")
		}
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if _, err := m.AddPort(bounded(t), guestapi.SharePortPrefix+name); !errors.Is(err, errdefs.ErrAlreadyExists) {
			t.Errorf("second AddPort = %v, want already exists", err)
		}
		mounted := make(chan error, 1)
		go func() { // received below
			mounted <- m.mount(t, &guestapi.Mount{
				Target: guestapi.RuntimeDir + "/shares/" + name,
				Source: &guestapi.Mount_Share{Share: &guestapi.Share{Name: name, Cache: "none", Msize: 65536}},
			})
		}()
		limit(t, conn)
		var head [7]byte
		const tversion = 100
		if _, err := io.ReadFull(conn, head[:]); err != nil || head[4] != tversion || binary.LittleEndian.Uint32(head[:]) > 64 {
			t.Errorf("round %d: the guest sends % x, %v, want a Tversion", round, head, err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		if err := <-mounted; err == nil {
			t.Error("the mount of a share whose port has ended succeeds")
		}
		if err := m.RemovePort(bounded(t), guestapi.SharePortPrefix+name); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	if err := m.RemovePort(bounded(t), "none"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("RemovePort of a port that is not there = %v, want not found", err)
	}
}

func (s *suite) manyPorts(t *testing.T) {
	m := s.start(t, vm.Config{})
	const bound = 1 << 10
	n := 0
	for ; n < bound; n++ {
		_, err := m.AddPort(bounded(t), fmt.Sprintf("%s%d", guestapi.SharePortPrefix, n))
		if errors.Is(err, errdefs.ErrNotImplemented) {
			testenv.Skip(t, testenv.Feature, "the driver has no ports")
		}
		if errors.Is(err, errdefs.ErrResourceExhausted) {
			break
		}
		if err != nil {
			t.Fatalf("port %d: %v", n, err)
		}
	}
	if n == 0 || n == bound {
		t.Errorf("the machine took %d ports", n)
	}
	if err := m.RemovePort(bounded(t), guestapi.SharePortPrefix+"0"); err != nil {
		t.Fatal(err)
	}
	if _, err := m.AddPort(bounded(t), guestapi.SharePortPrefix+"another"); err != nil {
		t.Errorf("AddPort after a place became free: %v", err)
	}
}

func (s *suite) memory(t *testing.T) {
	m := s.start(t, vm.Config{MaxMemory: 4 << 30})
	base, seen := m.Memory(), m.total(t)
	if err := m.SetMemory(bounded(t), base+1<<30); err != nil {
		t.Fatal(err)
	}
	if got := m.Memory(); got != base+1<<30 {
		t.Errorf("Memory = %d, want %d", got, base+1<<30)
	}
	eventually(t, 30*time.Second, "the guest does not see added memory", func() bool { return m.total(t) >= seen+900<<20 })
	if err := m.SetMemory(bounded(t), base); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the guest does not give memory back", func() bool { return m.total(t) <= seen+200<<20 })
	if err := m.SetMemory(bounded(t), 1<<40); err != nil {
		t.Fatal(err)
	}
	if got := m.Memory(); got > 4<<30 {
		t.Errorf("Memory = %d, over Config.MaxMemory", got)
	}
}

// memoryBack fills a tmpfs and unmounts it.
func (s *suite) memoryBack(t *testing.T) {
	if s.cfg.HostMemory == nil {
		testenv.Skip(t, testenv.Feature, "the host does not tell what a machine costs")
	}
	const size, piece = 150 << 20, 3 << 20
	m := s.start(t, vm.Config{})
	before := s.cfg.HostMemory(t, m.Machine)
	if err := m.mount(t, &guestapi.Mount{
		Target: guestapi.RuntimeDir + "/fill",
		Source: &guestapi.Mount_Tmpfs{Tmpfs: &guestapi.Tmpfs{SizeBytes: size + piece, Mode: 0o700}},
	}); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, piece)
	for i := range data {
		data[i] = byte(i) | 1
	}
	for n := range size / piece {
		if _, err := m.guest.WriteFile(bounded(t), &guestapi.WriteFileRequest{
			Name: fmt.Sprintf("fill/%d", n), Data: data, Mode: 0o600,
		}); err != nil {
			t.Fatal(err)
		}
	}
	full := s.cfg.HostMemory(t, m.Machine)
	if full < before+size {
		t.Errorf("the machine costs %d MiB before and %d MiB with %d MiB in use: the measure is wrong",
			before>>20, full>>20, size>>20)
	}
	m.unmount(t, guestapi.RuntimeDir+"/fill")
	var after uint64
	defer func() {
		t.Logf("host memory: %d MiB before, %d MiB in use, %d MiB after", before>>20, full>>20, after>>20)
	}()
	eventually(t, 30*time.Second, "the host does not get the memory back", func() bool {
		after = s.cfg.HostMemory(t, m.Machine)
		return after < before+50<<20
	})
}
