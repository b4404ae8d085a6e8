// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"byre.dev/byre/internal/hostfs"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9client"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/p9test"
)

// benchServer measures the file server alone beside diod: one connection over
// a Unix socket, the same client, the same directory, in turns.
func benchServer(ctx context.Context, l *lab) error {
	dir := filepath.Join(l.dir, "served")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), make([]byte, 1<<20), 0o644); err != nil {
		return err
	}
	ours, err := newServed(ctx, dir, serveHost)
	if err != nil {
		return err
	}
	defer ours.close()
	diod, err := newServed(ctx, dir, serveDiod)
	if err != nil {
		return err
	}
	defer diod.close()
	for _, s := range []*served{ours, diod} {
		if err := p9test.OpenForReading(s.Batch, "file"); err != nil {
			return err
		}
	}
	var rows [][]string
	for _, w := range serverWork {
		best := [2]float64{}
		for range serverRuns {
			for i, s := range []*served{ours, diod} {
				rate, err := s.rate(w.run)
				if err != nil {
					return fmt.Errorf("%s: %w", w.what, err)
				}
				best[i] = max(best[i], rate)
			}
		}
		rows = append(rows, []string{w.what, w.show(best[0]), w.show(best[1]), fmt.Sprintf("%.1f", best[0]/best[1])})
	}
	table(fmt.Sprintf("File server alone, one connection over a Unix socket (best of %d)", serverRuns),
		[]string{"work", "byre", "diod", "ratio"}, rows)
	return nil
}

const (
	serverRuns = 5
	serverTime = 500 * time.Millisecond
)

// serverWork is what the servers do; run returns how much it did.
var serverWork = []struct {
	what string
	run  func(*p9client.Batch) (int, error)
	show func(float64) string
}{
	{"walk, getattr, clunk, one at a time", requests(1), perSecond},
	{"walk, getattr, clunk, 64 in flight", requests(64), perSecond},
	{"walk, create, write, remove, one at a time", smallFiles, perSecond},
	{"read 1 MiB from the page cache, one at a time", reads(1), gigabytesPerSecond},
	{"read 1 MiB from the page cache, 8 in flight", reads(8), gigabytesPerSecond},
}

func requests(depth int) func(*p9client.Batch) (int, error) {
	return func(b *p9client.Batch) (int, error) { return p9test.WalkGetattrClunk(b, "file", 1<<10, depth) }
}

func smallFiles(b *p9client.Batch) (int, error) { return p9test.SmallFiles(b, 1<<10, 10) }

func reads(depth int) func(*p9client.Batch) (int, error) {
	return func(b *p9client.Batch) (int, error) { return depth << 20, p9test.Read1M(b, depth) }
}

func perSecond(n float64) string          { return fmt.Sprintf("%.0f/s", n) }
func gigabytesPerSecond(n float64) string { return fmt.Sprintf("%.2f GB/s", n/1e9) }

// served is a session with a server.
type served struct {
	*p9client.Batch
	end func() error
}

func (s *served) close() {
	if err := s.end(); err != nil {
		fmt.Fprintln(os.Stderr, "bench: end server:", err)
	}
}

// rate returns what run does in a second.
func (s *served) rate(run func(*p9client.Batch) (int, error)) (float64, error) {
	done, start := 0, time.Now()
	for time.Since(start) < serverTime {
		n, err := run(s.Batch)
		if err != nil {
			return 0, err
		}
		done += n
	}
	return float64(done) / time.Since(start).Seconds(), nil
}

// newServed starts a server of dir on one end of a Unix socket.
func newServed(ctx context.Context, dir string, start func(context.Context, string, *os.File) (func() error, error)) (_ *served, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	here, there := os.NewFile(uintptr(fds[0]), "client"), os.NewFile(uintptr(fds[1]), "server")
	defer here.Close()
	defer there.Close()
	end, err := start(ctx, dir, there)
	if err != nil {
		return nil, err
	}
	conn, err := net.FileConn(here)
	if err != nil {
		return nil, errors.Join(err, end())
	}
	s := &served{end: func() error { conn.Close(); return end() }}
	if s.Batch, err = p9client.NewBatch(conn, dir, uint32(os.Getuid())); err != nil {
		return nil, errors.Join(err, s.end())
	}
	return s, nil
}

func serveHost(ctx context.Context, dir string, conn *os.File) (func() error, error) {
	fs, err := hostfs.Open(hostfs.Config{Path: dir})
	if err != nil {
		return nil, err
	}
	c, err := net.FileConn(conn)
	if err != nil {
		return nil, errors.Join(err, fs.Close())
	}
	root, done := fs.Root(), make(chan error, 1)
	// The function returned waits for it.
	go func() { done <- (&p9srv.Server{Root: root, Msize: p9.MaxMsize}).Serve(ctx, c) }()
	return func() error {
		err := <-done
		root.Release()
		return errors.Join(err, fs.Close())
	}, nil
}

func serveDiod(ctx context.Context, dir string, conn *os.File) (func() error, error) {
	cmd := exec.CommandContext(ctx, "diod", "-f", "-n", "-N", "-r", "3", "-w", "3", "-e", dir, "-L", "stderr")
	cmd.ExtraFiles = []*os.File{conn}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start diod: %w", err)
	}
	return func() error { cmd.Process.Kill(); cmd.Wait(); return nil }, nil
}
