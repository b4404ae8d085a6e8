// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guestapi"
)

// containersCgroup is the cgroup above all containers.
const containersCgroup = "/sys/fs/cgroup/byre"

// memoryWatch tells the host when the machine's memory runs low, so that it can
// add some. It costs nothing while there is enough: all containers together
// have a soft limit (memory.high) a little under what the machine has; the
// kernel signals by inotify when they reach it, and slows them down meanwhile
// instead of killing. When the host adds nothing the soft limit is lifted, and
// the kernel's own judgment applies.
type memoryWatch struct {
	f    *os.File
	send func(*guestapi.Event)
	log  *slog.Logger
	stop chan struct{}
	once sync.Once
	wg   sync.WaitGroup

	mu sync.Mutex
	// armed is the machine's memory when the soft limit was set. Guarded by mu.
	armed uint64
}

const (
	// memoryReserveMin is the least that is kept below the machine's memory
	// for the kernel and this process.
	memoryReserveMin = 32 << 20
	// answerWait is how long containers stay slowed down for the host's answer.
	answerWait = time.Second
	// rearmWait is how long the soft limit stays lifted.
	rearmWait = 5 * time.Second
	// memorySettle bounds how often a signal of the kernel is looked into.
	memorySettle = 50 * time.Millisecond
)

func watchMemory(send func(*guestapi.Event), log *slog.Logger) (*memoryWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch memory: %w", err)
	}
	w := &memoryWatch{f: os.NewFile(uintptr(fd), "inotify"), send: send, log: log, stop: make(chan struct{})}
	if _, err := unix.InotifyAddWatch(fd, containersCgroup+"/memory.events", unix.IN_MODIFY); err != nil {
		w.f.Close()
		return nil, fmt.Errorf("watch memory: %w", err)
	}
	if err := w.arm(); err != nil {
		w.f.Close()
		return nil, err
	}
	w.wg.Go(w.run)
	return w, nil
}

// reserve is what is kept free of the containers' memory.
func reserve(total uint64) uint64 { return max(memoryReserveMin, total/16) }

// follow sets the soft limit anew when the machine has more or less memory than
// it was set for: the host adds and takes memory block by block, and behind the
// answer that was waited for.
func (w *memoryWatch) follow(m *guestapi.MemoryResponse) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m.Total == w.armed {
		return nil
	}
	return w.armLocked(m)
}

func (w *memoryWatch) arm() error {
	m, err := readMemory()
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.armLocked(m)
}

// armLocked sets the soft limit by what the containers use and what nobody
// does; page cache of theirs is in the first alone.
func (w *memoryWatch) armLocked(m *guestapi.MemoryResponse) error {
	b, err := os.ReadFile(containersCgroup + "/memory.current")
	if err != nil {
		return fmt.Errorf("read containers' memory: %w", err)
	}
	used, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return fmt.Errorf("read containers' memory: %w", err)
	}
	high := used + m.Free - min(m.Free, reserve(m.Total))
	if err := setHigh(strconv.FormatUint(max(high, memoryReserveMin), 10)); err != nil {
		return err
	}
	w.armed = m.Total
	return nil
}

func setHigh(v string) error {
	if err := os.WriteFile(containersCgroup+"/memory.high", []byte(v), 0); err != nil {
		return fmt.Errorf("set containers' soft limit: %w", err)
	}
	return nil
}

func (w *memoryWatch) run() {
	buf := make([]byte, 16*unix.SizeofInotifyEvent)
	for {
		if _, err := w.f.Read(buf); err != nil { // closed
			return
		}
		if err := w.reached(); err != nil {
			w.log.Warn("memory is not watched for a while", "err", err)
		}
		if !w.sleep(memorySettle) {
			return
		}
	}
}

// reached looks into a signal: it asks the host for more when memory is low.
func (w *memoryWatch) reached() error {
	m, err := readMemory()
	if err != nil {
		return err
	}
	if m.Available > 2*reserve(m.Total) {
		// Page cache that the kernel trims, or memory that came late.
		return w.follow(m)
	}
	w.send(&guestapi.Event{Event: &guestapi.Event_MemoryLow{
		MemoryLow: &guestapi.MemoryLow{Total: m.Total, Available: m.Available},
	}})
	if w.grown(m.Total) {
		return w.arm()
	}
	if err := setHigh("max"); err != nil {
		return err
	}
	if !w.sleep(rearmWait) {
		return nil
	}
	return w.arm()
}

// grown waits for the host to add memory.
func (w *memoryWatch) grown(from uint64) bool {
	for end := time.Now().Add(answerWait); time.Now().Before(end); {
		if !w.sleep(10 * time.Millisecond) {
			return false
		}
		if m, err := readMemory(); err == nil && m.Total > from {
			return true
		}
	}
	return false
}

// sleep is false when the watch is being closed.
func (w *memoryWatch) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-w.stop:
		return false
	}
}

func (w *memoryWatch) close() error {
	var err error
	w.once.Do(func() {
		close(w.stop)
		err = w.f.Close()
	})
	w.wg.Wait()
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
