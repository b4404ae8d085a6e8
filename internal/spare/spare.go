// SPDX-License-Identifier: Apache-2.0

// Package spare keeps shims whose machines are warm, so that the next container
// finds a machine in which one has run before. Under emulation a start is
// mostly translation, which the second container of a machine is spared.
//
// A [Keeper] has at most so many of them, makes one only after a container was
// started and when none is being started, and gives it back after a while
// without use. The shims are processes of their own that end when the keeper's
// process does, however it ends, and turn into shims of bundles by themselves
// (package shim): the keeper only hears of it.
package spare

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"byre.dev/byre/internal/shimapi"
)

// Env is the environment variable by which a user sets how many spare machines
// are kept.
const Env = "BYRE_SPARES"

// Dir is the name of a Keeper's directory in a state directory.
const Dir = "spares"

// maxCount bounds the number of spare machines.
const maxCount = 8

// Count is how many spare machines are kept: a number, or Auto.
type Count int

// Auto is one spare machine where machines are emulated, and none elsewhere.
const Auto Count = -1

// ParseCount reads the value of Env; empty means Auto.
func ParseCount(s string) (Count, error) {
	if s == "" || s == "auto" {
		return Auto, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > maxCount {
		return 0, fmt.Errorf("%s=%s: want auto, or a number of spare machines from 0 to %d", Env, s, maxCount)
	}
	return Count(n), nil
}

// String is the value that ParseCount reads.
func (c Count) String() string {
	if c == Auto {
		return "auto"
	}
	return strconv.Itoa(int(c))
}

// Times of a Keeper that has none of its own.
const (
	// DefaultIdle is how long a spare machine waits for a container.
	DefaultIdle = 10 * time.Minute
	// DefaultQuiet is how long no container may have been started before a
	// machine is made: what was started settles first, and many starts in a row
	// are not slowed.
	DefaultQuiet = 3 * time.Second
)

// endWait bounds the end of a spare shim.
const endWait = 10 * time.Second

// Config describes a Keeper. Program, Dir, Sockets and Spec are needed.
type Config struct {
	// Program is the shim's.
	Program string
	// Namespace is containerd's, for the shim's arguments.
	Namespace string
	// Dir is the keeper's alone: the rehearsal's bundle and what spare shims say
	// of themselves. What is in it at the start is removed.
	Dir string
	// Sockets is the directory of shims' sockets.
	Sockets string
	// Spec is the container that is rehearsed.
	Spec *specs.Spec
	// Count is how many machines are kept; not 0.
	Count Count
	// Idle and Quiet are DefaultIdle and DefaultQuiet when 0.
	Idle, Quiet time.Duration
	// Log receives what happens to spare machines; nil discards it.
	Log *slog.Logger
}

// Keeper keeps spare shims. Its methods are safe for concurrent use; those of a
// nil Keeper, which keeps none, do nothing.
type Keeper struct {
	cfg  Config
	log  *slog.Logger
	kick chan struct{}
	done chan struct{}
	work sync.WaitGroup

	mu sync.Mutex
	// The rest is guarded by mu. starting counts the containers that are being
	// started, last is when one was. budget is how many shims may be made
	// before the next start, so that those that end early are not made for ever.
	starting int
	last     time.Time
	budget   int
	closed   bool
	// needless is true once a shim has said that it gains nothing.
	needless bool
	// owned are the connections to shims that are no bundle's.
	owned map[net.Conn]struct{}
	// number counts the shims that were started, for their names.
	number int
}

// New returns a Keeper that keeps nothing before the first start of a container.
func New(cfg Config) (*Keeper, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Idle == 0 {
		cfg.Idle = DefaultIdle
	}
	if cfg.Quiet == 0 {
		cfg.Quiet = DefaultQuiet
	}
	if err := prepare(cfg); err != nil {
		return nil, fmt.Errorf("prepare spare machines: %w", err)
	}
	k := &Keeper{
		cfg: cfg, log: cfg.Log, kick: make(chan struct{}, 1), done: make(chan struct{}), owned: map[net.Conn]struct{}{},
	}
	k.work.Go(k.run)
	return k, nil
}

// prepare writes the bundle of the rehearsal and removes what a keeper that was
// killed left behind; its shims have ended or are about to.
func prepare(cfg Config) error {
	if err := os.RemoveAll(cfg.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return err
	}
	b, err := json.Marshal(cfg.Spec)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(cfg.Dir, "config.json"), b, 0o600)
}

// Starting is told that a container is about to start; the function returned,
// that it runs or has failed to.
func (k *Keeper) Starting() (done func()) {
	if k == nil {
		return func() {}
	}
	k.mu.Lock()
	k.starting++
	k.mu.Unlock()
	return sync.OnceFunc(func() {
		k.mu.Lock()
		k.starting--
		k.startedLocked()
		k.mu.Unlock()
	})
}

// startedLocked takes note of the start of a container.
func (k *Keeper) startedLocked() {
	k.last, k.budget = time.Now(), k.count()
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

func (k *Keeper) count() int { return max(int(k.cfg.Count), 1) }

// run makes spare shims when it is quiet.
func (k *Keeper) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-k.done:
			return
		case <-k.kick:
		case <-timer.C:
		}
		wait, launch := k.due()
		if launch {
			k.launch()
			wait = time.Millisecond
		}
		if wait > 0 {
			timer.Reset(wait)
		}
	}
}

// due tells whether a shim is to be started now, or after what wait to ask
// again; 0 means when a container has been started.
func (k *Keeper) due() (wait time.Duration, launch bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || k.needless || k.budget == 0 || k.starting > 0 || len(k.owned) >= k.count() {
		return 0, false
	}
	if left := k.cfg.Quiet - time.Since(k.last); left > 0 {
		return left, false
	}
	return 0, true
}

// launch starts one spare shim.
func (k *Keeper) launch() {
	k.mu.Lock()
	k.number++
	k.budget--
	id := fmt.Sprintf("spare-%d-%d", os.Getpid(), k.number)
	k.mu.Unlock()
	args := []string{
		"-namespace", k.cfg.Namespace, "-id", id, "-socket", k.cfg.Sockets, "-idle", k.cfg.Idle.String(),
	}
	if k.cfg.Count != Auto {
		args = append(args, "-always")
	}
	conn, err := spawn(k.cfg.Program, append(args, "spare"), k.cfg.Dir)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		k.log.Warn("no spare machine is made", "err", err)
		return
	}
	if k.closed { // meanwhile, and has not seen this one
		if err := giveBack(conn); err != nil {
			k.log.Warn("spare machine is not told to end", "spare", id, "err", err)
		}
	}
	k.owned[conn] = struct{}{}
	k.work.Go(func() { k.hear(conn, id) })
}

// hear listens to a spare shim until it is a bundle's or has ended.
func (k *Keeper) hear(conn net.Conn, id string) {
	lines := bufio.NewReader(conn)
	begin, taken := time.Now(), false
	for {
		line, err := lines.ReadString('\n')
		switch line {
		case shimapi.SpareWarm:
			k.log.Info("spare machine is warm", "spare", id, "took", time.Since(begin).Round(time.Millisecond))
		case shimapi.SpareTaken:
			taken = true
			k.log.Info("spare machine is taken", "spare", id)
		case shimapi.SpareNeedless:
			k.forget(nil, true)
			k.log.Info("no spare machines: machines are not emulated here")
		}
		if err != nil {
			break
		}
	}
	_ = conn.Close()
	k.forget(conn, false)
	if taken {
		k.mu.Lock()
		k.startedLocked()
		k.mu.Unlock()
	} else {
		k.log.Info("spare machine has ended", "spare", id)
	}
}

func (k *Keeper) forget(conn net.Conn, needless bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.owned, conn)
	k.needless = k.needless || needless
}

// Close gives the spare machines back and returns when their shims have ended.
func (k *Keeper) Close() error {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return nil
	}
	k.closed = true
	owned := make([]net.Conn, 0, len(k.owned))
	for conn := range k.owned {
		owned = append(owned, conn)
	}
	k.mu.Unlock()
	close(k.done)
	var err error
	for _, conn := range owned {
		err = errors.Join(err, giveBack(conn))
	}
	k.work.Wait()
	if rerr := os.RemoveAll(k.cfg.Dir); rerr != nil {
		err = errors.Join(err, rerr)
	}
	return ignoreClosed(err)
}

// ignoreClosed leaves out what only says that a shim was faster.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, fs.ErrClosed) {
		return nil
	}
	return err
}

// giveBack tells a shim to end, which closes its end of the connection when it
// has; one that does not is no longer heard after a while.
func giveBack(conn net.Conn) error {
	return errors.Join(endWrite(conn), conn.SetReadDeadline(time.Now().Add(endWait)))
}

// endWrite ends the sending direction of a connection.
func endWrite(conn net.Conn) error {
	c, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return conn.Close()
	}
	if err := c.CloseWrite(); err != nil && !strings.Contains(err.Error(), "not connected") {
		return err
	}
	return nil
}
