// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/moby/moby/api/types/container"

	"byre.dev/byre/internal/engine"
	"byre.dev/byre/internal/engine/request"
	"byre.dev/byre/internal/engine/stream"
)

func (a *api) execCreate(w http.ResponseWriter, r *call) error {
	var req container.ExecCreateRequest
	if err := r.request(request.ExecCreate(), &req, false); err != nil {
		return err
	}
	if r.before("1.42") {
		req.ConsoleSize = nil
	}
	id, err := a.engine.ExecCreate(r.Context(), r.name(), req)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, container.ExecCreateResponse{ID: id})
}

// execStart starts an exec. When its streams are carried, the connection is
// taken over before the process starts, and a failure to start is the last
// thing that the client reads, as in dockerd.
func (a *api) execStart(w http.ResponseWriter, r *call) error {
	var req container.ExecStartRequest
	if err := r.request(request.ExecStart(), &req, true); err != nil {
		return err
	}
	if r.before("1.42") {
		req.ConsoleSize = nil
	}
	s, err := a.engine.ExecStart(r.Context(), r.name(), req)
	if errors.Is(err, engine.ErrExecStarted) && !req.Detach {
		// As dockerd answers, whose clients start what they have attached to.
		return a.tellExec(w, r, !req.Tty, err)
	}
	if err != nil {
		return err
	}
	if s.Attachment == nil {
		if err := s.Started(r.Context()); err != nil {
			return err
		}
		w.WriteHeader(http.StatusOK)
		return nil
	}
	defer s.Close()
	// What the start says counts, not what the exec was made with.
	frames := !req.Tty
	conn, err := hijack(w, r, frames)
	if err != nil {
		return err
	}
	ctx := context.WithoutCancel(r.Context())
	if err := s.Started(ctx); err != nil {
		a.tell(conn, frames, err)
		return nil
	}
	a.carry(ctx, conn, s.Attachment, frames)
	return nil
}

// tellExec answers with an exec's streams that say why there are none.
func (a *api) tellExec(w http.ResponseWriter, r *call, frames bool, why error) error {
	conn, err := hijack(w, r, frames)
	if err != nil {
		return err
	}
	a.tell(conn, frames, why)
	return nil
}

// tell writes an error to a stream and ends it.
func (a *api) tell(conn *duplex, frames bool, why error) {
	out := frameWriter{w: conn, frames: frames}
	if err := out.write(stream.Stderr, []byte(why.Error()+"\r\n")); err != nil {
		a.log.Debug("error not delivered", "err", err)
	}
	closeConn(conn)
}

func (a *api) execInspect(w http.ResponseWriter, r *call) error {
	resp, err := a.engine.ExecInspect(r.name())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, resp)
}

func (a *api) execResize(w http.ResponseWriter, r *call) error {
	height, width, err := r.size()
	if err != nil {
		return err
	}
	return a.engine.ExecResize(r.Context(), r.name(), height, width)
}
