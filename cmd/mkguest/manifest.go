// SPDX-License-Identifier: Apache-2.0

package main

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

// manifest is guest.json, which internal/guestimage reads.
type manifest struct {
	// Version is guestapi.Version of the agent in the initrd.
	Version int `json:"version"`
	// Build is the build version of all files.
	Build string `json:"build"`
	// Files has the SHA-256 of each file in hexadecimal; that of the scratch
	// template covers its blocks that are not zero.
	Files map[string]string `json:"files"`
}

// writeManifest describes what is in dir. The kernel may come in either form or
// both; the rest must be there.
func writeManifest(build, dir string) error {
	m := manifest{Version: guestapi.Version, Build: build, Files: map[string]string{}}
	for _, f := range []struct {
		name             string
		optional, sparse bool
	}{{name: "initrd"}, {name: "scratch.ext4", sparse: true}, {name: disk.SeedOf("scratch.ext4"), sparse: true}, {name: "vmlinux", optional: true}, {name: "bzImage", optional: true}} {
		sum, err := hashFile(filepath.Join(dir, f.name), f.sparse)
		if f.optional && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("write manifest: %w", err)
		}
		m.Files[f.name] = sum
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return replace(filepath.Join(dir, "guest.json"), func(w *os.File) error {
		_, err := w.Write(append(text, '\n'))
		return err
	})
}

// hashFile hashes a file's bytes; of a sparse template, which nobody wants to
// read whole, each block that is not all zeros, behind its offset.
func hashFile(name string, sparse bool) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if sparse {
		err = hashBlocks(h, f)
	} else {
		_, err = io.Copy(h, f)
	}
	if err != nil {
		return "", fmt.Errorf("hash %s: %w", name, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
