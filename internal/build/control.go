// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"net"
	"net/http"

	"github.com/containerd/errdefs/pkg/errgrpc"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/session/grpchijack"
	"google.golang.org/grpc"
)

// ServeControl serves BuildKit's control API on a client's connection, and
// closes it. It returns when the connection, or ctx, has ended.
func (s *Service) ServeControl(ctx context.Context, conn net.Conn) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	defer leave()
	c := &control{service: s, dialing: make(chan struct{}, 1)}
	serveOver(ctx, newServer(c.serve), conn)
	c.close()
	return nil
}

// ServeCall serves one call of BuildKit's control API that came as a request of
// HTTP/2, as clients send it that do not ask for /grpc first. It returns when the
// call, or r's context, has ended; an error says that nothing was answered.
func (s *Service) ServeCall(w http.ResponseWriter, r *http.Request) error {
	ctx, leave, err := s.enter(r.Context())
	if err != nil {
		return err
	}
	defer leave()
	c := &control{service: s, dialing: make(chan struct{}, 1)}
	defer c.close()
	srv := newServer(c.serve)
	defer srv.Stop()
	srv.ServeHTTP(w, r.WithContext(ctx))
	return nil
}

// control is a client's connection to the builder. The builder is reached when
// the first call comes.
type control struct {
	service *Service
	// dialing holds a token while builder is looked at.
	dialing chan struct{}
	builder *grpc.ClientConn
}

// reach returns the connection to the builder.
func (c *control) reach(ctx context.Context) (*grpc.ClientConn, error) {
	select {
	case c.dialing <- struct{}{}:
		defer func() { <-c.dialing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c.builder == nil {
		cc, err := c.service.builder(ctx)
		if err != nil {
			return nil, err
		}
		c.builder = cc
	}
	return c.builder, nil
}

func (c *control) close() {
	if c.builder != nil {
		_ = c.builder.Close() // nothing of it is in use
	}
}

// serve carries a call to the builder. Sessions, and solves that export to the
// image store, are looked into.
func (c *control) serve(_ any, in grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(in)
	if method == controlapi.Control_Session_FullMethodName {
		stream := &grpc.GenericServerStream[controlapi.BytesMessage, controlapi.BytesMessage]{ServerStream: in}
		conn, _, headers := grpchijack.Hijack(stream)
		return errgrpc.ToGRPC(c.service.ServeSession(in.Context(), conn, headers))
	}
	if c.service.nothingBuilt() {
		// No builder is started to say that there is nothing.
		switch method {
		case controlapi.Control_DiskUsage_FullMethodName:
			if err := in.RecvMsg(&controlapi.DiskUsageRequest{}); err != nil {
				return err
			}
			return in.SendMsg(&controlapi.DiskUsageResponse{})
		case controlapi.Control_Prune_FullMethodName:
			return in.RecvMsg(&controlapi.PruneRequest{})
		}
	}
	builder, err := c.reach(in.Context())
	if err != nil {
		return errgrpc.ToGRPC(err)
	}
	if method != controlapi.Control_Solve_FullMethodName {
		return forward(in, builder, method)
	}
	var req controlapi.SolveRequest
	if err := in.RecvMsg(&req); err != nil {
		return err
	}
	resp, err := c.service.solve(carryMetadata(in.Context()), builder, &req)
	if err != nil {
		return errgrpc.ToGRPC(err)
	}
	return in.SendMsg(resp)
}
