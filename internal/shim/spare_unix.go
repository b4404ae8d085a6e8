// SPDX-License-Identifier: Apache-2.0

//go:build unix

package shim

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/sandbox"
	"byre.dev/byre/internal/shimapi"
)

// ownerFD is the descriptor of a spare shim's connection to its daemon.
const ownerFD = 3

// homeCheck is how often a spare shim looks whether its directory is there.
const homeCheck = 2 * time.Second

// spawnSpare starts a spare shim, which belongs to whoever has the other end of
// the connection that we were given and to no process that would wait for it.
func (c *call) spawnSpare() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{"-namespace", c.namespace, "-id", c.id, "-socket", c.socket, "-idle", c.idle.String()}
	if c.always {
		args = append(args, "-always")
	}
	cmd := exec.Command(self, append(args, "rehearse")...) //nolint:noctx // it outlives us
	cmd.Dir = c.bundle
	cmd.ExtraFiles = []*os.File{os.NewFile(ownerFD, "owner")}
	cmd.Stderr = os.Stderr
	detach(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start spare shim: %w", err)
	}
	return cmd.Process.Release()
}

// spareShim is a shim without a bundle, whose machine is warm.
type spareShim struct {
	call    *call
	log     *slog.Logger
	output  *logOutput
	level   *slog.LevelVar
	signals chan os.Signal
	// owner is the daemon's; reading it ends when the daemon does.
	owner    net.Conn
	machine  *sandbox.Spare
	identity string
	l        *net.UnixListener
	// stale is closed when a request of another identity came.
	stale     chan struct{}
	staleOnce sync.Once
}

// rehearse is a spare shim's life: it makes its machine warm and waits until it
// is taken, its owner is gone, its time is up or its machine has ended.
func (c *call) rehearse(parent context.Context) error {
	debug.SetGCPercent(gcPercent)
	s := &spareShim{call: c, level: &slog.LevelVar{}, signals: make(chan os.Signal, 4), stale: make(chan struct{})}
	signal.Notify(s.signals, syscall.SIGTERM, os.Interrupt)
	keepOnBrokenPipe()
	s.output = &logOutput{w: os.Stderr}
	s.log = slog.New(slog.NewTextHandler(s.output, &slog.HandlerOptions{Level: s.level}))
	f := os.NewFile(ownerFD, "owner")
	owner, err := net.FileConn(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("take over the daemon's connection: %w", err)
	}
	s.owner = owner
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	var watch sync.WaitGroup
	watch.Go(func() {
		_, _ = io.Copy(io.Discard, owner) // ends when either side closes it
		cancel()
	})
	taken, err := s.offer(ctx)
	if taken != nil {
		_, _ = io.WriteString(owner, shimapi.SpareTaken)
	} else if errors.Is(err, errNeedless) {
		_, _ = io.WriteString(owner, shimapi.SpareNeedless)
	}
	_ = owner.Close()
	watch.Wait()
	if taken == nil {
		return err
	}
	return s.serveTaken(parent, taken)
}

// offer makes the machine and waits for what ends the wait. A taker comes
// before everything else.
func (s *spareShim) offer(ctx context.Context) (_ *taker, err error) {
	raise := lowerPriority()
	s.machine, s.identity, err = s.call.warm(ctx, s.log)
	if err != nil {
		return nil, fmt.Errorf("make spare machine: %w", err)
	}
	debug.FreeOSMemory()
	raise(s.machine.Info().PID)
	path, err := s.listen()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("offer spare machine: %w", err), s.machine.Close())
	}
	status := filepath.Join(s.call.bundle, s.call.id+shimapi.SpareSuffix)
	err = writeStatus(status, shimapi.Spare{Socket: path, PID: os.Getpid(), MachinePID: s.machine.Info().PID, Since: time.Now()})
	taken := make(chan *taker, 1)
	var accepting sync.WaitGroup
	if err == nil {
		_, _ = io.WriteString(s.owner, shimapi.SpareWarm)
		accepting.Go(func() { s.accept(taken) })
		err = s.await(ctx, taken)
	}
	_ = os.Remove(path)
	_ = s.l.Close()
	_ = os.Remove(status)
	accepting.Wait()
	select {
	case t := <-taken:
		return t, nil
	default:
		return nil, errors.Join(err, s.machine.Close())
	}
}

func (s *spareShim) listen() (path string, err error) {
	var name [6]byte
	_, _ = rand.Read(name[:]) // never fails
	path = filepath.Join(s.call.socket, sparePrefix+hex.EncodeToString(name[:]))
	if s.l, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}); err != nil {
		return "", err
	}
	s.l.SetUnlinkOnClose(false)
	return path, os.Chmod(path, 0o600)
}

func writeStatus(path string, s shimapi.Spare) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

// await returns when the wait is over and puts a taker back for its caller.
func (s *spareShim) await(ctx context.Context, taken chan *taker) error {
	idle := time.NewTimer(s.call.idle)
	defer idle.Stop()
	look := time.NewTicker(homeCheck)
	defer look.Stop()
	for {
		select {
		case t := <-taken:
			taken <- t // capacity 1, and its sender is gone
			return nil
		case <-ctx.Done():
			return nil
		case <-s.signals:
			return nil
		case <-idle.C:
			return nil
		case <-s.stale:
			return errors.New("the spare machine is of another build or setting")
		case <-s.machine.Done():
			return errors.New("the spare machine has ended")
		case <-look.C:
			if _, err := os.Stat(s.call.bundle); err != nil {
				return fmt.Errorf("look for own directory: %w", err)
			}
		}
	}
}

// logOutput is where a log goes to, until it is turned elsewhere.
type logOutput struct {
	mu sync.Mutex
	// w is guarded by mu.
	w io.Writer
}

func (o *logOutput) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(b)
}

func (o *logOutput) turn(w io.Writer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.w = w
}

// newLimited bounds what a peer may send.
func newLimited(r io.Reader) io.Reader { return io.LimitReader(r, maxTake) }

// oneFD takes the only descriptor out of a control message.
func oneFD(oob []byte) (*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "socket"))
		}
	}
	if len(files) == 1 {
		return files[0], nil
	}
	for _, f := range files {
		_ = f.Close()
	}
	return nil, fmt.Errorf("%d descriptors came, not one", len(files))
}
