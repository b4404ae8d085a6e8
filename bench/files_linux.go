// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// benchFiles measures ordinary work on a bind mount beside the same work on the
// container's own ext4, in one container.
func benchFiles(ctx context.Context, l *lab) error {
	share := filepath.Join(l.dir, "share")
	if err := os.Mkdir(share, 0o755); err != nil {
		return err
	}
	if err := makeMany(filepath.Join(share, "many")); err != nil {
		return err
	}
	out, err := l.byre(ctx, "run", "--rm", "-v", share+":/share", "busybox", "sh", "-c", filesScript)
	if err != nil {
		return err
	}
	ms := map[string]map[string]int{}
	for line := range strings.Lines(out) {
		var where, what string
		var n int
		if _, err := fmt.Sscan(line, &where, &what, &n); err != nil {
			return fmt.Errorf("read %q: %w", line, err)
		}
		if ms[what] == nil {
			ms[what] = map[string]int{}
		}
		ms[what][where] = n
	}
	var rows [][]string
	for _, what := range []string{"write", "read", "reread", "create", "stat", "unlink", "first", "warm"} {
		own, bind := ms[what]["own"], ms[what]["bind"]
		rows = append(rows, []string{fileWork[what], fmt.Sprintf("%d ms", own), fmt.Sprintf("%d ms", bind), fmt.Sprintf("%.2f", float64(bind)/float64(max(own, 1)))})
	}
	table("Files: a bind mount beside the container's own ext4", []string{"work", "own ext4", "bind mount", "ratio"}, rows)
	return nil
}

var fileWork = map[string]string{
	"write":  "write 64 MiB and fsync",
	"read":   "read them back",
	"reread": "read them again",
	"create": "create 500 files of 10 bytes",
	"stat":   "list them with their attributes",
	"unlink": "remove them",
	"first":  "list 10,000 files with their attributes",
	"warm":   "list them again",
}

// manyFiles is how many files are listed again; the script makes as many on the
// container's own file system.
const manyFiles = 10_000

func makeMany(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for i := range manyFiles {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o644); err != nil {
			return err
		}
	}
	return nil
}

const filesScript = `
now() { awk '{print int($1*1000)}' /proc/uptime; }
work() {
	where=$1 dir=$2
	mkdir -p $dir/d
	a=$(now); dd if=/dev/zero of=$dir/big bs=1M count=64 conv=fsync 2>/dev/null; b=$(now); echo $where write $((b-a))
	a=$(now); cat $dir/big > /dev/null; b=$(now); echo $where read $((b-a))
	a=$(now); cat $dir/big > /dev/null; b=$(now); echo $where reread $((b-a))
	a=$(now); i=0; while [ $i -lt 500 ]; do echo 123456789 > $dir/d/$i; i=$((i+1)); done; b=$(now); echo $where create $((b-a))
	a=$(now); ls -l $dir/d > /dev/null; b=$(now); echo $where stat $((b-a))
	a=$(now); rm -r $dir/d $dir/big; b=$(now); echo $where unlink $((b-a))
	a=$(now); ls -l $dir/many > /dev/null; b=$(now); echo $where first $((b-a))
	a=$(now); ls -l $dir/many > /dev/null; b=$(now); echo $where warm $((b-a))
}
mkdir /tmp/many
i=0; while [ $i -lt 10000 ]; do : > /tmp/many/$i; i=$((i+1)); done
work own /tmp
work bind /share
`
