// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// benchFiles measures work on bind mounts beside the same work on the guest's
// own ext4 and on QEMU's virtio-9p, in one container.
func benchFiles(ctx context.Context, l *lab) (err error) {
	dir := filepath.Join(l.dir, "files")
	t := trees{dir: dir, container: "files"}
	if err := t.make(ctx); err != nil {
		return err
	}
	// The machine with devices of the bench's own is of a daemon of its own.
	own := &lab{dir: dir, home: filepath.Join(dir, "home"), bin: l.bin, env: []string{"BYRE_QEMU=" + t.qemu()}}
	defer func() { err = errors.Join(err, own.stop()) }()
	if err := t.start(ctx, own); err != nil {
		return err
	}
	peer := t.mountPeer(ctx, own)
	if peer != nil {
		fmt.Fprintln(os.Stderr, "bench: QEMU's virtio-9p is left out:", peer)
	}
	defer func() {
		_, e := own.byre(context.WithoutCancel(ctx), "rm", "-fv", t.container)
		err = errors.Join(err, e)
	}()
	var rows [][]string
	for _, w := range fileWork {
		more, err := w.measure(ctx, own, t.container, peer == nil)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		rows = append(rows, more...)
		fmt.Fprintln(os.Stderr, "bench: files:", more)
	}
	table("Files: bind mounts beside the guest's ext4 and QEMU's virtio-9p, in one container (medians)",
		[]string{"work", "ext4", "bind mount", "of ext4", "QEMU's virtio-9p", "of QEMU's"}, rows)
	return nil
}

// fileWork is what load does, how many times, where, and what its steps are
// called. The first place is ext4 where it is measured, the last is QEMU's.
var fileWork = []fileJob{
	{"stat", 5, cached, []string{"stat", "`stat` of 10,000 warm files"}},
	{"git", 7, cached, []string{"git", "`git status`, 5,000 files, not the first"}},
	{"reread", 5, cached, []string{"reread", "read of 64 MiB, warm"}},
	{"small", 3, cached, []string{"create", "create 1,000 files of 10 bytes", "delete", "delete them"}},
	{"stream", 3, uncached, []string{"write", "write 256 MiB, `cache=none`", "read", "read them, `cache=none`"}},
}

// cached and uncached are the places of a work, by what load calls them.
var (
	cached   = []string{"own=/own", "bind=/bind", "peer=/peer"}
	uncached = []string{"bind=/none", "peer=/peernone"}
)

type fileJob struct {
	name   string
	rounds int
	places []string
	// steps are pairs of what load calls a step and what the table does.
	steps []string
}

// measure runs a job in the container and returns its rows of the table.
func (w fileJob) measure(ctx context.Context, l *lab, container string, peer bool) ([][]string, error) {
	places := w.places
	if !peer {
		places = places[:len(places)-1]
	}
	took, err := load(ctx, l, container, w.name, w.rounds, places)
	if err != nil {
		return nil, err
	}
	var rows [][]string
	for i := 0; i < len(w.steps); i += 2 {
		own, bind, peer := took[w.steps[i]+" own"], took[w.steps[i]+" bind"], took[w.steps[i]+" peer"]
		rows = append(rows, []string{w.steps[i+1], milliseconds(own), milliseconds(bind), of(bind, own), milliseconds(peer), of(bind, peer)})
	}
	return rows, nil
}

// load runs a work of bench/load in a container and returns the nanoseconds of
// each "STEP NAME".
func load(ctx context.Context, l *lab, container, work string, rounds int, places []string) (map[string]float64, error) {
	args := append([]string{"exec", container, "/tools/load", work, fmt.Sprint(rounds)}, places...)
	out, err := l.byre(ctx, args...)
	if err != nil {
		return nil, err
	}
	took := map[string]float64{}
	for line := range strings.Lines(out) {
		var step, place string
		var ns float64
		if _, err := fmt.Sscan(line, &step, &place, &ns); err != nil {
			return nil, fmt.Errorf("read %q: %w", line, err)
		}
		took[step+" "+place] = ns
	}
	return took, nil
}

// milliseconds and of are empty for what was not measured.
func milliseconds(ns float64) string {
	if ns == 0 {
		return ""
	}
	return millis(time.Duration(ns))
}

func of(a, b float64) string {
	if b == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", a/b)
}

// start runs the container with its mounts.
func (t trees) start(ctx context.Context, l *lab) error {
	out, err := exec.CommandContext(ctx, "build/debian-image", "git").Output()
	if err != nil {
		return fmt.Errorf("make an image with git: %w", err)
	}
	if _, err := l.byre(ctx, "load", "-q", "-i", strings.TrimSpace(string(out))); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"volume", "create", "-o", "type=ext4", "own"},
		{"run", "-d", "--name", t.container, "--privileged", "--network", "none", "-m", "1g", "-v", "own:/own",
			"-v", t.path("bind") + ":/bind", "-v", t.path("none") + ":/none:consistent", "-v", t.path("tools") + ":/tools:ro",
			"git", "sleep", "infinity"},
		{"exec", t.container, "tar", "-xf", "/tools/tree.tar", "-C", "/own"},
	} {
		if _, err := l.byre(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// mountPeer mounts QEMU's shares in the container.
func (t trees) mountPeer(ctx context.Context, l *lab) error {
	for _, m := range [][]string{{"peer=/peer", "loose"}, {"peernone=/peernone", "none"}} {
		if _, err := l.byre(ctx, "exec", t.container, "/tools/load", "mount", m[0], peerOptions+m[1]); err != nil {
			return err
		}
	}
	return nil
}

// peerOptions are those of QEMU's own documentation, with the largest messages
// that its transport takes.
const peerOptions = "trans=virtio,version=9p2000.L,msize=512000,cache="

func (l *lab) stop() error { return stopDaemon(filepath.Join(l.home, "daemon.pid")) }

// path returns a directory of the host's side.
func (t trees) path(name string) string { return filepath.Join(t.dir, name) }

// qemu returns the program that starts QEMU with virtio-9p.
func (t trees) qemu() string { return t.path("qemu") }

// trees are directories of the host: "bind" and "none" for bind mounts, "peer"
// and "peernone" for QEMU, "tools" with the load.
type trees struct{ dir, container string }

// make fills the trees; "bind" and "peer" hold the same, and so will ext4 in
// the guest.
func (t trees) make(ctx context.Context) error {
	for _, d := range []string{"bind", "none", "peer", "peernone", "tools"} {
		if err := os.MkdirAll(t.path(d), 0o755); err != nil {
			return err
		}
	}
	for _, d := range []string{"bind", "peer"} {
		if err := errors.Join(makeMany(filepath.Join(t.path(d), "many")), makeBig(t.path(d)), makeRepository(ctx, t.path(d))); err != nil {
			return err
		}
	}
	pack := exec.CommandContext(ctx, "tar", "-cf", filepath.Join(t.path("tools"), "tree.tar"), "-C", t.path("bind"), ".")
	if out, err := pack.CombinedOutput(); err != nil {
		return fmt.Errorf("pack the tree: %w: %s", err, out)
	}
	return errors.Join(buildLoad(ctx, t.path("tools")), t.makeQEMU())
}

// buildLoad makes the program of a guest's work in a directory.
func buildLoad(ctx context.Context, dir string) error {
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", filepath.Join(dir, "load"), "./bench/load")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the load: %w: %s", err, out)
	}
	return nil
}
