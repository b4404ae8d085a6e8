// SPDX-License-Identifier: Apache-2.0

//go:build linux

package qemu_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/vm"
	"byre.dev/byre/internal/vm/vmtest"
)

func TestDriverKeepsThePromisesOfMachines(t *testing.T) {
	vmtest.Run(t, vmtest.Config{Driver: driver(t, nil), NewDisk: newDisk, HostMemory: hostMemory, Cloned: true})
}

// newDisk copies what is allocated of the scratch template.
func newDisk(t testing.TB) string {
	t.Helper()
	src, err := os.Open(image(t).Scratch)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.Create(filepath.Join(t.TempDir(), "scratch.ext4"))
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	fi, err := src.Stat()
	if err != nil {
		t.Fatal(err)
	}
	for off := int64(0); off < fi.Size(); {
		start, err := src.Seek(off, unix.SEEK_DATA)
		if err != nil {
			break // no more data
		}
		end, err := src.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.NewOffsetWriter(dst, start), io.NewSectionReader(src, start, end-start)); err != nil {
			t.Fatal(err)
		}
		off = end
	}
	if err := dst.Truncate(fi.Size()); err != nil {
		t.Fatal(err)
	}
	return dst.Name()
}

// hostMemory is what a machine's process has for itself, and its memory files
// whole: pages of those that are not mapped cost as much as those that are.
func hostMemory(t testing.TB, m vm.Machine) uint64 {
	t.Helper()
	proc := fmt.Sprintf("/proc/%d", m.Info().PID)
	sum := int64(0)
	for name, kib := range rollup(t, proc) {
		switch name {
		case "Pss":
			sum += kib << 10
		case "Pss_Shmem":
			sum -= kib << 10
		}
	}
	fds, err := filepath.Glob(proc + "/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	counted := map[uint64]bool{}
	for _, fd := range fds {
		target, _ := os.Readlink(fd)
		var st syscall.Stat_t
		if !strings.HasPrefix(target, "/memfd:") || syscall.Stat(fd, &st) != nil || counted[st.Ino] {
			continue
		}
		counted[st.Ino] = true
		sum += st.Blocks * 512
	}
	return uint64(sum)
}

// rollup reads smaps_rollup, in KiB.
func rollup(t testing.TB, proc string) map[string]int64 {
	t.Helper()
	f, err := os.Open(proc + "/smaps_rollup")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := map[string]int64{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, rest, ok := strings.Cut(lines.Text(), ":")
		if f := strings.Fields(rest); ok && len(f) == 2 {
			if n, err := strconv.ParseInt(f[0], 10, 64); err == nil {
				all[name] = n
			}
		}
	}
	return all
}
