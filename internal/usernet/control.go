// SPDX-License-Identifier: Apache-2.0

package usernet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/containerd/errdefs"
)

// Version is the version of the control protocol. A daemon and a network
// process of different versions refuse each other.
const Version = 1

// maxBody bounds a request and an answer of the control protocol.
const maxBody = 4 << 20

// Info is what a network's process says of itself.
type Info struct {
	// Version is the process's version of the control protocol.
	Version int
	// PID is the process.
	PID int
	// Config is the network's, defaults filled in.
	Config Config
	// Endpoints are those that exist, by address.
	Endpoints []Endpoint
	// Dropped counts the frames that were not passed on: refused to their
	// sender, for nobody, or for a NIC that did not read.
	Dropped uint64
}

// Info describes the switch and its endpoints.
func (s *Switch) Info() Info {
	return Info{
		Version:   Version,
		PID:       os.Getpid(),
		Config:    s.cfg,
		Endpoints: s.Endpoints(),
		Dropped:   s.dropped.Load(),
	}
}

// controlHandler serves the control protocol: HTTP with JSON bodies.
//
//	GET    /v1/info             Info
//	POST   /v1/endpoints        Endpoint → Endpoint
//	DELETE /v1/endpoints/{id}
//	PUT    /v1/endpoints/{id}/names   []string
//	PUT    /v1/endpoints/{id}/peers   []string
//	POST   /v1/endpoints/{id}/ports   []PortMapping → []PortMapping
//	POST   /v1/resolve          string → resolution
//	POST   /v1/hold             held until the connection ends
//	POST   /v1/stop
func controlHandler(s *Switch, stop func()) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/info", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, s.Info(), nil)
	})
	mux.HandleFunc("POST /v1/endpoints", func(w http.ResponseWriter, r *http.Request) {
		var spec Endpoint
		if err := readRequest(r.Body, &spec); err != nil {
			reply(w, nil, err)
			return
		}
		ep, err := s.AddEndpoint(spec)
		reply(w, ep, err)
	})
	mux.HandleFunc("DELETE /v1/endpoints/{id}", func(w http.ResponseWriter, r *http.Request) {
		reply(w, struct{}{}, s.RemoveEndpoint(r.PathValue("id")))
	})
	mux.HandleFunc("PUT /v1/endpoints/{id}/names", setList(s.SetNames))
	mux.HandleFunc("PUT /v1/endpoints/{id}/peers", setList(s.SetPeers))
	mux.HandleFunc("POST /v1/endpoints/{id}/ports", func(w http.ResponseWriter, r *http.Request) {
		var ports []PortMapping
		if err := readRequest(r.Body, &ports); err != nil {
			reply(w, nil, err)
			return
		}
		got, err := s.PublishPorts(r.PathValue("id"), ports)
		reply(w, got, err)
	})
	mux.HandleFunc("POST /v1/resolve", func(w http.ResponseWriter, r *http.Request) {
		var name string
		if err := readRequest(r.Body, &name); err != nil {
			reply(w, nil, err)
			return
		}
		reply(w, s.resolve(name), nil)
	})
	mux.HandleFunc("POST /v1/hold", s.hold)
	mux.HandleFunc("POST /v1/stop", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, struct{}{}, nil)
		stop()
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.use()
		mux.ServeHTTP(w, r)
	})
}

// setList serves a request that replaces a list of an endpoint's.
func setList(set func(id string, list []string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var list []string
		err := readRequest(r.Body, &list)
		if err == nil {
			err = set(r.PathValue("id"), list)
		}
		reply(w, struct{}{}, err)
	}
}

// use puts off the idle exit.
func (s *Switch) use() {
	s.mu.Lock()
	s.lastUsed = time.Now()
	s.mu.Unlock()
}

// idle returns how long the switch had no NIC and nothing to do, and whether a
// NIC is attached.
func (s *Switch) idle() (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	attached := false
	for _, ep := range s.endpoints {
		attached = attached || ep.port.connected()
	}
	if attached {
		s.lastUsed = time.Now()
	}
	return time.Since(s.lastUsed), attached
}

// hold counts its client as one that holds the network until either closes the
// connection.
func (s *Switch) hold(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		reply(w, nil, err)
		return
	}
	defer conn.Close()
	if !s.addHolder(conn) {
		return
	}
	defer s.removeHolder(conn)
	// The server's time limits are not those of a connection that is taken over.
	err = conn.SetDeadline(time.Time{})
	if err == nil {
		_, err = io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
	}
	if err == nil {
		_, _ = io.Copy(io.Discard, conn)
	}
}

func (s *Switch) addHolder(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.holders[conn] = struct{}{}
	s.holding.Add(1)
	return true
}

func (s *Switch) removeHolder(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.holders, conn)
	s.lastUsed = time.Now()
	s.holding.Done()
}

// failure is an error on the wire.
type failure struct {
	Message string
	// Class names what the error is; see classes.
	Class string
}

// classes are the errors that keep their identity across the control socket,
// the more special first.
func classes() []struct {
	name   string
	status int
	err    error
} {
	return []struct {
		name   string
		status int
		err    error
	}{
		{"port-in-use", http.StatusConflict, ErrPortInUse},
		{"invalid-argument", http.StatusBadRequest, errdefs.ErrInvalidArgument},
		{"not-found", http.StatusNotFound, errdefs.ErrNotFound},
		{"already-exists", http.StatusConflict, errdefs.ErrAlreadyExists},
		{"permission-denied", http.StatusForbidden, errdefs.ErrPermissionDenied},
		{"resource-exhausted", http.StatusTooManyRequests, errdefs.ErrResourceExhausted},
		{"unavailable", http.StatusServiceUnavailable, errdefs.ErrUnavailable},
	}
}

// reply writes a result or an error.
func reply(w http.ResponseWriter, result any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		f, status := failure{Message: err.Error()}, http.StatusInternalServerError
		for _, c := range classes() {
			if errors.Is(err, c.err) {
				f.Class, status = c.name, c.status
				break
			}
		}
		w.WriteHeader(status)
		result = f
	}
	// A client that is gone gets no answer.
	_ = json.NewEncoder(w).Encode(result)
}

// asError is the error that a failure was made from, as far as it matters.
func (f failure) asError() error {
	for _, c := range classes() {
		if c.name == f.Class {
			return &remoteError{f.Message, c.err}
		}
	}
	return &remoteError{f.Message, errdefs.ErrUnknown}
}

// remoteError has the text of the other side and the class of this one.
type remoteError struct {
	message string
	class   error
}

// Error returns the text as it was on the other side.
func (e *remoteError) Error() string { return e.message }

// Unwrap returns the class.
func (e *remoteError) Unwrap() error { return e.class }

// readRequest decodes a request's body. A field that is not known is an error:
// nothing that is asked for is ignored.
func readRequest(body io.Reader, v any) error { return decode(body, v, true) }

// readAnswer decodes an answer's body, which may come from a later version.
func readAnswer(body io.Reader, v any) error { return decode(body, v, false) }

// decode decodes a body of bounded length.
func decode(body io.Reader, v any, strict bool) error {
	limited := &io.LimitedReader{R: body, N: maxBody + 1}
	decoder := json.NewDecoder(limited)
	if strict {
		decoder.DisallowUnknownFields()
	}
	if err := decoder.Decode(v); err != nil {
		if limited.N == 0 {
			return fmt.Errorf("body of more than %d bytes: %w", maxBody, errdefs.ErrInvalidArgument)
		}
		return fmt.Errorf("body: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return nil
}

// control is the control socket of a switch.
type control struct {
	server *http.Server
	// done holds what Serve returned.
	done chan error
}

// serveControl serves the control protocol on path until close.
func serveControl(s *Switch, path string, stop func()) (*control, error) {
	l, err := listenUnix("unix", path)
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", s.cfg.Name, err)
	}
	c := &control{done: make(chan error, 1), server: &http.Server{
		Handler:           controlHandler(s, stop),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		MaxHeaderBytes:    16 << 10,
	}}
	// close waits for it.
	go func() { c.done <- c.server.Serve(l) }()
	return c, nil
}

// close lets the answers under way get out, for a bounded time.
func (c *control) close(ctx context.Context) error {
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	err := c.server.Shutdown(grace)
	if err != nil {
		err = c.server.Close()
	}
	if served := <-c.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
