// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
)

const (
	scratchName = "scratch.ext4"
	layerName   = "layer"
	wantName    = "want"
	newPrefix   = "new-"
)

// store is the directory of snapshots: files by name and nothing else.
type store struct{ root string }

func (s store) dir(id string) string { return filepath.Join(s.root, id) }

func (s store) scratch(id string) string { return filepath.Join(s.root, id, scratchName) }

// layer reads which layer a snapshot is. Fs.ErrNotExist is one that has none yet.
func (s store) layer(id string) (digest.Digest, error) {
	return readDigest(filepath.Join(s.dir(id), layerName))
}

// setLayer writes it, whole or not at all, and durably.
func setLayer(dir string, diffID digest.Digest) error {
	return writeDigest(dir, layerName, diffID)
}

func readDigest(path string) (digest.Digest, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	d := digest.Digest(strings.TrimSpace(string(b)))
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

func writeDigest(dir, name string, d digest.Digest) (err error) {
	f, err := os.CreateTemp(dir, "."+name)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, werr := f.WriteString(d.String() + "\n")
	if err := errors.Join(werr, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dir, name))
}

// layers returns the diffIDs that any directory names, finished or not.
func (s store) layers() (map[digest.Digest]struct{}, error) {
	entries, err := os.ReadDir(s.root)
	if err != nil {
		return nil, err
	}
	used := make(map[digest.Digest]struct{}, len(entries))
	for _, e := range entries {
		d, err := s.layer(e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		used[d] = struct{}{}
	}
	return used, nil
}

// orphans returns the directories of no known id, those being made left out.
func (s store) orphans(known map[string]string) ([]string, error) {
	entries, err := os.ReadDir(s.root)
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, e := range entries {
		if _, ok := known[e.Name()]; !ok && !strings.HasPrefix(e.Name(), newPrefix) {
			dirs = append(dirs, s.dir(e.Name()))
		}
	}
	return dirs, nil
}

// removeUnfinished removes what a kill left of directories being made.
func (s store) removeUnfinished() error {
	dirs, err := filepath.Glob(filepath.Join(s.root, newPrefix+"*"))
	if err != nil {
		return err
	}
	for _, d := range dirs {
		err = errors.Join(err, os.RemoveAll(d))
	}
	return err
}

// emptyTar is the layer that changes nothing.
func emptyTar() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(make([]byte, 1024))), nil
}
