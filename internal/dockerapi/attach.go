// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"context"
	"net/http"

	"byre.dev/byre/internal/engine"
	"byre.dev/byre/internal/engine/logs"
	"byre.dev/byre/internal/engine/stream"
)

// containersAttach connects the client to a container's streams, after what was
// logged so far if it asks for that.
func (a *api) containersAttach(w http.ResponseWriter, r *call) error {
	opts := engine.AttachOptions{DetachKeys: r.Form.Get("detachKeys")}
	streaming := r.flag("stream")
	opts.Stdout, opts.Stderr = r.flag("stdout"), r.flag("stderr")
	opts.Stdin = r.flag("stdin") && streaming
	at, err := a.engine.Attach(r.name(), opts)
	if err != nil {
		return err
	}
	defer at.Close()
	var past *engine.Log
	if r.flag("logs") {
		past, err = a.engine.Logs(r.name(), engine.LogQuery{
			Query: logs.Query{Tail: -1}, Stdout: opts.Stdout, Stderr: opts.Stderr,
		})
		if err != nil {
			return err
		}
	}
	conn, err := hijack(w, r, !at.Terminal)
	if err != nil {
		return err
	}
	// The server's context of a connection that was taken over does not end
	// with it.
	ctx := context.WithoutCancel(r.Context())
	if past != nil {
		out := frameWriter{w: conn, frames: !at.Terminal}
		if err := past.Read(ctx, func(e logs.Entry) error { return out.write(kindOf(e.Stream), e.Line) }); err != nil {
			a.log.Debug("client's output ended", "err", err)
		}
	}
	if !streaming {
		closeConn(conn)
		return nil
	}
	a.carry(ctx, conn, at, !at.Terminal)
	return nil
}

func kindOf(name string) stream.Kind {
	if name == logs.Stderr {
		return stream.Stderr
	}
	return stream.Stdout
}
