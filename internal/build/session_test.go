// SPDX-License-Identifier: Apache-2.0

package build_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/session"
	sessioncontent "github.com/moby/buildkit/session/content"
	"github.com/moby/buildkit/session/grpchijack"
	"github.com/moby/buildkit/session/secrets"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"byre.dev/byre/internal/build"
	"byre.dev/byre/internal/ctrd"
	"byre.dev/byre/internal/engine/event"
	"byre.dev/byre/internal/engine/image"
)

// controller is a builder made of BuildKit's own sessions: its solve asks the
// client for a secret and exports an image without layers to the session.
type controller struct {
	sessions *session.Manager
	dials    atomic.Int64
	listen   net.Listener
	// spoil changes what is sent of the manifest; nil leaves it.
	spoil func([]byte) []byte
}

func (c *controller) Dial(ctx context.Context) (net.Conn, error) {
	c.dials.Add(1)
	return (&net.Dialer{}).DialContext(ctx, "tcp", c.listen.Addr().String())
}
func (c *controller) Running() bool    { return false }
func (c *controller) DiskUsage() int64 { return 0 }

// control is the builder's API.
type control struct {
	controlapi.UnimplementedControlServer
	*controller
}

// DiskUsage is not asked for.
func (c control) DiskUsage(context.Context, *controlapi.DiskUsageRequest) (*controlapi.DiskUsageResponse, error) {
	return nil, errors.New("a builder that does not run was asked")
}

func (c control) Session(stream controlapi.Control_SessionServer) error {
	conn, closed, opts := grpchijack.Hijack(stream)
	ctx, cancel := context.WithCancel(stream.Context())
	go func() { // ends with the stream
		<-closed
		cancel()
	}()
	return c.sessions.HandleConn(ctx, conn, opts)
}

func (c control) Solve(ctx context.Context, req *controlapi.SolveRequest) (*controlapi.SolveResponse, error) {
	caller, err := c.sessions.Get(ctx, req.Session, false)
	if err != nil {
		return nil, err
	}
	secret, err := secrets.GetSecret(ctx, caller, "word")
	if err != nil {
		return nil, err
	}
	resp := &controlapi.SolveResponse{ExporterResponse: map[string]string{"secret": string(secret), "exporter": req.Exporters[0].Type}}
	if req.Exporters[0].Type != "oci" {
		return resp, nil
	}
	store := sessioncontent.NewCallerStore(caller, "export")
	config := []byte(`{"architecture":"riscv64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{}}`)
	configDesc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}
	manifest := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: configDesc, Layers: []ocispec.Descriptor{}}
	manifest.SchemaVersion = 2
	raw, err := json.Marshal(manifest)
	if err != nil {
		return nil, err
	}
	desc := ocispec.Descriptor{MediaType: manifest.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if c.spoil != nil {
		raw = c.spoil(raw)
	}
	for d, b := range map[*ocispec.Descriptor][]byte{&configDesc: config, &desc: raw} {
		if err := content.WriteBlob(ctx, store, "w-"+d.Digest.String(), bytes.NewReader(b), *d); err != nil {
			return nil, err
		}
	}
	if _, err := content.ReadBlob(ctx, store, desc); err == nil {
		return nil, errors.New("a builder reads the image store")
	}
	described, err := json.Marshal(desc)
	if err != nil {
		return nil, err
	}
	resp.ExporterResponse["containerimage.descriptor"] = base64.StdEncoding.EncodeToString(described)
	return resp, nil
}

// word is a client's only secret.
type word string

func (w word) Register(srv *grpc.Server) { secrets.RegisterSecretsServer(srv, w) }

func (w word) GetSecret(context.Context, *secrets.GetSecretRequest) (*secrets.GetSecretResponse, error) {
	return &secrets.GetSecretResponse{Data: []byte(w)}, nil
}

// world is a service between a client and a builder.
type world struct {
	*controller
	service *build.Service
	images  *image.Store
	ctx     context.Context
	work    errgroup.Group
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := storeDir(t)
	template := filepath.Join(dir, "template")
	if err := os.WriteFile(template, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	srv, err := ctrd.Start(t.Context(), ctrd.Config{Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state"), Template: template})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Close() })
	w := &world{controller: &controller{}, ctx: namespaces.WithNamespace(t.Context(), ctrd.Namespace)}
	w.images = image.New(image.Config{
		Client: srv.Client(), Snapshotter: "byre", Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		Events: new(event.Broker), Uses: func() []image.Use { return nil },
	})
	if w.sessions, err = session.NewManager(); err != nil {
		t.Fatal(err)
	}
	if w.listen, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	builder := grpc.NewServer()
	controlapi.RegisterControlServer(builder, control{controller: w.controller})
	w.work.Go(func() error { return builder.Serve(w.listen) })
	w.service = build.New(build.Config{Builder: w.controller, Images: w.images})
	t.Cleanup(func() {
		if err := w.service.Close(); err != nil {
			t.Error(err)
		}
		builder.Stop()
		_ = w.work.Wait() // says that what was served has ended
	})
	return w
}

// storeDir is a directory for containerd, which ends writes that were broken
// off in its own time: it is removed when that is done.
func storeDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "byre-build-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for limit := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if err := os.RemoveAll(dir); err == nil {
				return
			} else if time.Now().After(limit) {
				t.Error(err)
				return
			}
		}
	})
	return dir
}

// client opens a session and returns a control client beside it.
func (w *world) client(t *testing.T) (controlapi.ControlClient, string) {
	t.Helper()
	id := w.open(t)
	here, there := net.Pipe()
	w.work.Go(func() error { return w.service.ServeControl(context.WithoutCancel(w.ctx), there) })
	return controlOver(t, func(context.Context, string) (net.Conn, error) { return here, nil }), id
}

// open opens a session with a secret and returns its ID.
func (w *world) open(t *testing.T) string {
	t.Helper()
	s, err := session.NewSession(w.ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	s.Allow(word("sesame"))
	w.work.Go(func() error {
		return s.Run(context.WithoutCancel(w.ctx), func(_ context.Context, _ string, meta map[string][]string) (net.Conn, error) {
			here, there := net.Pipe()
			w.work.Go(func() error { return w.service.ServeSession(context.WithoutCancel(w.ctx), there, meta) })
			return here, nil
		})
	})
	t.Cleanup(func() { _ = s.Close() })
	return s.ID()
}

func controlOver(t *testing.T, dial func(context.Context, string) (net.Conn, error)) controlapi.ControlClient {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dial))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return controlapi.NewControlClient(cc)
}

func TestCallsThatComeOverHTTP2AreServed(t *testing.T) {
	w := newWorld(t)
	id := w.open(t)
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if err := w.service.ServeCall(rw, r.WithContext(namespaces.WithNamespace(r.Context(), ctrd.Namespace))); err != nil {
			t.Error(err)
		}
	}))
	front.Config.Protocols = new(http.Protocols)
	front.Config.Protocols.SetUnencryptedHTTP2(true)
	front.Start()
	t.Cleanup(front.Close)
	client := controlOver(t, func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", front.Listener.Addr().String())
	})
	for range 2 {
		resp, err := client.Solve(t.Context(), solveRequest(id, "moby", "over-http2:1"))
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.ExporterResponse["secret"]; got != "sesame" {
			t.Errorf("response %v, want the client's secret", resp.ExporterResponse)
		}
	}
	if _, err := w.images.Get(w.ctx, "over-http2:1"); err != nil {
		t.Error(err)
	}
}

func solveRequest(id, exporter string, names string) *controlapi.SolveRequest {
	return &controlapi.SolveRequest{Session: id, Exporters: []*controlapi.Exporter{{Type: exporter, Attrs: map[string]string{"name": names}}}}
}

func TestABuilderAsksTheClientAndExportsToTheImageStore(t *testing.T) {
	w := newWorld(t)
	client, id := w.client(t)
	resp, err := client.Solve(t.Context(), solveRequest(id, "moby", "a:1,b:2"))
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.ExporterResponse; got["secret"] != "sesame" || got["exporter"] != "oci" {
		t.Errorf("response %v, want the client's secret and an export by oci", got)
	}
	img, err := w.images.Get(w.ctx, "a:1")
	if err != nil {
		t.Fatal(err)
	}
	tags := img.Tags()
	slices.Sort(tags)
	if !slices.Equal(tags, []string{"a:1", "b:2"}) {
		t.Errorf("tags %q, want a:1 and b:2", tags)
	}
}

func TestAnExportOfTheClientsIsCarriedThrough(t *testing.T) {
	w := newWorld(t)
	client, id := w.client(t)
	resp, err := client.Solve(t.Context(), solveRequest(id, "local", ""))
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.ExporterResponse["exporter"]; got != "local" {
		t.Errorf("exporter %q, want local", got)
	}
}

func TestABlobThatIsNotWhatWasAnnouncedMakesNoImage(t *testing.T) {
	for name, spoil := range map[string]func([]byte) []byte{
		"changed": func(b []byte) []byte { return bytes.ToUpper(b) },
		"longer":  func(b []byte) []byte { return append(b, ' ') },
		"shorter": func(b []byte) []byte { return b[:len(b)-1] },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.spoil = spoil
			client, id := w.client(t)
			if _, err := client.Solve(t.Context(), solveRequest(id, "moby", "a:1")); err == nil {
				t.Error("the build has succeeded")
			}
			if _, err := w.images.Get(w.ctx, "a:1"); err == nil {
				t.Error("there is an image")
			}
		})
	}
}

func TestASessionThatNobodyOpenedIsAnErrorThatNamesIt(t *testing.T) {
	w := newWorld(t)
	client, id := w.client(t)
	if _, err := client.Solve(t.Context(), solveRequest(id, "moby", "")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	if _, err := client.Solve(ctx, solveRequest("nobody", "moby", "")); err == nil {
		t.Error("a build of an unknown session has succeeded")
	}
	_, err := client.Solve(t.Context(), solveRequest("", "moby", ""))
	if err == nil || !strings.Contains(err.Error(), "names none") {
		t.Errorf("error %v, want one that asks for a session", err)
	}
}

func TestUsageAndPruneOfNothingStartNoBuilder(t *testing.T) {
	w := newWorld(t)
	records, err := w.service.Usage(t.Context())
	if err != nil || len(records) > 0 {
		t.Errorf("usage %v, error %v", records, err)
	}
	if _, err := w.service.Prune(t.Context(), build.PruneRequest{All: true}); err != nil {
		t.Error(err)
	}
	if n := w.dials.Load(); n != 0 {
		t.Errorf("the builder was reached %d times", n)
	}
}
