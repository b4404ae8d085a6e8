// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/moby/moby/api/types"

	"byre.dev/byre/internal/engine"
	"byre.dev/byre/internal/engine/stream"
)

// duplex is a connection taken over from HTTP.
type duplex struct {
	net.Conn
	// in holds what the client sent behind its request.
	in *bufio.Reader
}

// hijack takes the connection over and tells the client that its streams
// begin. Frames tells whether output comes in frames.
func hijack(w http.ResponseWriter, r *call, frames bool) (*duplex, error) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("take over connection: %w", err)
	}
	// The server may have left deadlines on it.
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	kind := types.MediaTypeRawStream
	head := "HTTP/1.1 200 OK\r\nContent-Type: %s\r\n\r\n"
	if r.Header.Get("Upgrade") != "" {
		head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: %s\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
		if frames && !r.before("1.42") {
			kind = types.MediaTypeMultiplexedStream
		}
	}
	if _, err := fmt.Fprintf(conn, head, kind); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &duplex{Conn: conn, in: rw.Reader}, nil
}

// frameWriter writes output as Docker's clients read it: in frames with an
// eight-byte header, or as it is for a terminal.
type frameWriter struct {
	w      io.Writer
	frames bool
}

func (f frameWriter) write(kind stream.Kind, p []byte) error {
	if !f.frames {
		_, err := f.w.Write(p)
		return err
	}
	header := [8]byte{0: byte(kind)}
	binary.BigEndian.PutUint32(header[4:], uint32(len(p)))
	buffers := net.Buffers{header[:], p}
	_, err := buffers.WriteTo(f.w)
	return err
}

// carry moves bytes between a client and a process until the process's output
// ends, the client goes, or its detach keys are typed. It closes the
// connection and returns when nothing of it runs on.
func (a *api) carry(ctx context.Context, conn *duplex, at *engine.Attachment, frames bool) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var input sync.WaitGroup
	input.Go(func() {
		// The end of the input leaves the output alone: clients close their
		// half and go on reading.
		err := at.CopyStdin(conn.in)
		if errors.Is(err, stream.ErrDetached) {
			cancel(err)
		}
	})
	out := frameWriter{w: conn, frames: frames}
	err := copyOutput(ctx, at, out)
	if err != nil && !errors.Is(err, stream.ErrDetached) {
		a.log.Debug("client's output ended", "err", err)
	}
	at.Close()
	// Ends the input's read.
	closeConn(conn)
	input.Wait()
}

func copyOutput(ctx context.Context, at *engine.Attachment, out frameWriter) error {
	for {
		chunk, err := at.Client.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := out.write(chunk.Kind, chunk.Data); err != nil {
			return err
		}
	}
}

// closeConn ends the sending half first, so that the client reads everything.
func closeConn(conn *duplex) {
	if half, ok := conn.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_ = conn.Close()
}
