// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// benchVolumes measures work on a volume in the machine that has its disk, in one
// that has borrowed it, and on a volume that is a directory of the host.
func benchVolumes(ctx context.Context, l *lab) (err error) {
	tools := filepath.Join(l.dir, "volume-tools")
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return err
	}
	if err := buildLoad(ctx, tools); err != nil {
		return err
	}
	defer func() {
		clean := context.WithoutCancel(ctx)
		_, rm := l.byre(clean, "rm", "-fv", "has", "borrows")
		_, volumes := l.byre(clean, "volume", "rm", "-f", "disk", "directory")
		err = errors.Join(err, rm, volumes)
	}()
	for _, args := range [][]string{
		{"volume", "create", "-o", "type=directory", "directory"},
		{"run", "-d", "--name", "has", "-v", tools + ":/tools:ro", "-v", "disk:/disk", "-v", "directory:/directory", "busybox", "sleep", "100000"},
		{"run", "-d", "--name", "borrows", "-v", tools + ":/tools:ro", "-v", "disk:/disk", "busybox", "sleep", "100000"},
	} {
		if _, err := l.byre(ctx, args...); err != nil {
			return err
		}
	}
	var rows [][]string
	for _, w := range volumeWork {
		took, err := load(ctx, l, "has", w.name, w.rounds, []string{"disk=/disk", "directory=/directory"})
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		lent, err := load(ctx, l, "borrows", w.name, w.rounds, []string{"lent=/disk"})
		if err != nil {
			return fmt.Errorf("%s on a borrowed volume: %w", w.name, err)
		}
		for i := 0; i < len(w.steps); i += 2 {
			disk, directory, lent := took[w.steps[i]+" disk"], took[w.steps[i]+" directory"], lent[w.steps[i]+" lent"]
			rows = append(rows, []string{
				w.steps[i+1], milliseconds(disk), milliseconds(directory), of(directory, disk), milliseconds(lent), of(lent, disk),
			})
		}
	}
	table("Volumes: a disk, a directory of the host, and the disk in a machine that has borrowed it (medians)",
		[]string{"work", "disk", "directory", "of the disk", "borrowed", "of the disk"}, rows)
	return nil
}

// volumeWork is what load does on volumes.
var volumeWork = []fileJob{
	{name: "small", rounds: 3, steps: []string{"create", "create 1,000 files of 10 bytes", "delete", "delete them"}},
	{name: "stream", rounds: 3, steps: []string{"write", "write 256 MiB, not synced", "read", "read them"}},
}
