// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/moby/moby/api/types/jsonstream"

	"byre.dev/byre/internal/build"
)

// writeJSON answers with a JSON document.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// done answers that something was done, without a body.
func done(w http.ResponseWriter) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// flushWriter sends everything at once. It is safe for concurrent use.
type flushWriter struct {
	mu sync.Mutex
	w  io.Writer
	rc *http.ResponseController
}

func newFlushWriter(w http.ResponseWriter) *flushWriter {
	return &flushWriter{w: w, rc: http.NewResponseController(w)}
}

func (f *flushWriter) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.w.Write(p)
	if err == nil {
		err = f.rc.Flush()
	}
	return n, err
}

// progressWriter sends the messages of a long operation. The answer starts with
// the first message: errors before it have a status of their own.
type progressWriter struct {
	w       http.ResponseWriter
	enc     *json.Encoder
	started bool
	mu      sync.Mutex
}

func newProgressWriter(w http.ResponseWriter) *progressWriter { return &progressWriter{w: w} }

// show sends a message; a client that has gone is noticed elsewhere.
func (p *progressWriter) show(m jsonstream.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.start()
	_ = p.enc.Encode(message{Message: m})
}

// start sends the header.
func (p *progressWriter) start() {
	if p.started {
		return
	}
	p.started = true
	p.w.Header().Set("Content-Type", "application/json")
	p.w.WriteHeader(http.StatusOK)
	p.enc = json.NewEncoder(newFlushWriter(p.w))
	p.enc.SetEscapeHTML(false)
}

// finish ends the operation: an error goes into the stream once it has begun.
func (p *progressWriter) finish(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil || !p.started {
		if err == nil {
			p.start()
		}
		return err
	}
	code := statusOf(err)
	if failed, ok := errors.AsType[*build.CommandError](err); ok {
		code = failed.Code
	}
	_ = p.enc.Encode(message{
		Message: jsonstream.Message{Error: &jsonstream.Error{Code: code, Message: err.Error()}},
		Error:   err.Error(),
	})
	return nil
}

// message is a message with the texts that clients of old look for.
type message struct {
	jsonstream.Message
	Error string `json:"error,omitempty"`
}
