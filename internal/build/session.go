// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	"github.com/containerd/containerd/v2/plugins/services/content/contentserver"
	"github.com/containerd/errdefs"
	controlapi "github.com/moby/buildkit/api/services/control"
	sessioncontent "github.com/moby/buildkit/session/content"
	"github.com/moby/buildkit/session/grpchijack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"byre.dev/byre/internal/engine/image"
)

const (
	// maxSessions bounds the sessions at one time.
	maxSessions = 128
	// maxMethods bounds the methods that a client offers in one.
	maxMethods = 512
	// sessionWait is how long a build waits for the session it names, which
	// clients open beside it.
	sessionWait = 20 * time.Second
	// sessionHeaders starts the names of the headers that describe a session.
	sessionHeaders = "x-docker-expose-session-"
	// exportStore is what BuildKit calls the content store that it exports to.
	exportStore = "export"
)

// session is a client's session and its twin towards the builder.
type session struct {
	id     string
	client *grpc.ClientConn
	// ready is closed once the builder has been told of the session.
	ready chan struct{}
	// gone is closed when either side has ended.
	gone chan struct{}

	// mu guards ingest, which is where images of running builds go, and users,
	// which counts those builds.
	mu     sync.Mutex
	ingest *image.Ingest
	users  int
}

// ServeSession serves a client's session on its connection, and closes it. It
// returns when the session has ended. Headers are those of the request that
// opened it.
func (s *Service) ServeSession(ctx context.Context, conn net.Conn, headers map[string][]string) error {
	meta, id, err := sessionMeta(headers)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	defer leave()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	se := &session{id: id, ready: make(chan struct{}), gone: make(chan struct{})}
	end := sync.OnceFunc(func() {
		close(se.gone)
		cancel()
	})
	if se.client, err = clientOver(watch(conn, end)); err != nil {
		return err
	}
	defer se.client.Close()
	if err := s.addSession(se); err != nil {
		return err
	}
	defer s.removeSession(se)
	defer end()
	// Reads from now on, so that the client's end is noticed.
	se.client.Connect()
	return s.twin(ctx, se, meta)
}

// twin offers a session to the builder and serves it until either side ends.
func (s *Service) twin(ctx context.Context, se *session, meta map[string][]string) error {
	builder, err := s.builder(ctx)
	if err != nil {
		return err
	}
	defer builder.Close()
	conn, err := grpchijack.Dialer(controlapi.NewControlClient(builder))(ctx, "h2c", meta)
	if err != nil {
		return fmt.Errorf("offer session to the builder: %w", err)
	}
	close(se.ready)
	serveOver(ctx, newServer(se.serve), conn)
	return nil
}

// sessionMeta takes from a request's headers what describes the session.
func sessionMeta(headers map[string][]string) (meta map[string][]string, id string, err error) {
	meta = map[string][]string{}
	size := 0
	for k, values := range headers {
		k = strings.ToLower(k)
		if !strings.HasPrefix(k, sessionHeaders) && k != "x-buildkit-session-health-custom-timeout" {
			continue
		}
		meta[k] = values
		for _, v := range values {
			size += len(k) + len(v)
		}
	}
	if v := meta[sessionHeaders+"uuid"]; len(v) == 1 {
		id = v[0]
	}
	switch {
	case id == "" || len(id) > 128 || strings.Contains(id, ":"):
		return nil, "", errdefs.ErrInvalidArgument.WithMessage("a session needs an ID of at most 128 characters in the header X-Docker-Expose-Session-Uuid")
	case len(meta[sessionHeaders+"grpc-method"]) > maxMethods || size > maxHeader:
		return nil, "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("session %s is described by more than %d methods or %d bytes", id, maxMethods, maxHeader))
	}
	return meta, id, nil
}

func (s *Service) addSession(se *session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[se.id] != nil {
		return errdefs.ErrConflict.WithMessage("session " + se.id + " exists already")
	}
	if len(s.sessions) >= maxSessions {
		return errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("%d build sessions are open, try again when one has ended", maxSessions))
	}
	s.sessions[se.id] = se
	close(s.arrived)
	s.arrived = make(chan struct{})
	return nil
}

func (s *Service) removeSession(se *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, se.id)
}

// session waits for a session that a build names.
func (s *Service) session(ctx context.Context, id string) (*session, error) {
	// A prefix tells contexts of one session apart.
	if _, rest, ok := strings.Cut(id, ":"); ok && rest != "" {
		id = rest
	}
	wait, cancel := context.WithTimeout(ctx, sessionWait)
	defer cancel()
	for {
		s.mu.Lock()
		se, arrived := s.sessions[id], s.arrived
		s.mu.Unlock()
		if se != nil {
			select {
			case <-se.ready: // the builder's start takes its time, and ctx bounds it
				return se, nil
			case <-se.gone:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			return nil, errdefs.ErrFailedPrecondition.WithMessage("the client's session " + id + " has ended")
		}
		select {
		case <-arrived:
		case <-wait.Done():
			return nil, errdefs.ErrFailedPrecondition.WithMessage("no client has opened the session " + id + " that the build names")
		}
	}
}

// serve answers a call of the builder's: from the image store if it exports an
// image there, else by the client.
func (se *session) serve(_ any, in grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(in)
	if strings.HasPrefix(method, "/"+contentapi.Content_ServiceDesc.ServiceName+"/") && storeID(in.Context()) == exportStore {
		if ingest := se.exporting(); ingest != nil {
			return serveLocal(&contentapi.Content_ServiceDesc, contentserver.New(ingest.Content()), method, in)
		}
	}
	return forward(in, se.client, method)
}

func storeID(ctx context.Context) string {
	if v := metadata.ValueFromIncomingContext(ctx, sessioncontent.GRPCHeaderID); len(v) == 1 {
		return v[0]
	}
	return ""
}

func (se *session) exporting() *image.Ingest {
	se.mu.Lock()
	defer se.mu.Unlock()
	return se.ingest
}

// export lets the builder write to the image store through the session, until
// release is called.
func (se *session) export(ctx context.Context, images *image.Store) (in *image.Ingest, release func() error, err error) {
	se.mu.Lock()
	defer se.mu.Unlock()
	if se.ingest == nil {
		if se.ingest, err = images.Ingest(ctx); err != nil {
			return nil, nil, err
		}
	}
	se.users++
	in = se.ingest
	return in, func() error {
		se.mu.Lock()
		defer se.mu.Unlock()
		if se.users--; se.users > 0 {
			return nil
		}
		se.ingest = nil
		return in.Close()
	}, nil
}
