// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"

	"github.com/Microsoft/go-winio"
)

// openLog serves the named pipe by which containerd reads a shim's log. While
// nobody is connected, what is logged is dropped.
func openLog(bundle string, verbose bool) (*slog.Logger, error) {
	// The bundle is <state>/<namespace>/<id>.
	id, namespace := filepath.Base(bundle), filepath.Base(filepath.Dir(bundle))
	path := fmt.Sprintf(`\\.\pipe\containerd-shim-%s-%s-log`, namespace, id)
	l, err := winio.ListenPipe(path, nil)
	if err != nil {
		return nil, fmt.Errorf("serve log %s: %w", path, err)
	}
	w := &pipeLog{}
	go w.accept(l) // ends with the process
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})), nil
}

// pipeLog writes to whoever connected last.
type pipeLog struct {
	mu sync.Mutex
	// conn is guarded by mu.
	conn net.Conn
}

func (w *pipeLog) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		w.mu.Lock()
		if w.conn != nil {
			_ = w.conn.Close()
		}
		w.conn = c
		w.mu.Unlock()
	}
}

func (w *pipeLog) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn == nil {
		return len(b), nil
	}
	if _, err := w.conn.Write(b); err != nil {
		_ = w.conn.Close()
		w.conn = nil
	}
	return len(b), nil
}

// keepOnBrokenPipe has nothing to do: there is no such signal.
func keepOnBrokenPipe() {}
