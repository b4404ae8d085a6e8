// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const layerRuns = 5

// benchLayers measures the conversion of a layer beside tar -x of the same.
func benchLayers(ctx context.Context, l *lab) error {
	layer := filepath.Join(l.dir, "layer.tar")
	if err := makeLayer(ctx, layer); err != nil {
		return err
	}
	fi, err := os.Stat(layer)
	if err != nil {
		return err
	}
	times, err := layerBenchmarks(ctx, l, layer)
	if err != nil {
		return err
	}
	untar, convert := times["BenchmarkTarExtract"], times["BenchmarkConvert"]
	if untar == 0 || convert == 0 {
		return fmt.Errorf("benchmarks of internal/layer printed no times: %v", times)
	}
	table(fmt.Sprintf("A layer of %s, %s (means)", megabytes(fi.Size()), layerContents), []string{"what", "time", "of tar -x"}, [][]string{
		{"`tar -x` onto the host's file system, synced", seconds(untar), "1.00"},
		{"conversion to an ext4 image, synced", seconds(convert), ratio(convert, untar)},
	})
	return nil
}

// layerContents says what makeLayer packs: something that each build machine
// has, of many small and some large files.
const layerContents = "of /usr/include, /usr/share/doc and the programs of /usr/bin up to 8 MB"

func makeLayer(ctx context.Context, path string) error {
	script := `find /usr/include /usr/share/doc -xdev -type f -o -xdev -type l > "$1.list"
find /usr/bin -xdev -type f -size -8M >> "$1.list"
tar -C / -cf "$1" -T "$1.list" --no-recursion 2>/dev/null || true`
	if out, err := exec.CommandContext(ctx, "sh", "-c", script, "sh", path).CombinedOutput(); err != nil {
		return fmt.Errorf("pack a layer: %w: %s", err, out)
	}
	return nil
}

// layerBenchmarks runs the benchmarks of internal/layer on the layer and returns
// their times by name.
func layerBenchmarks(ctx context.Context, l *lab, layer string) (map[string]time.Duration, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", ".", "-benchtime", fmt.Sprintf("%dx", layerRuns), "./internal/layer")
	cmd.Env = append(os.Environ(), "BYRE_BENCH_LAYER="+layer, "TMPDIR="+l.dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("benchmarks of internal/layer: %w: %s", err, out)
	}
	times := map[string]time.Duration{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") || f[3] != "ns/op" {
			continue
		}
		name, _, _ := strings.Cut(f[0], "-")
		if times[name], err = time.ParseDuration(f[2] + "ns"); err != nil {
			return nil, fmt.Errorf("read %q: %w", line, err)
		}
	}
	return times, nil
}
