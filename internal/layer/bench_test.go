// SPDX-License-Identifier: Apache-2.0

package layer_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"byre.dev/byre/internal/layer"
)

// benchLayer is a layer to measure with: the tar archive that BYRE_BENCH_LAYER
// names, or one made of this machine's programs and headers.
func benchLayer(b *testing.B) string {
	b.Helper()
	if path := os.Getenv("BYRE_BENCH_LAYER"); path != "" {
		return path
	}
	path := filepath.Join(b.TempDir(), "layer.tar")
	out, err := exec.Command("tar", "-C", "/", "-cf", path, "usr/bin", "usr/include", "usr/share/perl").CombinedOutput()
	if err != nil {
		b.Fatalf("tar: %v\n%s", err, out)
	}
	return path
}

// BenchmarkConvert and BenchmarkTarExtract are to be compared: the same archive,
// read from the page cache, into the same directory, each synced to disk.
func BenchmarkConvert(b *testing.B) {
	path := benchLayer(b)
	dir := b.TempDir()
	for b.Loop() {
		c, err := layer.Open(filepath.Join(dir, "c"))
		if err != nil {
			b.Fatal(err)
		}
		info, release, err := c.Put(b.Context(), "", func() (io.ReadCloser, error) { return os.Open(path) })
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(info.TarSize)
		release()
		b.StopTimer()
		os.RemoveAll(filepath.Join(dir, "c"))
		b.StartTimer()
	}
}

func BenchmarkTarExtract(b *testing.B) {
	path := benchLayer(b)
	st, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(st.Size())
	dir := filepath.Join(b.TempDir(), "x")
	for b.Loop() {
		if err := os.Mkdir(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		if out, err := exec.Command("tar", "-C", dir, "-xf", path).CombinedOutput(); err != nil {
			b.Fatalf("tar: %v\n%s", err, out)
		}
		b.StopTimer()
		os.RemoveAll(dir)
		b.StartTimer()
	}
}
