// SPDX-License-Identifier: Apache-2.0

//go:build linux

package hostfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"byre.dev/byre/internal/hostfs"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9client"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/p9test"
	"byre.dev/byre/internal/testenv"
)

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

func TestFidsAndWalksTakeLittleMemory(t *testing.T) {
	dir := t.TempDir()
	for i := range manyFiles {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fs, err := hostfs.Open(hostfs.Config{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	root := fs.Root()
	defer root.Release()
	walkMuch(t, &p9srv.Server{Root: root})
}

// In a share that is followed directories take the most: the host tells of
// changes in each.
func TestFollowedDirectoriesTakeLittleMemory(t *testing.T) {
	dir := t.TempDir()
	for i := range manyFiles {
		if err := os.Mkdir(filepath.Join(dir, fmt.Sprint(i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	walkMuch(t, followHost(t, hostfs.Config{Path: dir}).server)
}

const manyFiles = 10000

// walkMuch holds fids of ten thousand files; then a million walks are made, and
// clunked. What is measured includes the client.
func walkMuch(t *testing.T, srv *p9srv.Server) {
	t.Helper()
	const files = manyFiles
	b, err := p9client.NewBatch(p9test.Pipe(t, srv), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	exchange := func(request func(i int) p9.Message) {
		t.Helper()
		const step = 100
		for i := 0; i < files; i += step {
			for k := range step {
				b.Add(uint16(k), request(i+k))
			}
			if err := b.Exchange(step); err != nil {
				t.Fatal(err)
			}
		}
	}
	walk := func(i int) p9.Message {
		return &p9.Twalk{NewFID: uint32(i + 1), Names: []string{fmt.Sprint(i)}}
	}
	clunk := func(i int) p9.Message { return &p9.Tclunk{FID: uint32(i + 1)} }
	before := heap()
	exchange(walk)
	if n := (heap() - before) / files; n > 2<<10 {
		t.Errorf("a fid takes %d bytes", n)
	} else {
		t.Logf("a fid takes %d bytes", n)
	}
	exchange(clunk)
	rounds := 100
	if testing.Short() || testenv.Race {
		rounds = 10
	}
	for range rounds {
		exchange(walk)
		exchange(clunk)
	}
	if n := heap(); n > 200<<20 {
		t.Errorf("after %d walks the server holds %d MiB", rounds*files, n>>20)
	} else {
		t.Logf("after %d walks the process holds %d MiB", rounds*files, n>>20)
	}
}
