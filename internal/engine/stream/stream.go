// SPDX-License-Identifier: Apache-2.0

// Package stream carries the standard streams of one process between the FIFOs
// that its shim opens, the container's log and the clients that are attached.
//
// A [Hub] belongs to one run of one process. Clients may attach before the
// process starts and miss nothing. Each client has a bounded queue; one that
// does not read holds the process up once its queue is full, as a terminal
// would, and never holds up the log of what was read before. The FIFOs are files in the
// container's directory: a daemon that is started again opens them again and
// goes on where the one before stopped.
//
// Lock order: Hub.mu, then Client.mu; neither is held across I/O.
package stream

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Kind tells the output streams apart; the numbers are those of Docker's
// multiplexed stream.
type Kind byte

const (
	// Stdout is standard output, and everything a terminal shows.
	Stdout Kind = 1
	// Stderr is standard error.
	Stderr Kind = 2
	// System carries byre's own messages to a client.
	System Kind = 3
)

// Log takes a process's output before the clients do. Implemented by logs.File.
type Log interface {
	Write(stream string, p []byte, at time.Time) error
	Flush(stream string, at time.Time) error
	Pending(stream string) bool
}

// Config says which streams a process has and where they go.
type Config struct {
	// Dir holds the FIFOs; Name starts their names.
	Dir, Name string
	// Terminal means that output is one stream.
	Terminal bool
	// Stdin opens standard input.
	Stdin bool
	// Sink takes the output; nil discards it.
	Sink Log
	// Logger receives what goes wrong with the log; nil discards it.
	Logger *slog.Logger
}

// Hub carries the streams of one process. Its methods are safe for concurrent
// use.
type Hub struct {
	cfg Config

	stdin   *os.File
	outputs []*output
	pumps   sync.WaitGroup

	// mu guards what follows.
	mu      sync.Mutex
	clients map[*Client]struct{}
	running bool
	ended   bool
}

// output is one output stream's FIFO.
type output struct {
	kind Kind
	name string
	f    *os.File
	// holder keeps a write end open until the shim has opened its own, so
	// that the reader sees no end too early.
	holder *os.File

	// mu guards patience and serialises the setting of deadlines.
	mu sync.Mutex
	// patience bounds the wait for more output once it is not zero.
	patience time.Duration
}

// Create makes the FIFOs of a process that is yet to be created and opens the
// host's ends. The caller owns the hub and must Close it.
func Create(cfg Config) (*Hub, error) {
	h := newHub(cfg)
	for _, p := range h.paths() {
		_ = os.Remove(p)
		if err := makeFIFO(p); err != nil {
			return nil, errors.Join(fmt.Errorf("make streams: %w", err), h.Close())
		}
	}
	return h, h.open(true)
}

// Reopen opens the FIFOs of a process that was created before, by another hub.
func Reopen(cfg Config) (*Hub, error) {
	h := newHub(cfg)
	return h, h.open(false)
}

func newHub(cfg Config) *Hub {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Hub{cfg: cfg, clients: map[*Client]struct{}{}}
	h.outputs = []*output{{kind: Stdout, name: "stdout"}}
	if !cfg.Terminal {
		h.outputs = append(h.outputs, &output{kind: Stderr, name: "stderr"})
	}
	return h
}

func (h *Hub) path(stream string) string {
	return filepath.Join(h.cfg.Dir, h.cfg.Name+"."+stream)
}

func (h *Hub) paths() []string {
	_, out, errs := h.Paths()
	all := []string{out}
	if errs != "" {
		all = append(all, errs)
	}
	if h.cfg.Stdin {
		all = append(all, h.path("stdin"))
	}
	return all
}

// Paths returns the FIFOs as the shim is told them; "" means no such stream.
func (h *Hub) Paths() (stdin, stdout, stderr string) {
	if h.cfg.Stdin {
		stdin = h.path("stdin")
	}
	if !h.cfg.Terminal {
		stderr = h.path("stderr")
	}
	return stdin, h.path("stdout"), stderr
}

func (h *Hub) open(hold bool) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open streams: %w", err), h.Close())
		}
	}()
	if h.cfg.Stdin {
		if h.stdin, err = openBoth(h.path("stdin")); err != nil {
			return err
		}
	}
	for _, o := range h.outputs {
		if o.f, err = openRead(h.path(o.name)); err != nil {
			return err
		}
		if err = widen(o.f); err != nil {
			return err
		}
		if !hold {
			continue
		}
		if o.holder, err = openWrite(h.path(o.name)); err != nil {
			return err
		}
	}
	return nil
}

// Run starts to carry output. Call it before the process is created; the hub's
// goroutines end with the streams, and Close waits for them.
func (h *Hub) Run() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running || h.ended {
		return
	}
	h.running = true
	for _, o := range h.outputs {
		h.pumps.Go(func() { h.pump(o) })
	}
}

// Opened says that the shim has opened the FIFOs: from now on the end of its
// streams is the end of the hub's.
func (h *Hub) Opened() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.outputs {
		if o.holder != nil {
			_ = o.holder.Close()
			o.holder = nil
		}
	}
}

// Finish waits until the output was carried to its end, after the process has
// exited. Output that is no longer coming ends after patience; output that
// clients are slow to take is waited for.
func (h *Hub) Finish(patience time.Duration) {
	h.Opened()
	for _, o := range h.outputs {
		o.limit(patience)
	}
	h.pumps.Wait()
}

// Close ends the hub: clients get what is in their queues and then the end. It
// is idempotent and returns when the hub's goroutines are gone.
func (h *Hub) Close() error {
	h.Opened()
	h.mu.Lock()
	h.ended = true
	clients := h.clients
	h.clients = map[*Client]struct{}{}
	h.mu.Unlock()
	for c := range clients {
		c.end()
	}
	if h.stdin != nil {
		_ = h.stdin.Close()
	}
	for _, o := range h.outputs {
		if o.f != nil {
			_ = o.f.Close()
		}
	}
	h.pumps.Wait()
	return nil
}

// Remove deletes the FIFOs.
func (h *Hub) Remove() {
	for _, p := range h.paths() {
		_ = os.Remove(p)
	}
}
