// SPDX-License-Identifier: Apache-2.0

// Package guestimage finds and verifies what a machine starts from: kernel,
// initrd and the template of scratch disks, which make builds together and
// which only work together.
package guestimage

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"byre.dev/byre/internal/disk"
	"byre.dev/byre/internal/guestapi"
)

// Env names the environment variable that points at another guest image.
const Env = "BYRE_GUEST"

// maxManifest bounds the manifest in bytes.
const maxManifest = 64 << 10

// Image is a guest image: absolute paths and the digests that its manifest
// gives them.
type Image struct {
	// Dir holds the image.
	Dir string
	// Kernel is the uncompressed ELF kernel with a PVH entry, for QEMU.
	Kernel string
	// BzImage is the same kernel for loaders that want Linux's boot protocol.
	BzImage string
	// Initrd is the first root file system.
	Initrd string
	// Scratch is the template of scratch disks, a sparse ext4 image; beside it
	// is the seed of those of another size (disk.SeedOf).
	Scratch string
	// Build is the version of the programs inside.
	Build string
	// Digests are the files' SHA-256 in hexadecimal, by base name.
	Digests map[string]string
}

// manifest is guest.json, written by cmd/mkguest.
type manifest struct {
	Version int               `json:"version"`
	Build   string            `json:"build"`
	Files   map[string]string `json:"files"`
}

const (
	kernelName  = "vmlinux"
	bzImageName = "bzImage"
	initrdName  = "initrd"
	scratchName = "scratch.ext4"
)

// Find returns the guest image in dir when it is not empty, else in the places
// relative to the program's directory: guest beside it, and ../share/byre/guest.
// It reads the manifest and checks that each file is there; Verify reads them
// whole.
func Find(dir, programDir string) (Image, error) {
	if dir != "" {
		return open(dir)
	}
	places := []string{filepath.Join(programDir, "guest"), filepath.Join(programDir, "..", "share", "byre", "guest")}
	for _, p := range places {
		if _, err := os.Stat(filepath.Join(p, "guest.json")); err == nil {
			return open(p)
		}
	}
	return Image{}, fmt.Errorf("no guest image (kernel, initrd, scratch template) in %s or %s: build it with \"make guest\", or set %s to where it is",
		places[0], places[1], Env)
}

func open(dir string) (Image, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Image{}, fmt.Errorf("resolve guest image directory: %w", err)
	}
	m, err := readManifest(filepath.Join(dir, "guest.json"))
	if err != nil {
		return Image{}, err
	}
	img := Image{
		Dir:     dir,
		Kernel:  filepath.Join(dir, kernelName),
		BzImage: filepath.Join(dir, bzImageName),
		Initrd:  filepath.Join(dir, initrdName),
		Scratch: filepath.Join(dir, scratchName),
		Build:   m.Build,
		Digests: m.Files,
	}
	for _, name := range []string{kernelName, initrdName, scratchName, disk.SeedOf(scratchName)} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return Image{}, fmt.Errorf("guest image: %w: build it with \"make guest\"", err)
		}
		if m.Files[name] == "" {
			return Image{}, fmt.Errorf("guest image: %s names no digest of %s: build it again with \"make guest\"", filepath.Join(dir, "guest.json"), name)
		}
	}
	return img, nil
}

func readManifest(path string) (manifest, error) {
	var m manifest
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("no guest image: %w: build it with \"make guest\"", err)
	}
	if err != nil {
		return m, fmt.Errorf("open guest manifest: %w", err)
	}
	defer f.Close()
	if err := json.NewDecoder(io.LimitReader(f, maxManifest)).Decode(&m); err != nil {
		return m, fmt.Errorf("read guest manifest %s: %w", path, err)
	}
	if m.Version != guestapi.Version {
		return m, fmt.Errorf("guest image %s speaks version %d of the guest protocol, this program version %d: build both from one source with \"make\"",
			path, m.Version, guestapi.Version)
	}
	return m, nil
}

// KernelRelease returns what uname -r says in the guest, from the note that the
// kernel's build leaves beside it; "" where there is none.
func (img Image) KernelRelease() string {
	var note struct {
		Release string `json:"release"`
	}
	b, err := os.ReadFile(filepath.Join(img.Dir, "kernel.json"))
	if err != nil || json.Unmarshal(b, &note) != nil {
		return ""
	}
	return note.Release
}

// Verify reads kernel and initrd and compares them with the manifest. The
// scratch template, sparse and large, is checked by the file system that it
// holds when it is mounted.
func (img Image) Verify() error {
	for _, path := range []string{img.Kernel, img.Initrd} {
		name := filepath.Base(path)
		got, err := digest(path)
		if err != nil {
			return fmt.Errorf("guest image: %w", err)
		}
		if got != img.Digests[name] {
			return fmt.Errorf("guest image: %s is not the file that its manifest names: build it again with \"make guest\"", path)
		}
	}
	return nil
}

func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
