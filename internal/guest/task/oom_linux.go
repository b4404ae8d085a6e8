// SPDX-License-Identifier: Apache-2.0

package task

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// oomWatch reports containers of which the kernel killed a process for want of
// memory. The kernel signals a change of memory.events by inotify; nothing runs
// while there is none.
type oomWatch struct {
	f      *os.File
	fd     int
	report func(id string)
	log    *slog.Logger
	wg     sync.WaitGroup

	mu sync.Mutex
	// watched has the containers by inotify's watch descriptor. Guarded by mu.
	watched map[int32]*oomTarget
}

type oomTarget struct {
	id     string
	cgroup cgroup
	kills  uint64
}

func watchOOM(report func(id string), log *slog.Logger) (*oomWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch for memory events: %w", err)
	}
	if report == nil {
		report = func(string) {}
	}
	w := &oomWatch{
		f: os.NewFile(uintptr(fd), "inotify"), fd: fd, report: report, log: log,
		watched: map[int32]*oomTarget{},
	}
	w.wg.Go(w.run)
	return w, nil
}

func (w *oomWatch) add(id string, c cgroup) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wd, err := unix.InotifyAddWatch(w.fd, filepath.Join(string(c), "memory.events"), unix.IN_MODIFY)
	if err != nil {
		w.log.Warn("memory events of a container are not watched", "task", id, "err", err)
		return
	}
	w.watched[int32(wd)] = &oomTarget{id: id, cgroup: c, kills: c.lookup("memory.events")["oom_kill"]}
}

// remove forgets a container; the kernel drops the watch with the cgroup.
func (w *oomWatch) remove(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for wd, t := range w.watched {
		if t.id == id {
			delete(w.watched, wd)
		}
	}
}

func (w *oomWatch) run() {
	buf := make([]byte, 64*unix.SizeofInotifyEvent)
	for {
		n, err := w.f.Read(buf)
		if err != nil { // closed
			return
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			wd := int32(binary.NativeEndian.Uint32(b))
			size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
			b = b[min(size, len(b)):]
			if id := w.changed(wd); id != "" {
				w.report(id)
			}
		}
	}
}

// changed returns the container's id when a process of it was killed.
func (w *oomWatch) changed(wd int32) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.watched[wd]
	if t == nil {
		return ""
	}
	kills := t.cgroup.lookup("memory.events")["oom_kill"]
	if kills <= t.kills {
		return ""
	}
	t.kills = kills
	return t.id
}

func (w *oomWatch) close() error {
	err := w.f.Close()
	w.wg.Wait()
	return err
}
