// SPDX-License-Identifier: Apache-2.0

//go:build linux

package qemu_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"byre.dev/byre/internal/guestimage"
	"byre.dev/byre/internal/vm"
	"byre.dev/byre/internal/vm/qemu"
)

// stateDir is shared by the tests of the package, so that the template is made
// once.
var stateDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "byre-qemu-")
	if err != nil {
		panic(err)
	}
	stateDir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func image(t testing.TB) guestimage.Image {
	t.Helper()
	img, err := guestimage.Find(os.Getenv(guestimage.Env), filepath.Join("..", "..", "..", "bin"))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func driver(t testing.TB, change func(*qemu.Config)) *qemu.Driver {
	t.Helper()
	cfg := qemu.Config{Image: image(t), StateDir: stateDir, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if change != nil {
		change(&cfg)
	}
	d, err := qemu.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func startMachine(t testing.TB, d *qemu.Driver, cfg vm.Config) vm.Machine {
	t.Helper()
	m, err := d.Start(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestBootedMachineWaits(t *testing.T) {
	m := startMachine(t, driver(t, func(c *qemu.Config) { c.NoClone = true }), vm.Config{Name: "boot"})
	t.Logf("%+v", m.Info())
	if m.Info().Cloned {
		t.Error("machine is a clone")
	}
}

func TestClonesRun(t *testing.T) {
	d := driver(t, nil)
	for range 4 {
		m := startMachine(t, d, vm.Config{Name: "clone"})
		t.Logf("%+v", m.Info())
		if !m.Info().Cloned {
			t.Errorf("machine was booted; console: %q", m.Console())
		}
	}
}
