// SPDX-License-Identifier: Apache-2.0

//go:build linux

package hostfs_test

import (
	"testing"

	"byre.dev/byre/internal/hostfs"
	"byre.dev/byre/internal/p9/p9client"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/p9test"
	"byre.dev/byre/internal/testenv"
)

func export(tb testing.TB, cfg hostfs.Config) *p9client.FID {
	tb.Helper()
	fs, err := hostfs.Open(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	root := fs.Root()
	tb.Cleanup(func() {
		root.Release()
		if err := fs.Close(); err != nil {
			tb.Error(err)
		}
	})
	return p9test.Attach(tb, &p9srv.Server{Root: root}, 0)
}

func TestPassthroughKeepsTheContract(t *testing.T) {
	testenv.NeedRoot(t, "pass owners through")
	root := export(t, hostfs.Config{Path: t.TempDir()})
	p9test.Run(t, p9test.Client(root, 0), p9test.Traits{})
}

func TestMappedKeepsTheContract(t *testing.T) {
	root := export(t, hostfs.Config{Path: t.TempDir(), Mapped: true, Sidecar: t.TempDir() + "/side"})
	p9test.Run(t, p9test.Client(root, 0), p9test.Traits{})
}

func TestMappedBySidecarAloneKeepsTheContract(t *testing.T) {
	root := export(t, hostfs.Config{Path: t.TempDir(), Mapped: true, SidecarOnly: true, Sidecar: t.TempDir() + "/side"})
	p9test.Run(t, p9test.Client(root, 0), p9test.Traits{Slow: true})
}
