// SPDX-License-Identifier: Apache-2.0

//go:build unix

package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"
)

// taker is what a spare shim becomes: the shim of a bundle.
type taker struct {
	call *call
	l    net.Listener
}

// accept answers requests one after the other, until one is granted or the
// listener is closed.
func (s *spareShim) accept(taken chan<- *taker) {
	for {
		conn, err := s.l.AcceptUnix()
		if err != nil {
			return
		}
		t, err := s.grant(conn)
		_ = conn.Close()
		if t != nil {
			taken <- t
			return
		}
		if err != nil {
			s.log.Debug("request for the spare machine not granted", "err", err)
		}
	}
}

// grant reads one request and, when it fits, becomes the bundle's shim. The
// other side goes on without us unless it has heard that the bundle is served,
// so that anything that fails up to there ends in a nil taker.
func (s *spareShim) grant(conn *net.UnixConn) (_ *taker, err error) {
	if err := conn.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		return nil, err
	}
	first, oob := make([]byte, 1), make([]byte, 128)
	n, oobn, _, _, err := conn.ReadMsgUnix(first, oob)
	if err != nil || n == 0 {
		return nil, err // somebody looked whether we are there
	}
	f, err := oneFD(oob[:oobn])
	if err != nil {
		return nil, err
	}
	l, err := net.FileListener(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("take over socket: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	decoder := json.NewDecoder(newLimited(conn))
	var r takeRequest
	if err := decoder.Decode(&r); err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	if r.Identity != s.identity {
		s.staleOnce.Do(func() { close(s.stale) })
		return nil, errors.Join(errors.New("request of another build"), json.NewEncoder(conn).Encode(takeAnswer{Refusal: "stale"}))
	}
	if err := json.NewEncoder(conn).Encode(takeAnswer{PID: os.Getpid()}); err != nil {
		return nil, err
	}
	goAhead := false
	if err := decoder.Decode(&goAhead); err != nil || !goAhead {
		return nil, fmt.Errorf("await go-ahead: %w", err)
	}
	c, err := s.enter(r)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write([]byte{'s'}); err != nil {
		return nil, fmt.Errorf("tell that the bundle is served: %w", err)
	}
	return &taker{c, l}, nil
}

// enter makes this process the shim of a bundle in all but its socket.
func (s *spareShim) enter(r takeRequest) (*call, error) {
	c := &call{
		cfg: s.call.cfg, began: time.Unix(0, r.Began), namespace: r.Namespace, id: r.ID,
		socket: r.Socket, bundle: r.Bundle, address: r.Address, debug: r.Debug,
	}
	if err := os.Chdir(r.Bundle); err != nil {
		return nil, fmt.Errorf("enter bundle: %w", err)
	}
	if err := os.Setenv("TTRPC_ADDRESS", r.Events); err != nil {
		return nil, err
	}
	out, err := openLogOutput(r.Bundle)
	if err != nil {
		return nil, err
	}
	if err := markShim(r.Bundle); err != nil {
		return nil, fmt.Errorf("mark bundle: %w", err)
	}
	s.output.turn(out)
	if r.Debug {
		s.level.Set(slog.LevelDebug)
	}
	return c, nil
}

// serveTaken is serve for a shim that was a spare one.
func (s *spareShim) serveTaken(ctx context.Context, t *taker) error {
	log := s.log.With("namespace", t.call.namespace)
	return t.call.answerCalls(ctx, log, s.signals, t.l, s.machine)
}
