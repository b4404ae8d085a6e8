// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"byre.dev/byre/internal/engine/logs"
)

const (
	loadRuns = 3
	// loadLayers are of the contents of makeLayer: an image of 1 GB.
	loadLayers = 3
	// logSize is what a container writes to its log, in parts, logLine one line
	// of it.
	logPart = 10_000 * logLine
	logSize = 128 * logPart
	logLine = 100
)

// benchLoad measures the loading of an image of 1 GB beside tar -x of its layers.
func benchLoad(ctx context.Context, l *lab) error {
	archive, layers, err := makeArchive(ctx, l.dir)
	if err != nil {
		return err
	}
	info, err := os.Stat(archive)
	if err != nil {
		return err
	}
	untar, err := median(loadRuns, func() (time.Duration, error) { return extract(ctx, l.dir, layers) })
	if err != nil {
		return err
	}
	load, err := median(loadRuns, func() (time.Duration, error) {
		_, _ = l.byre(ctx, "rmi", "bench:load") // of the round before
		return timed(func() error { _, err := l.byre(ctx, "load", "-q", "-i", archive); return errors.Join(err, settle(ctx)) })
	})
	if err != nil {
		return err
	}
	table(fmt.Sprintf("An image of %s in %d layers, each %s (medians of %d)", megabytes(info.Size()), loadLayers, layerContents, loadRuns),
		[]string{"what", "time", "of tar -x"}, [][]string{
			{"`tar -x` of its layers onto the host's file system, synced", seconds(untar), "1.00"},
			{"`byre load`, every layer an ext4 image, synced", seconds(load), ratio(load, untar)},
		})
	return nil
}

func settle(ctx context.Context) error { return exec.CommandContext(ctx, "sync").Run() }

func extract(ctx context.Context, dir string, layers []string) (time.Duration, error) {
	root := filepath.Join(dir, "extracted")
	if err := os.Mkdir(root, 0o755); err != nil {
		return 0, err
	}
	took, err := timed(func() error {
		for _, layer := range layers {
			if out, err := exec.CommandContext(ctx, "tar", "-C", root, "-xf", layer).CombinedOutput(); err != nil {
				return fmt.Errorf("tar -x: %w: %s", err, out)
			}
		}
		return settle(ctx)
	})
	return took, errors.Join(err, os.RemoveAll(root))
}

// makeArchive packs an image as docker save does: layers that differ in the
// directory they are in.
func makeArchive(ctx context.Context, dir string) (archive string, layers []string, err error) {
	var ids, names []string
	first := filepath.Join(dir, "load.tar")
	if err := makeLayer(ctx, first); err != nil {
		return "", nil, err
	}
	for i := range loadLayers {
		name := fmt.Sprintf("layer%d.tar", i)
		layer := filepath.Join(dir, name)
		// As makeLayer does it, in a directory of its own; files that vanish
		// meanwhile are nobody's business.
		const script = `tar --no-recursion --transform "s,^,copy$1/," -C / -cf "$2" -T "$3" 2>/dev/null || true`
		if out, err := exec.CommandContext(ctx, "sh", "-c", script, "sh", fmt.Sprint(i), layer, first+".list").CombinedOutput(); err != nil {
			return "", nil, fmt.Errorf("pack a layer: %w: %s", err, out)
		}
		id, err := digest(layer)
		if err != nil {
			return "", nil, err
		}
		layers, names, ids = append(layers, layer), append(names, name), append(ids, id)
	}
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{"Cmd": []string{"true"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	})
	if err != nil {
		return "", nil, err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{"bench:load"}, "Layers": names}})
	if err != nil {
		return "", nil, err
	}
	archive = filepath.Join(dir, "image.tar")
	return archive, layers, pack(archive, layers, map[string][]byte{"config.json": config, "manifest.json": manifest})
}

func digest(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return fmt.Sprintf("sha256:%x", h.Sum(nil)), err
}

func pack(archive string, layers []string, documents map[string][]byte) (err error) {
	out, err := os.Create(archive)
	if err != nil {
		return err
	}
	w := tar.NewWriter(out)
	defer func() { err = errors.Join(err, w.Close(), out.Close()) }()
	for name, b := range documents {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(b)), Mode: 0o644}); err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	for _, layer := range layers {
		if err := add(w, layer); err != nil {
			return err
		}
	}
	return nil
}

func add(w *tar.Writer, layer string) error {
	f, err := os.Open(layer)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: filepath.Base(layer), Size: info.Size(), Mode: 0o644}); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}

// benchLogs measures how fast a container's output becomes its log, and how fast
// it would if the container were no limit.
func benchLogs(ctx context.Context, l *lab) error {
	line := strings.Repeat("x", logLine-1)
	// What writes the lines is not to be what is measured: one that makes them
	// byte by byte gets a tenth of this through a pipe alone.
	script := fmt.Sprintf("yes %s | dd bs=%d count=1 iflag=fullblock of=/tmp/part 2>/dev/null; cat%s", line, logPart, strings.Repeat(" /tmp/part", logSize/logPart))
	id, err := l.byre(ctx, "run", "-d", "busybox", "sh", "-c", script)
	if err != nil {
		return err
	}
	id = strings.TrimSpace(id)
	defer func() { _, _ = l.byre(context.WithoutCancel(ctx), "rm", "-f", id) }()
	if _, err := l.byre(ctx, "wait", id); err != nil {
		return err
	}
	file, err := l.byre(ctx, "inspect", "-f", "{{.LogPath}}", id)
	if err != nil {
		return err
	}
	container, err := entriesTook(strings.TrimSpace(file))
	if err != nil {
		return err
	}
	alone, err := median(3, func() (time.Duration, error) { return writeLog(filepath.Join(l.dir, "alone.log"), line+"\n") })
	if err != nil {
		return err
	}
	table(fmt.Sprintf("%s of output in lines of %d bytes to a json-file", megabytes(logSize), logLine), []string{"what", "MB/s"}, [][]string{
		{"a container's, from its first entry to its last", logRate(container)},
		{"the writer of logs alone, in this process, 64 KiB at a time", logRate(alone)},
	})
	return nil
}

func logRate(d time.Duration) string { return fmt.Sprintf("%.0f", logSize/1e6/d.Seconds()) }

// entriesTook is the time between the first and the last entry of a log.
func entriesTook(file string) (time.Duration, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var first, last []byte
	lines := 0
	for s := bufio.NewScanner(f); s.Scan(); lines++ {
		if first == nil {
			first = bytes.Clone(s.Bytes())
		}
		last = append(last[:0], s.Bytes()...)
	}
	if want := logSize / logLine; lines < want {
		return 0, fmt.Errorf("the log has %d entries, %d were written", lines, want)
	}
	var from, to struct{ Time time.Time }
	if err := errors.Join(json.Unmarshal(first, &from), json.Unmarshal(last, &to)); err != nil {
		return 0, err
	}
	return to.Time.Sub(from.Time), nil
}

func writeLog(path, line string) (time.Duration, error) {
	block := []byte(strings.Repeat(line, 64<<10/len(line)))
	took, err := timed(func() error {
		log, err := logs.Open(path, logs.Options{})
		if err != nil {
			return err
		}
		for n := 0; n < logSize; n += len(block) {
			if err := log.Write(logs.Stdout, block, time.Now()); err != nil {
				return errors.Join(err, log.Close())
			}
		}
		return log.Close()
	})
	return took, errors.Join(err, os.Remove(path))
}
