// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/localsock"
	"byre.dev/byre/internal/mux"
)

// SocketSpec is a socket of the host that a container may connect to: of the
// daemon's own door that a bind mount names, and of nothing else.
type SocketSpec struct {
	// Index numbers the container's sockets from 0.
	Index int
	// Source is the socket, as localsock takes it; Dest the mount's place in
	// the container.
	Source, Dest string
}

// socketPath is where a container's socket is in the guest. It fits a socket's
// address for every ID that containerd takes.
func socketPath(id string, index int) string {
	return fmt.Sprintf("%s/sockets/%d", guestapi.ContainerDir(id), index)
}

const (
	// maxSocketStreams bounds the connections that a guest may hold open to
	// sockets of the host.
	maxSocketStreams = 256
	// socketWait bounds the connecting to a socket of the host.
	socketWait = 10 * time.Second
)

// socketTable knows the sockets that the guest was given, by the opaque names
// that it knows them by.
type socketTable struct {
	mu sync.Mutex
	// The rest is guarded by mu.
	byName  map[string]*hostSocket
	next    int
	serving bool
}

// hostSocket is one of them; end ends its connections.
type hostSocket struct {
	source string
	gone   context.Context //nolint:containedctx // the life of its connections, not of a call
	end    context.CancelFunc
}

// attachSockets offers sockets to the guest and returns what it is to make of
// them. The caller holds setup.
func (c *Container) attachSockets(specs []SocketSpec) ([]*guestapi.Mount, error) {
	var mounts []*guestapi.Mount
	for _, sp := range specs {
		name, err := c.sandbox.openSocket(sp.Source)
		if err != nil {
			return nil, fmt.Errorf("socket %s for %s: %w", sp.Source, sp.Dest, err)
		}
		c.sockets = append(c.sockets, name)
		mounts = append(mounts, &guestapi.Mount{
			Target: socketPath(c.id, sp.Index),
			Source: &guestapi.Mount_Socket{Socket: &guestapi.Socket{Name: name}},
		})
	}
	return mounts, nil
}

// releaseSockets takes the container's sockets away from the guest, with the
// connections to them. The caller holds setup.
func (c *Container) releaseSockets() {
	t := &c.sandbox.sockets
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range c.sockets {
		if sock := t.byName[name]; sock != nil {
			sock.end()
			delete(t.byName, name)
		}
	}
	c.sockets = nil
}

// openSocket names a socket for the guest. The first has the port listened on:
// a machine that was given none can open no stream to it.
func (s *Sandbox) openSocket(source string) (string, error) {
	t := &s.sockets
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.serving {
		if err := s.serveStreams(s.working, guestapi.PortSocket, maxSocketStreams, s.serveSocket); err != nil {
			return "", err
		}
		t.serving = true
		t.byName = map[string]*hostSocket{}
	}
	name := fmt.Sprintf("k%d", t.next)
	t.next++
	sock := &hostSocket{source: source}
	sock.gone, sock.end = context.WithCancel(s.working)
	t.byName[name] = sock
	return name, nil
}

func (t *socketTable) find(name string) (*hostSocket, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if sock := t.byName[name]; sock != nil {
		return sock, nil
	}
	return nil, errors.New("there is no such socket")
}

// serveSocket connects a stream of the guest's with the socket that it names.
func (s *Sandbox) serveSocket(ctx context.Context, conn net.Conn) {
	p, err := s.admit(conn, guestapi.PortSocket)
	if err != nil {
		return
	}
	sock, err := s.sockets.find(p.Name)
	if err != nil {
		s.refuse(conn, err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, socketWait)
	defer cancel()
	target, err := localsock.Dial(ctx, sock.source)
	if err != nil {
		// The guest is told that, not why: the host's paths are not its own.
		s.log.Warn("socket not reached", "socket", sock.source, "err", err)
		s.refuse(conn, errors.New("nobody answers behind the socket"))
		return
	}
	if err := accept(conn); err != nil {
		_ = target.Close()
		return
	}
	defer context.AfterFunc(sock.gone, func() {
		_ = conn.Close()
		_ = target.Close()
	})()
	mux.Join(conn, target)
}
