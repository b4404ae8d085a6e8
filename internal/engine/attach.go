// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"io"

	"github.com/moby/moby/api/types/events"

	"byre.dev/byre/internal/engine/logs"
	"byre.dev/byre/internal/engine/stream"
)

// Attachment is a client's connection to the streams of a container or an
// exec. Close must be called.
type Attachment struct {
	// Terminal means that output is one stream, without frames.
	Terminal bool
	// Client gives the output.
	Client *stream.Client

	hub       *stream.Hub
	stdin     bool
	keys      []byte
	endStdin  func()
	onDetach  func()
	stdinOnce bool
}

// AttachOptions say what a client attaches to.
type AttachOptions struct {
	// Stdin, Stdout and Stderr are the streams wanted.
	Stdin, Stdout, Stderr bool
	// DetachKeys end the attachment when typed; "" means Docker's own.
	DetachKeys string
}

func (o AttachOptions) kinds() []stream.Kind {
	var kinds []stream.Kind
	if o.Stdout {
		kinds = append(kinds, stream.Stdout)
	}
	if o.Stderr {
		kinds = append(kinds, stream.Stderr)
	}
	return kinds
}

// Attach connects a client to a container that runs or is yet to be started.
func (e *Engine) Attach(ref string, opts AttachOptions) (*Attachment, error) {
	c, err := e.containers.get(ref)
	if err != nil {
		return nil, err
	}
	keys, err := stream.ParseKeys(opts.DetachKeys)
	if err != nil {
		return nil, err
	}
	r := c.snapshot()
	switch {
	case r.State.Paused:
		return nil, conflict("container %s is paused, unpause the container before attach", c.id)
	case r.State.Restarting:
		return nil, conflict("container %s is restarting, wait until the container is running", c.id)
	}
	hub, err := c.streams()
	if err != nil {
		return nil, err
	}
	a := &Attachment{
		Terminal: r.Config.Tty, Client: hub.Attach(opts.kinds()...), hub: hub,
		stdin: opts.Stdin && r.Config.OpenStdin, keys: keys, stdinOnce: r.Config.StdinOnce,
		endStdin: func() { e.endStdin(c, hub) },
		onDetach: func() { e.publish(c, events.ActionDetach, nil) },
	}
	e.publish(c, events.ActionAttach, nil)
	return a, nil
}

// endStdin ends a container's standard input, at once or when it has started.
func (e *Engine) endStdin(c *Container, hub *stream.Hub) {
	c.mu.Lock()
	ours := c.hub == hub
	started := c.current != nil
	if ours {
		c.stdinEnded = true
	}
	c.mu.Unlock()
	if ours && started {
		e.closeStdin(c)
	}
}

// CopyStdin gives a client's input to the process until the input ends or the
// detach keys are typed: then it returns stream.ErrDetached. The end of the
// input is the end of the process's when the container was made so.
func (a *Attachment) CopyStdin(r io.Reader) error {
	if !a.stdin {
		return nil
	}
	var keys []byte
	if a.Terminal {
		keys = a.keys
	}
	err := a.hub.CopyStdin(r, keys)
	switch {
	case errors.Is(err, stream.ErrDetached):
		a.onDetach()
	case a.stdinOnce && !a.Terminal:
		a.endStdin()
	}
	return err
}

// HasStdin says whether the client's input goes anywhere.
func (a *Attachment) HasStdin() bool { return a.stdin }

// Close ends the attachment.
func (a *Attachment) Close() { a.Client.Detach() }

// LogQuery selects what Logs gives.
type LogQuery struct {
	logs.Query
	// Stdout and Stderr are the streams wanted.
	Stdout, Stderr bool
}

// Log is a container's log, ready to be read.
type Log struct {
	// Terminal means that the entries are one stream.
	Terminal bool

	path  string
	live  *logs.File
	query LogQuery
}

// Logs finds a container's log.
func (e *Engine) Logs(ref string, q LogQuery) (*Log, error) {
	c, err := e.containers.get(ref)
	if err != nil {
		return nil, err
	}
	if !q.Stdout && !q.Stderr {
		return nil, invalid("Bad parameters: you must choose at least one stream")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rec.Host.LogConfig.Type == "none" {
		return nil, invalid("configured logging driver does not support reading")
	}
	return &Log{Terminal: c.rec.Config.Tty, path: c.logPath(), live: c.logFile, query: q}, nil
}

// Read gives the entries to emit, oldest first.
func (l *Log) Read(ctx context.Context, emit func(logs.Entry) error) error {
	wanted := func(entry logs.Entry) error {
		if entry.Stream == logs.Stdout && !l.query.Stdout || entry.Stream == logs.Stderr && !l.query.Stderr {
			return nil
		}
		return emit(entry)
	}
	if l.live != nil {
		return l.live.Read(ctx, l.query.Query, wanted)
	}
	return logs.Read(ctx, l.path, l.query.Query, wanted)
}
