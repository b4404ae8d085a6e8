// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"byre.dev/byre/internal/guestimage"
	"byre.dev/byre/internal/home"
	"byre.dev/byre/internal/vm"
	"byre.dev/byre/internal/vm/qemu"
)

// newDriver makes the QEMU driver, which runs on every host.
func newDriver(dir home.Dir) func(*slog.Logger) (vm.Driver, string, error) {
	return func(log *slog.Logger) (vm.Driver, string, error) {
		exe, err := os.Executable()
		if err != nil {
			return nil, "", fmt.Errorf("find own program: %w", err)
		}
		if exe, err = filepath.EvalSymlinks(exe); err != nil {
			return nil, "", fmt.Errorf("find own program: %w", err)
		}
		image, err := guestimage.Find(os.Getenv(guestimage.Env), filepath.Dir(exe))
		if err != nil {
			return nil, "", err
		}
		cfg := qemu.Config{
			Binary: os.Getenv("BYRE_QEMU"), Image: image, Log: log,
			NoClone: os.Getenv("BYRE_NO_CLONE") == "1", Accel: os.Getenv("BYRE_ACCEL"),
		}
		if dir != "" {
			cfg.StateDir = dir.Path("template")
		}
		d, err := qemu.New(cfg)
		return d, image.Scratch, err
	}
}
