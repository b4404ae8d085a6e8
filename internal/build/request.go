// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"time"

	"github.com/containerd/errdefs"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/identity"
	bksession "github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/upload/uploadprovider"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
)

// uploadRequest is what a client calls a context that it sends by a request of
// its own.
const uploadRequest = "upload-request"

// Request is one build, as /build asks for it.
type Request struct {
	// Trace sends BuildKit's own progress; else it is told in lines, as
	// docker's first builder did.
	Trace bool
	// Quiet leaves the lines out, but for the image's ID.
	Quiet bool
	// Session is the client's; "" where it has none.
	Session string
	// ID is the client's name for the build, by which it is canceled.
	ID string
	// Remote is the context: a URL, uploadRequest, or "" for Context.
	Remote string
	// Context is a tar.
	Context io.Reader
	// Attrs are the Dockerfile frontend's.
	Attrs map[string]string
	// Output is where the result goes; nil leaves it in the cache.
	Output *Output
	// Entitlements are what the build is allowed beside the usual.
	Entitlements []string
	// InlineCache puts what the cache needs into the image.
	InlineCache bool
	// Auth has the credentials for registries, by their names.
	Auth map[string]registry.AuthConfig
}

// Output is an exporter of BuildKit's, by its name and attributes.
type Output struct {
	Type  string
	Attrs map[string]string
}

// Progress receives the messages of a build.
type Progress func(jsonstream.Message)

// Build builds, and returns when the result is where it was to go.
func (s *Service) Build(ctx context.Context, req Request, progress Progress) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	j, err := s.addJob(req.ID, cancel)
	if err != nil {
		return err
	}
	defer s.removeJob(req.ID, j)
	defer j.finish()
	if req.Remote == uploadRequest {
		if req.Context, err = j.awaitUpload(ctx); err != nil {
			return err
		}
		req.Remote = ""
	}
	return s.withSession(ctx, req, func(ctx context.Context, msg *controlapi.SolveRequest) error {
		return s.run(ctx, req, msg, progress)
	})
}

// withSession gives the build a session: the client's, or one of this process
// that has the context and the credentials.
func (s *Service) withSession(ctx context.Context, req Request, do func(context.Context, *controlapi.SolveRequest) error) error {
	msg := req.message()
	if req.Session != "" && req.Context == nil {
		return do(ctx, msg)
	}
	if req.Session != "" {
		return errdefs.ErrInvalidArgument.WithMessage("byre does not support a context in the body of a build that has a session")
	}
	own, err := bksession.NewSession(ctx, "")
	if err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	own.Allow(&credentials{auth: req.Auth})
	msg.Session = own.ID()
	if req.Remote == "" {
		uploads := uploadprovider.New()
		own.Allow(uploads)
		msg.FrontendAttrs["context"] = uploads.Add(io.NopCloser(req.Context))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var work errgroup.Group
	work.Go(func() error {
		return own.Run(ctx, func(_ context.Context, _ string, meta map[string][]string) (net.Conn, error) {
			here, there := net.Pipe()
			work.Go(func() error { return s.ServeSession(ctx, there, meta) })
			return here, nil
		})
	})
	err = do(ctx, msg)
	cancel()
	if served := work.Wait(); err == nil || served != nil && !errors.Is(served, context.Canceled) {
		return errors.Join(served, err)
	}
	return err
}

// message is the build in BuildKit's words.
func (r Request) message() *controlapi.SolveRequest {
	msg := &controlapi.SolveRequest{
		Ref: identity.NewID(), Session: r.Session, Frontend: "dockerfile.v0",
		FrontendAttrs: map[string]string{}, Cache: &controlapi.CacheOptions{}, Entitlements: r.Entitlements,
	}
	maps.Copy(msg.FrontendAttrs, r.Attrs)
	if r.Remote != "" && r.Remote != "client-session" {
		msg.FrontendAttrs["context"] = r.Remote
	}
	if r.InlineCache {
		msg.Cache.Exports = []*controlapi.CacheOptionsEntry{{Type: "inline"}}
	}
	if r.Output != nil {
		msg.Exporters = []*controlapi.Exporter{{Type: r.Output.Type, Attrs: r.Output.Attrs}}
	}
	return msg
}

// statusLimit is how long the progress may go on after a build's end.
const statusLimit = 5 * time.Second

// run solves and tells of it.
func (s *Service) run(ctx context.Context, req Request, msg *controlapi.SolveRequest, progress Progress) error {
	builder, err := s.builder(ctx)
	if err != nil {
		return err
	}
	defer builder.Close()
	// The builder waits but seconds for a build that is asked after.
	if _, err := s.session(ctx, msg.Session); err != nil {
		return err
	}
	out := newOutput(req, progress)
	var work errgroup.Group
	telling, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	work.Go(func() error { return follow(telling, builder, msg.Ref, out) })
	resp, err := s.solve(ctx, builder, msg)
	// What was done is told to its end, but not for long.
	limit := time.AfterFunc(statusLimit, stop)
	defer limit.Stop()
	if told := work.Wait(); told != nil {
		s.log.Debug("progress of a build ended", "err", told)
	}
	if err != nil {
		return out.failed(err)
	}
	return out.done(resp.ExporterResponse[exptypes.ExporterImageDigestKey])
}

// follow carries a build's progress until it has ended.
func follow(ctx context.Context, builder *grpc.ClientConn, ref string, out output) error {
	stream, err := controlapi.NewControlClient(builder).Status(ctx, &controlapi.StatusRequest{Ref: ref})
	if err != nil {
		return err
	}
	for {
		st, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := out.status(st); err != nil {
			return err
		}
	}
}

// aux is a message with a document.
func aux(id string, v any) (jsonstream.Message, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return jsonstream.Message{}, err
	}
	m := json.RawMessage(raw)
	return jsonstream.Message{ID: id, Aux: &m}, nil
}
