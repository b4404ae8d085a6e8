// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"byre.dev/byre/internal/guestapi"
)

func inputs(t *testing.T) config {
	t.Helper()
	dir := t.TempDir()
	c := config{
		initPath: filepath.Join(dir, "init"), runcPath: filepath.Join(dir, "runc"),
		out: filepath.Join(dir, "out"), build: "test", scratchSize: 64 << 30, compress: "none",
	}
	for _, f := range []string{c.initPath, c.runcPath} {
		if err := os.WriteFile(f, bytes.Repeat([]byte(f[len(dir):]), 1000), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func TestSameInputsGiveTheSameBytes(t *testing.T) {
	c := inputs(t)
	if err := run(c); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(filepath.Join(c.out, "guest.json"))
	if err != nil {
		t.Fatal(err)
	}
	os.Chtimes(c.initPath, time.Unix(1, 0), time.Unix(1, 0))
	c.out += "2"
	time.Sleep(1100 * time.Millisecond) // past any time stamp's grain
	if err := run(c); err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(filepath.Join(c.out, "guest.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Errorf("manifests differ:\n%s\n%s", first, second)
	}
	var m manifest
	if err := json.Unmarshal(first, &m); err != nil || m.Version != guestapi.Version || len(m.Files) != 3 {
		t.Errorf("manifest %+v, %v", m, err)
	}
}

func TestScratchTemplatesAreSoundAndSparse(t *testing.T) {
	dir := t.TempDir()
	if err := writeScratch(64<<30, dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"scratch.ext4", "scratch-seed.ext4"} {
		file := filepath.Join(dir, name)
		out, err := exec.Command("/sbin/e2fsck", "-fn", file).CombinedOutput()
		if err != nil {
			t.Errorf("%s: e2fsck: %v: %s", name, err, out)
		}
		var st syscall.Stat_t
		if err := syscall.Stat(file, &st); err != nil {
			t.Fatal(err)
		}
		if kib := st.Blocks / 2; kib > 512 {
			t.Errorf("%s: an empty scratch disk holds %d KiB", name, kib)
		}
		out, err = exec.Command("/sbin/debugfs", "-R", "ls -p /", file).Output()
		if err != nil || strings.Contains(string(out), "lost+found") {
			t.Errorf("%s: root of the scratch disk: %s, %v", name, out, err)
		}
	}
}

func TestChangedBlockChangesTheSparseDigest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sparse")
	if err := os.WriteFile(file, make([]byte, 3*sparseBlock), 0o600); err != nil {
		t.Fatal(err)
	}
	zeros, err := hashFile(file, true)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.WriteAt([]byte{1}, sparseBlock+5)
	one, err := hashFile(file, true)
	if err != nil || one == zeros {
		t.Errorf("digest %s before and %s after, %v", zeros, one, err)
	}
	f.WriteAt([]byte{0, 1}, sparseBlock+5)
	if two, err := hashFile(file, true); err != nil || two == one {
		t.Errorf("a byte that moved gives the same digest, %v", err)
	}
}

func TestUnknownCompressionIsRefused(t *testing.T) {
	c := inputs(t)
	c.compress = "zip"
	if err := run(c); err == nil || !strings.Contains(err.Error(), "zip") {
		t.Errorf("error %v", err)
	}
}

func TestMissingInputLeavesNoInitrd(t *testing.T) {
	c := inputs(t)
	c.runcPath = "/no/such/runc"
	if err := run(c); err == nil {
		t.Fatal("an initrd without runc was written")
	}
	if left, _ := filepath.Glob(filepath.Join(c.out, "*")); len(left) != 0 {
		t.Errorf("files left: %v", left)
	}
}
