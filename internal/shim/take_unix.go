// SPDX-License-Identifier: Apache-2.0

//go:build unix

package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/shimapi"
)

const (
	// answerLimit bounds how long a spare shim may take to say that it is free.
	answerLimit = time.Second
	// enterLimit bounds how long it may take to become a bundle's shim.
	enterLimit = 3 * time.Second
	// maxTake bounds a request for a spare shim in bytes.
	maxTake = 64 << 10
	// maxSpares bounds how many spare shims are asked.
	maxSpares = 16
)

// sparePrefix begins the names of spare shims' sockets.
const sparePrefix = "spare-"

// takeSpare makes a spare shim whose socket is in dir, which only a daemon of
// byre's puts there, the shim of the call's bundle and hands it the socket. It
// is false when there is none that fits: then the shim is to be started.
func (c *call) takeSpare(dir string, settings shimapi.Settings, l *socket) bool {
	if dir == "" || !standard(settings) {
		return false
	}
	paths, err := filepath.Glob(filepath.Join(dir, sparePrefix+"*"))
	if err != nil || len(paths) == 0 {
		return false
	}
	driver, scratch, err := c.cfg.Driver(slog.New(slog.DiscardHandler))
	if err != nil {
		return false
	}
	identity, err := c.identity(driver, scratch)
	if err != nil || identity == "" {
		return false
	}
	if l.f, err = l.l.File(); err != nil {
		return false
	}
	for _, path := range paths[:min(len(paths), maxSpares)] {
		pid, err := c.take(path, takeRequest{
			Identity: identity, Namespace: c.namespace, ID: c.id, Bundle: c.bundle, Address: c.address,
			Socket: l.path, Events: os.Getenv("TTRPC_ADDRESS"), Debug: c.debug, Began: c.began.UnixNano(),
		}, l.f)
		if err != nil {
			continue // another start was faster, or the spare is no good
		}
		// As for a shim that was started, but this one serves already.
		_ = easeOOMScore(pid)
		_ = l.ready()
		return true
	}
	_ = l.f.Close()
	l.f = nil
	return false
}

// take asks one spare shim. It takes three steps, so that neither side goes on
// without the other: request and answer, go-ahead, and the news that the bundle
// is served. A shim that does not get there is killed.
func (c *call) take(path string, r takeRequest, listener *os.File) (pid int, err error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		return 0, err
	}
	if _, _, err := conn.WriteMsgUnix([]byte{0}, unix.UnixRights(int(listener.Fd())), nil); err != nil {
		return 0, fmt.Errorf("hand socket over: %w", err)
	}
	if err := json.NewEncoder(conn).Encode(r); err != nil {
		return 0, fmt.Errorf("ask spare shim: %w", err)
	}
	var answer takeAnswer
	if err := json.NewDecoder(newLimited(conn)).Decode(&answer); err != nil {
		return 0, fmt.Errorf("read spare shim's answer: %w", err)
	}
	if answer.Refusal != "" || answer.PID <= 1 {
		return 0, fmt.Errorf("spare shim refuses: %s", answer.Refusal)
	}
	if err := conn.SetDeadline(time.Now().Add(enterLimit)); err != nil {
		return 0, err
	}
	if err := json.NewEncoder(conn).Encode(true); err != nil {
		return 0, fmt.Errorf("ask spare shim: %w", err)
	}
	var served [1]byte
	if n, err := conn.Read(served[:]); n != 1 {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			_ = unix.Kill(answer.PID, unix.SIGKILL)
		}
		return 0, fmt.Errorf("spare shim does not serve: %w", err)
	}
	return answer.PID, nil
}
